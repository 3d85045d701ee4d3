"""`slipway preview-comment`: what an update would do, for the people who decide about it."""
