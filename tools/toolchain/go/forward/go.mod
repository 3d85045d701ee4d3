module slipway/toolchain/forward

go 1.26
