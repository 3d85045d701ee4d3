module slipway/bench/openloop

go 1.23
