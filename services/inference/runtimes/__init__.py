"""Runtimes: what reads a model's files and runs it. `detect.load_runtime` chooses by the files."""
