# mypy: ignore-errors
# ruff: noqa: ANN204  # the framework has the types, in an environment of its own
"""BentoML with adaptive batching: `bentoml serve bench.peers.bentoml.serve:Served --port PORT`."""

import bentoml
import numpy as np

from bench.peers.served import load


@bentoml.service(workers=1, threads=1, traffic={"timeout": 60}, metrics={"enabled": False})
class Served:
    """The model behind BentoML."""

    def __init__(self):
        self.predictor = load()

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=1024, max_latency_ms=1000)
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Answer a batch of rows."""
        return self.predictor(np.asarray(inputs, dtype=np.float32))
