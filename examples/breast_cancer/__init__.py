"""Breast Cancer Wisconsin (Diagnostic): the data set that scikit-learn ships, as a Slipway model."""
