"""MLflow's pytorch flavour, run directly: the module without MLflow's data frame around it.

It is a pickle, so `detect` lets it through only behind a verified digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from services.inference.core.errors import InvalidArtifact
from services.inference.core.schema import ModelMetadata, Output
from services.inference.runtimes.mlmodel import MlModel, read_mlmodel
from services.inference.runtimes.tensors import run_module

if TYPE_CHECKING:
    from services.inference.core.runtime import Artifact
    from services.inference.core.types import Outputs, Parameters, Rows

_DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}


class PytorchRuntime:
    """A pickled torch module with a numeric signature; its result is answered as it is."""

    def __init__(self, module: Any, model: MlModel) -> None:
        self._module = module
        self._name = model.outputs[0].name
        result = run_module(module, model.schema.zeros())
        self.metadata = ModelMetadata(
            platform="mlflow_pytorch",
            schema=model.schema,
            outputs=(
                Output(
                    name=self._name,
                    datatype=_DATATYPES.get(str(result.dtype), "FP32"),
                    shape=(-1, *result.shape[1:]),
                ),
            ),
            score=self._name,
            example=model.schema.zeros(),
        )

    @classmethod
    def load(cls, artifact: Artifact) -> Self:
        """Read the pickled module; `InvalidArtifact` where it cannot be read or run."""
        import mlflow.pytorch  # noqa: PLC0415  # seconds of import

        model = read_mlmodel(artifact.directory)
        if model.schema.text:
            raise InvalidArtifact(
                f"feature {model.schema.text[0].name!r} is text", "a torch module takes numbers", "log it as pyfunc"
            )
        try:
            module = mlflow.pytorch.load_model(str(artifact.directory), map_location="cpu")
            module.eval()
            return cls(module, model)
        except Exception as error:  # a pickle can raise anything
            reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            raise InvalidArtifact(
                f"the pytorch flavour: {reason}", "it loads and takes one row of zeros", "log the model again"
            ) from error

    def transform(self, rows: Rows) -> Rows:
        """Features are the input."""
        return rows

    def predict(self, rows: Rows, parameters: Parameters) -> Outputs:  # noqa: ARG002  # a bare module has none
        """Forward."""
        result = run_module(self._module, rows)
        return {self._name: np.asarray(result)}

    def close(self) -> None:
        """Let the module go."""
        del self._module
