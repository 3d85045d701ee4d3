# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201  # the framework has the types, in an environment of its own
"""MLServer with a custom runtime: decode, predict, encode."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

from bench.peers.served import load


class Served(MLModel):
    """The model behind MLServer."""

    async def load(self):
        """Load and warm up."""
        self.predictor = load()
        return True

    async def predict(self, payload):
        """Answer one request, or the batch that MLServer has made of several."""
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        output = NumpyCodec.encode_output("output", self.predictor(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])
