"""Side-by-side performance of the inference service and its peers: `python -m bench`."""
