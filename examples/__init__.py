"""Models on real data, made as a user of Slipway would make them."""
