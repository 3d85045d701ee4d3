"""Batch jobs: parquet in, predictions out, all at once."""
