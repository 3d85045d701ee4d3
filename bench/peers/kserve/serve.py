# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ARG002  # the framework has the types, in an environment of its own
"""KServe's ModelServer with a custom model, V2 over HTTP: `python serve.py --http_port PORT --model_name bench …`."""

import logging

import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer

from bench.peers.served import load


class Served(Model):
    """The model behind KServe."""

    def load(self):
        """Load and warm up."""
        self.predictor = load()
        self.ready = True
        return True

    async def predict(self, payload, headers=None, response_headers=None):
        """Answer one request; values go back as the request asks for them."""
        answer = self.predictor(np.array(payload.inputs[0].as_numpy(), dtype=np.float32))
        datatype = "FP64" if answer.dtype == np.float64 else "FP32"
        output = InferOutput("output", list(answer.shape), datatype)
        output.set_data_from_numpy(answer, binary_data=bool(payload.use_binary_outputs))
        return InferResponse(payload.id or "", self.name, [output])


if __name__ == "__main__":
    logging.getLogger("uvicorn.access").disabled = True
    model = Served("bench")
    model.load()
    ModelServer(workers=1, enable_grpc=False, enable_latency_logging=False, access_log_format=None).start([model])
