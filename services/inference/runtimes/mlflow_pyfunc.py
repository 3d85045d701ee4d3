"""Any MLflow flavour, through its python_function.

It runs code and pickles of the artifact, so `detect` lets it through only behind a verified digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from services.inference.core.errors import InvalidArtifact, InvalidValue, PredictionFailed
from services.inference.core.schema import Kind, ModelMetadata, TensorSpec
from services.inference.runtimes.mlmodel import MlModel, read_mlmodel

if TYPE_CHECKING:
    from services.inference.core.runtime import Artifact
    from services.inference.core.types import Array, Outputs, Parameters, Rows

_COLUMN_TYPES = {
    "boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64", "string": "object",
}  # fmt: skip
_DATATYPES = {"bool": "BOOL", "int32": "INT32", "int64": "INT64", "float32": "FP32", "float64": "FP64"}


class PyfuncRuntime:
    """A loaded python_function; its input is a data frame of the signature's columns, or a tensor."""

    def __init__(self, function: Any, model: MlModel) -> None:
        self._function = function
        self._model = model
        self._takes_parameters = bool(getattr(function.metadata.signature, "params", None))
        example = model.schema.zeros()
        answered = self.predict(example, ())
        self.metadata = ModelMetadata(
            platform="mlflow_pyfunc",
            schema=model.schema,
            outputs=tuple(
                TensorSpec(
                    name=name, datatype=_DATATYPES.get(str(values.dtype), "BYTES"), shape=(-1, *values.shape[1:])
                )
                for name, values in answered.items()
            ),
            score=next((name for name in ("probability", "prediction") if name in answered), next(iter(answered))),
            example=example,
        )

    @classmethod
    def load(cls, artifact: Artifact) -> Self:
        """Import and unpickle what the flavour asks for; `InvalidArtifact` where that fails."""
        import mlflow.pyfunc  # noqa: PLC0415  # seconds of import

        model = read_mlmodel(artifact.directory)
        try:
            return cls(mlflow.pyfunc.load_model(str(artifact.directory)), model)
        except Exception as error:  # code of the artifact can raise anything
            reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            raise InvalidArtifact(
                f"the python_function flavour: {reason}", "it loads and takes one row of zeros", "log the model again"
            ) from error

    def transform(self, rows: Rows) -> Rows:
        """Features are the input."""
        return rows

    def predict(self, rows: Rows, parameters: Parameters) -> Outputs:
        """Call the function on all rows."""
        if parameters and not self._takes_parameters:
            raise InvalidValue(
                f"parameter {parameters[0][0]!r}", "the model's signature has no parameters", "leave it out",
                field=parameters[0][0],
            )  # fmt: skip
        extra = {"params": dict(parameters)} if parameters else {}
        return self._named(self._function.predict(self._frame(rows), **extra))

    def close(self) -> None:
        """Let the function go."""
        del self._function

    def _frame(self, rows: Rows) -> Any:
        import pandas as pd  # noqa: PLC0415  # loaded with the model; a lookup from then on

        if self._model.schema.tensors:
            names = [spec.name for spec in self._function.metadata.signature.inputs.inputs]
            return dict(zip(names, rows.blocks, strict=True)) if names[0] else rows.blocks[0]
        columns: dict[str, Array] = {}
        numbers, texts = iter(rows.numbers.T), iter(rows.texts.T)
        for feature, kind in zip(self._model.schema.features, self._model.types, strict=True):
            column = next(texts) if feature.kind is Kind.TEXT else next(numbers)
            columns[feature.name] = column.astype(_COLUMN_TYPES[kind])
        return pd.DataFrame(columns)

    def _named(self, answer: Any) -> Outputs:
        """The answer's columns by name: a frame and a dict have names, all else is one output."""
        if hasattr(answer, "columns"):
            return {str(name): _plain(answer[name].to_numpy()) for name in answer.columns}
        if isinstance(answer, dict):
            return {str(name): _plain(np.asarray(values)) for name, values in answer.items()}
        values = _plain(np.asarray(answer))
        if values.ndim == 0:
            raise PredictionFailed(
                f"the model returned a {type(answer).__name__}",
                "it answers each row once",
                "correct the model's predict",
            )
        return {self._model.outputs[0].name: values}


def _plain(values: Array) -> Array:
    """Unsigned and small integers become int64, half floats float32, all that is no number an object."""
    if values.dtype.kind in "iu" and values.dtype.name not in _DATATYPES:
        return values.astype(np.int64)
    if values.dtype.kind == "f" and values.dtype.name not in _DATATYPES:
        return values.astype(np.float32)
    return values if values.dtype.name in _DATATYPES else values.astype(object)
