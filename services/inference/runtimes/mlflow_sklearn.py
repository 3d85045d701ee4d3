"""MLflow's sklearn flavour, run directly: the estimator on a matrix, without a data frame per batch.

A pipeline that picks columns by name needs the frame; `detect` gives it to the pyfunc runtime.
It is a pickle, so `detect` lets it through only behind a verified digest.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from services.inference.core.errors import InvalidArtifact, InvalidValue
from services.inference.core.schema import ModelMetadata, TensorSpec
from services.inference.core.types import Rows
from services.inference.runtimes.mlmodel import MlModel, read_mlmodel

if TYPE_CHECKING:
    from services.inference.core.runtime import Artifact
    from services.inference.core.types import Array, Outputs, Parameters

_DATATYPES = {"bool": "BOOL", "int32": "INT32", "int64": "INT64", "float32": "FP32", "float64": "FP64"}
_MATRIX = 2


def takes(model: MlModel) -> bool:
    """Whether the estimator can be fed a matrix: numbers only, and no other function than MLflow's would call."""
    schema = model.schema
    matrix = len(schema.tensors) == 1 and len(schema.tensors[0].shape) == _MATRIX
    return "sklearn" in model.flavors and (matrix or bool(schema.features and not schema.text))


class SklearnRuntime:
    """A fitted estimator or pipeline. A classifier answers its probabilities too."""

    def __init__(self, estimator: Any, model: MlModel) -> None:
        self._estimator = estimator
        self._model = model
        function = str(model.flavors.get("python_function", {}).get("predict_fn") or "predict")
        self._predict = getattr(estimator, function)
        self._probabilities = getattr(estimator, "predict_proba", None) if function == "predict" else None
        example = model.schema.zeros()
        answered = self.predict(example, ())
        self.metadata = ModelMetadata(
            platform="mlflow_sklearn",
            schema=model.schema,
            outputs=tuple(
                TensorSpec(
                    name=name, datatype=_DATATYPES.get(str(values.dtype), "BYTES"), shape=(-1, *values.shape[1:])
                )
                for name, values in answered.items()
            ),
            score="probability" if "probability" in answered else next(iter(answered)),
            function_output=model.outputs[0].name,
            example=example,
        )

    @classmethod
    def load(cls, artifact: Artifact) -> Self:
        """Unpickle the estimator; `InvalidArtifact` where it cannot be read or run."""
        import mlflow.sklearn  # noqa: PLC0415  # seconds of import

        # One that was fitted on a frame says so at every call; the columns are in its order, by the signature.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        try:
            return cls(mlflow.sklearn.load_model(str(artifact.directory)), read_mlmodel(artifact.directory))
        except Exception as error:  # a pickle can raise anything
            reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            raise InvalidArtifact(
                f"the sklearn flavour: {reason}", "it loads and takes one row of zeros", "log the model again"
            ) from error

    def transform(self, rows: Rows) -> Rows:
        """Features are the input, as float64 also of a request that has them as FP32.

        An estimator computes in the type that it gets, and that must not depend on who shares the batch.
        """
        return rows if self._model.schema.tensors else Rows(rows.numbers.astype(np.float64, copy=False))

    def predict(self, rows: Rows, parameters: Parameters) -> Outputs:
        """Predict; of a binary classifier also `probability`, of another `probabilities` [rows, classes]."""
        if parameters:
            raise InvalidValue(
                f"parameter {parameters[0][0]!r}", "an estimator has no parameters", "leave it out",
                field=parameters[0][0],
            )  # fmt: skip
        answered = {self._model.outputs[0].name: _plain(np.asarray(self._predict(rows.numbers)))}
        if self._probabilities is not None:
            found = np.asarray(self._probabilities(rows.numbers))
            if found.ndim == _MATRIX and found.shape[1] == 2:  # noqa: PLR2004  # the second class is the positive one
                answered["probability"] = found[:, 1]
            elif found.ndim == _MATRIX:
                answered["probabilities"] = found
        return answered

    def close(self) -> None:
        """Let the estimator go."""
        del self._estimator, self._predict, self._probabilities


def _plain(values: Array) -> Array:
    """One column is a vector; labels that are no number become objects."""
    flat = values[:, 0] if values.ndim == _MATRIX and values.shape[1] == 1 else values
    return flat if flat.dtype.name in _DATATYPES else flat.astype(object)
