"""The bundle: `config.yaml`, `model.pt` (TorchScript) and, optionally, `transformer.json`.

Nothing in it is a pickle that Python runs: TorchScript is read by libtorch, the rest is text. It
may therefore be served without a digest, from a plain directory. The exception is a
`transformer.pkl` instead of the JSON one, read only where `manifest.json` names its digest.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from services.inference.core.codec.rows import from_nested, from_objects
from services.inference.core.document import read_document
from services.inference.core.errors import InferenceError, InvalidArtifact, PredictionFailed
from services.inference.core.schema import DATATYPES, Feature, ModelMetadata, Schema, Task, TensorSpec
from services.inference.core.transformer import Transformer
from services.inference.core.types import Rows
from services.inference.runtimes import pickled_transformer
from services.inference.runtimes.pickled_transformer import PickledTransformer
from services.inference.runtimes.torch_module import TorchModule, TorchOptions, results

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from services.inference.core.runtime import Artifact
    from services.inference.core.types import Outputs, Parameters

CONFIG, MODEL, TRANSFORMER, EXAMPLE = "config.yaml", "model.pt", "transformer.json", "input_example.json"


class BundleTensor(BaseModel):
    """A tensor that the module takes or gives; the first size is -1, the row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    datatype: str
    shape: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.datatype not in DATATYPES or self.datatype == "BYTES":
            raise ValueError(f"datatype {self.datatype!r} of {self.name!r}: a module takes numbers and booleans")
        if self.shape[0] != -1:
            raise ValueError(f"shape {list(self.shape)} of {self.name!r}: the first size is -1, the row")
        return self

    @property
    def spec(self) -> TensorSpec:
        """The same for the pipeline."""
        return TensorSpec(name=self.name, datatype=self.datatype, shape=self.shape)


class BundleConfig(BaseModel):
    """`config.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["slipway-bundle/1"]
    name: str = Field(min_length=1)
    task: Task | None = None
    """What the result of a model of features means; a model of tensors has none."""
    required_features: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Features in the order in which the model, or its transformer, takes them."""
    inputs: tuple[BundleTensor, ...] = ()
    """Tensors in the order in which the module takes them, instead of features."""
    threshold: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    """Probability from which a binary classification predicts 1; chosen in training."""
    outputs: Literal["logits", "probabilities", "values"] | tuple[BundleTensor, ...]
    """What the module returns. Of a model of features: logits get a sigmoid or softmax, the others are answered as they
    are. Of a model of tensors: its tensors, in order."""
    classes: tuple[str, ...] = ()
    """What the predictions mean, by number; for people."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.inputs) == bool(self.required_features):
            raise ValueError("required_features and inputs: a bundle has one of the two")
        if bool(self.inputs) != isinstance(self.outputs, tuple):
            raise ValueError(
                f"outputs are {self.outputs!r}: a bundle with inputs lists its output tensors, others do not"
            )
        if bool(self.inputs) != (self.task is None):
            raise ValueError(f"task is {self.task}: a bundle of features has one, a bundle of tensors none")
        if len(set(self.required_features)) != len(self.required_features):
            raise ValueError("required_features names a feature twice")
        if (self.task is Task.BINARY) != (self.threshold is not None):
            raise ValueError(
                f"threshold is {self.threshold} for {self.task}: binary classification has one, others none"
            )
        if (self.task is Task.REGRESSION) != (self.outputs == "values"):
            raise ValueError(f"outputs are {self.outputs!r} for {self.task}: regression gives values, others do not")
        return self


class BundleRuntime:
    """A bundle, loaded."""

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        config: BundleConfig,
        transformer: Transformer | PickledTransformer | None,
        options: TorchOptions | None = None,
    ) -> None:
        self.config = config
        self._module = TorchModule(module, options)
        self._transformer = transformer
        metadata = _metadata(config, transformer)
        self.metadata = replace(metadata, device=self._module.device, lanes=self._module.lanes)

    @classmethod
    def load(cls, artifact: Artifact, options: TorchOptions | None = None) -> Self:
        """Read the files; `InvalidArtifact` says which is wrong."""
        return cls.read(artifact.directory, options)

    @classmethod
    def read(cls, directory: Path, options: TorchOptions | None = None) -> Self:
        """`load` from a bare directory."""
        config = read_config(directory / CONFIG)
        transformer = _transformer(directory, config)
        runtime = cls(_module(directory / MODEL), config, transformer, options)
        runtime.try_example(directory / EXAMPLE)
        return runtime

    def try_example(self, path: Path) -> None:
        """Answer one row, so that a module that does not fit its config fails at load and not in traffic."""
        example = self.metadata.example
        try:
            if path.is_file():
                read = from_nested if self.config.inputs else from_objects
                example = read(json.loads(path.read_bytes()), self.metadata.schema, EXAMPLE)
            self.predict(self.transform(example), ())
        except InferenceError as error:
            raise InvalidArtifact(str(error), "a bundle answers its own example", "write the bundle again") from error
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            raise InvalidArtifact(
                f"{MODEL}: {reason}",
                f"the module takes what {CONFIG} and {TRANSFORMER} describe",
                "write the bundle again",
            ) from error

    def transform(self, rows: Rows) -> Rows:
        """Apply the fitted transformer; without one the features are the input, as float32."""
        if self._transformer is not None:
            return self._transformer.apply(rows)
        return rows if self.config.inputs else Rows(rows.numbers.astype(np.float32, copy=False))

    def predict(self, rows: Rows, parameters: Parameters) -> Outputs:  # noqa: ARG002  # a bundle has no parameters
        """Forward, then activation and threshold."""
        config = self.config
        if config.task is not None:
            raw = self._module.one(rows.numbers)
            return results(raw, config.task, logits=config.outputs == "logits", threshold=config.threshold)
        found = self._module(*rows.blocks)
        if len(found) != len(config.outputs):
            raise PredictionFailed(
                f"the module returned {len(found)} tensors",
                f"{CONFIG} lists {len(config.outputs)} outputs",
                "list what the module returns",
            )
        return {spec.name: values for spec, (_, values) in zip(self.metadata.outputs, found, strict=True)}

    def close(self) -> None:
        """Let the module go."""
        del self._module


def read_config(path: Path) -> BundleConfig:
    """Read and check `config.yaml`."""
    return read_document(path, BundleConfig, yaml.safe_load, "a bundle has a slipway-bundle/1 config", "correct it")


def _transformer(directory: Path, config: BundleConfig) -> Transformer | PickledTransformer | None:
    """The fitted transformer of a bundle of features, where there is one; the declarative one goes first."""
    path = directory / TRANSFORMER
    if not path.is_file():
        pickled = (directory / pickled_transformer.FILE).is_file()
        return PickledTransformer.read(directory, config.required_features) if pickled else None
    transformer = Transformer.read(path)
    if (names := tuple(f.name for f in transformer.features)) != config.required_features:
        raise InvalidArtifact(
            f"{TRANSFORMER} takes {len(names)} columns, {CONFIG} requires {len(config.required_features)} features",
            "both name the same features in the same order",
            "write the bundle again",
        )
    return transformer


def _module(path: Path) -> torch.jit.ScriptModule:
    import torch  # noqa: PLC0415  # seconds of import

    try:
        with warnings.catch_warnings():
            # TorchScript is deprecated for authoring; reading it stays supported and is what the format needs.
            warnings.filterwarnings("ignore", message=".*torch.jit.load.*deprecated", category=FutureWarning)
            module: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise InvalidArtifact(
            f"{path.name}: {reason}", "a bundle's model is TorchScript", "save it with torch.jit"
        ) from error
    module.eval()
    return module  # type: ignore[no-any-return]


def _metadata(config: BundleConfig, transformer: Transformer | PickledTransformer | None) -> ModelMetadata:
    if isinstance(config.outputs, tuple):
        schema = Schema(tensors=tuple(tensor.spec for tensor in config.inputs))
        outputs = tuple(tensor.spec for tensor in config.outputs)
        return ModelMetadata(
            platform="torchscript", schema=schema, outputs=outputs, score=outputs[0].name, example=schema.zeros()
        )
    declared = transformer if isinstance(transformer, Transformer) else None
    schema = Schema(declared.features if declared else tuple(Feature(name=name) for name in config.required_features))
    return ModelMetadata(
        platform="torchscript",
        schema=schema,
        outputs=_OUTPUTS[config.task] if config.task else (),
        score="probability" if config.task is Task.BINARY else "prediction",
        task=config.task,
        threshold=config.threshold,
        example=declared.example() if declared else schema.zeros(),
    )


_OUTPUTS = {
    Task.BINARY: (TensorSpec(name="probability", datatype="FP32"), TensorSpec(name="prediction", datatype="INT64")),
    Task.MULTICLASS: (
        TensorSpec(name="probability", datatype="FP32"),
        TensorSpec(name="prediction", datatype="INT64"),
        TensorSpec(name="probabilities", datatype="FP32", shape=(-1, -1)),
    ),
    Task.REGRESSION: (TensorSpec(name="prediction", datatype="FP32"),),
}
