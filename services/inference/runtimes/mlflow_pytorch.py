"""MLflow's pytorch flavour, run directly: the module without MLflow's data frame around it.

It is a pickle, so `detect` lets it through only behind a verified digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from services.inference.core.errors import InvalidArtifact
from services.inference.core.schema import ModelMetadata, TensorSpec
from services.inference.core.types import Rows
from services.inference.runtimes.mlmodel import MlModel, read_mlmodel
from services.inference.runtimes.torch_module import TorchModule, TorchOptions

if TYPE_CHECKING:
    from services.inference.core.runtime import Artifact
    from services.inference.core.types import Outputs, Parameters

_DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}
_MATRIX = 2


class PytorchRuntime:
    """A pickled torch module with a numeric signature; its results are answered as they are."""

    def __init__(self, module: Any, model: MlModel, options: TorchOptions | None = None) -> None:
        self._module = TorchModule(module, options)
        self._schema = model.schema
        self._names = [output.name for output in model.outputs]
        example = model.schema.zeros()
        answered = self.predict(self.transform(example), ())
        self.metadata = ModelMetadata(
            platform="mlflow_pytorch",
            schema=model.schema,
            outputs=tuple(
                TensorSpec(name=name, datatype=_DATATYPES.get(str(values.dtype), "FP32"), shape=(-1, *values.shape[1:]))
                for name, values in answered.items()
            ),
            score=next(iter(answered)),
            device=self._module.device,
            lanes=self._module.lanes,
            example=example,
        )

    @classmethod
    def load(cls, artifact: Artifact, options: TorchOptions | None = None) -> Self:
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
            return cls(module, model, options)
        except InvalidArtifact:
            raise
        except Exception as error:  # a pickle can raise anything
            reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            raise InvalidArtifact(
                f"the pytorch flavour: {reason}", "it loads and takes one row of zeros", "log the model again"
            ) from error

    def transform(self, rows: Rows) -> Rows:
        """Features become float32, the type of a module's weights; tensors are the input."""
        return rows if self._schema.tensors else Rows(rows.numbers.astype(np.float32, copy=False))

    def predict(self, rows: Rows, parameters: Parameters) -> Outputs:  # noqa: ARG002  # a bare module has none
        """Forward. Results are named by the module, else by the signature, else by number."""
        found = self._module(*rows.blocks)
        names = self._names if len(self._names) == len(found) else [f"output_{at}" for at in range(len(found))]
        answered = {own or name: values for (own, values), name in zip(found, names, strict=True)}
        return {
            name: values[:, 0]
            if values.ndim == _MATRIX and values.shape[1] == 1 and not self._schema.tensors
            else values
            for name, values in answered.items()
        }

    def close(self) -> None:
        """Let the module go."""
        del self._module
