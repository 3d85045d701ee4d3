module slipway/toolchain/pause

go 1.26
