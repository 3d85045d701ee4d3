# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ARG002  # the framework has the types, in an environment of its own
"""Triton's Python backend: one call of the model for all requests that the dynamic batcher brings."""

import numpy as np
import triton_python_backend_utils as triton
from served import load, together  # copied beside this file: the backend's Python reads no PYTHONPATH


class TritonPythonModel:
    """The interface that the backend asks for."""

    def initialize(self, args):
        """Load and warm up."""
        self.predict = load()

    def execute(self, requests):
        """Answer a batch of requests, in order."""
        blocks = [np.array(triton.get_input_tensor_by_name(request, "input").as_numpy()) for request in requests]
        return [
            triton.InferenceResponse([triton.Tensor("output", answer)]) for answer in together(self.predict, blocks)
        ]
