"""A model in Python of the user's own: a class of twenty lines beside its files.

`config.yaml` of the artifact names it and says what it takes and gives:

    format: slipway-python/1
    model: model.py:Model
    inputs: [{name: x, datatype: FP32, shape: [-1, 4]}]
    outputs: [{name: y, datatype: FP32, shape: [-1]}]

The class needs no base and no import of ours. All methods but `load` and `predict` may be left out:

    class Model:
        def load(self, directory): ...               # pathlib.Path of the artifact
        def preprocess(self, inputs, parameters): ...   # per request, before batching: may raise ValueError
        def predict(self, inputs, parameters): ...      # on batches: dict of arrays [rows, …] → the same
        def postprocess(self, outputs, parameters): ... # on batches

Inputs and outputs are dicts of numpy arrays whose first dimension is the row; inputs are the model's own, to be written
to as it likes. It is code, so `detect` lets it through only behind a verified digest. See docs/inference.md for a whole
example.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field

from services.inference.core.document import read_document
from services.inference.core.errors import InvalidArtifact, InvalidValue, PredictionFailed
from services.inference.core.schema import ModelMetadata, Schema
from services.inference.core.types import Rows
from services.inference.runtimes.bundle import CONFIG, BundleTensor

if TYPE_CHECKING:
    from pathlib import Path

    from services.inference.core.runtime import Artifact
    from services.inference.core.types import Outputs, Parameters

FORMAT = "slipway-python/1"


class PythonConfig(BaseModel):
    """`config.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["slipway-python/1"]
    model: str = Field(pattern=r"^[A-Za-z_][\w/]*\.py:[A-Za-z_]\w*$")
    """File in the artifact, and the class in it."""
    inputs: tuple[BundleTensor, ...] = Field(min_length=1)
    outputs: tuple[BundleTensor, ...] = Field(min_length=1)


class PythonRuntime:
    """An instance of the user's class, loaded."""

    def __init__(self, model: Any, config: PythonConfig) -> None:
        self._model = model
        self._outputs = tuple(output.spec for output in config.outputs)
        schema = Schema(tensors=tuple(each.spec for each in config.inputs))
        self._names = tuple(spec.name for spec in schema.tensors)
        self._prepared = self._names
        """Names that `preprocess` gives, which may be others than it takes."""
        self.metadata = ModelMetadata(
            platform="python",
            schema=schema,
            outputs=self._outputs,
            score=self._outputs[0].name,
            example=schema.zeros(),
        )

    @classmethod
    def load(cls, artifact: Artifact) -> Self:
        """Import the file and load the model; `InvalidArtifact` says what failed."""
        config = _read_config(artifact.directory / CONFIG)
        try:
            model = _class(artifact, config)()
            if hasattr(model, "load"):
                model.load(artifact.directory)
            runtime = cls(model, config)
            runtime.predict(runtime.transform(runtime.metadata.example), ())
        except Exception as error:  # code of the artifact can raise anything
            reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else ""
            raise InvalidArtifact(
                f"{config.model}: {type(error).__name__}: {reason}",
                "the class loads and takes one row of zeros",
                "correct the class",
            ) from error
        return runtime

    def transform(self, rows: Rows) -> Rows:
        """`preprocess`; its ValueError is the caller's."""
        if not hasattr(self._model, "preprocess"):
            return rows
        try:
            prepared = self._model.preprocess(self._named(self._names, rows.copy()), {})
        except ValueError as error:
            raise InvalidValue(str(error)[:500], "the model's preprocess takes it", "correct the request") from error
        self._prepared = tuple(prepared)
        return Rows(*[np.asarray(values) for values in prepared.values()])

    def predict(self, rows: Rows, parameters: Parameters) -> Outputs:
        """`predict`, then `postprocess`."""
        given = dict(parameters)
        outputs = self._model.predict(self._named(self._prepared, rows), given)
        if hasattr(self._model, "postprocess"):
            outputs = self._model.postprocess(outputs, given)
        if not isinstance(outputs, dict) or not {spec.name for spec in self._outputs} <= set(outputs):
            raise PredictionFailed(
                f"predict returned {sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__}",
                f"it returns a dict of {', '.join(spec.name for spec in self._outputs)}",
                "correct the class, or the outputs of its config",
            )
        # Copies: the class may fill the same arrays again while these are answered.
        return {spec.name: np.array(outputs[spec.name], dtype=spec.dtype) for spec in self._outputs}

    def close(self) -> None:
        """Let the model go."""
        del self._model

    @staticmethod
    def _named(names: tuple[str, ...], rows: Rows) -> dict[str, Any]:
        return dict(zip(names, rows.blocks, strict=True))


def is_python_model(config: Path) -> bool:
    """Whether a `config.yaml` is of this runtime, not of a bundle."""
    try:
        content = yaml.safe_load(config.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _read_config(path: Path) -> PythonConfig:
    return read_document(path, PythonConfig, yaml.safe_load, f"it is {FORMAT}", "correct it")


def _class(artifact: Artifact, config: PythonConfig) -> Any:
    file, _, name = config.model.partition(":")
    # A name of the artifact's own, so that two versions of one file are two modules.
    module_name = f"slipway_model_{artifact.digest.removeprefix('sha256:')[:16]}"
    spec = importlib.util.spec_from_file_location(module_name, artifact.directory / file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return getattr(module, name)
