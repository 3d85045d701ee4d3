# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ARG002  # the framework has the types, in an environment of its own
"""LitServe with batching: `python serve.py PORT`."""

import os
import sys

import litserve
import numpy as np

from bench.peers.served import load, together


class Served(litserve.LitAPI):
    """The model behind LitServe."""

    def setup(self, device):
        """Load and warm up."""
        self.predictor = load()

    def decode_request(self, request):
        """JSON → rows."""
        return np.asarray(request["inputs"], dtype=np.float32)

    def batch(self, inputs):
        """Requests differ in their rows: they are joined in `predict`."""
        return inputs

    def predict(self, batch):
        """Answer all requests of a batch, or the only one."""
        return together(self.predictor, batch) if isinstance(batch, list) else self.predictor(batch)

    def unbatch(self, output):
        """One answer per request already."""
        return output

    def encode_response(self, output):
        """Rows → JSON."""
        return {"outputs": output.tolist()}


if __name__ == "__main__":
    size = int(os.environ["BENCH_BATCH"])
    api = Served(max_batch_size=size, batch_timeout=0.0 if size == 1 else float(os.environ["BENCH_BATCH_SECONDS"]))
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=1,
        fast_queue=os.environ["BENCH_FAST_QUEUE"] == "1",
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
