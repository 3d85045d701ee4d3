"""Adapters: thin. Each parses, calls the pipeline, renders; none knows a model."""
