"""What batch jobs are measured beside: each a module, `python -m bench.batches.<name> INPUT OUTPUT BUNDLE`."""
