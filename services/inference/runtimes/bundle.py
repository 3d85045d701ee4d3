"""The bundle: `config.yaml`, `model.pt` (TorchScript) and, optionally, `transformer.json`.

Nothing in it is a pickle that Python runs: TorchScript is read by libtorch, the rest is text. It
may therefore be served without a digest, from a plain directory.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from services.inference.core.codec.rows import from_objects
from services.inference.core.errors import InferenceError, InvalidArtifact
from services.inference.core.schema import Feature, ModelMetadata, Output, Schema, Task
from services.inference.core.transformer import Transformer
from services.inference.runtimes.tensors import results, run_module

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from services.inference.core.runtime import Artifact
    from services.inference.core.types import Outputs, Parameters, Rows

CONFIG, MODEL, TRANSFORMER, EXAMPLE = "config.yaml", "model.pt", "transformer.json", "input_example.json"


class BundleConfig(BaseModel):
    """`config.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["slipway-bundle/1"]
    name: str = Field(min_length=1)
    task: Task
    required_features: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """Features in the order in which the model, or its transformer, takes them."""
    threshold: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    """Probability from which a binary classification predicts 1; chosen in training."""
    outputs: Literal["logits", "probabilities", "values"]
    """What the module returns: logits get a sigmoid or softmax, the others are answered as they are."""
    classes: tuple[str, ...] = ()
    """What the predictions mean, by number; for people."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
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

    def __init__(self, module: torch.jit.ScriptModule, config: BundleConfig, transformer: Transformer | None) -> None:
        self.config = config
        self._module = module
        self._transformer = transformer
        self.metadata = _metadata(config, transformer)

    @classmethod
    def load(cls, artifact: Artifact) -> Self:
        """Read the files; `InvalidArtifact` says which is wrong."""
        return cls.read(artifact.directory)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """`load` from a bare directory."""
        config = read_config(directory / CONFIG)
        path = directory / TRANSFORMER
        transformer = Transformer.read(path) if path.is_file() else None
        if (
            transformer is not None
            and (names := tuple(f.name for f in transformer.features)) != config.required_features
        ):
            raise InvalidArtifact(
                f"{TRANSFORMER} takes {len(names)} columns, {CONFIG} requires {len(config.required_features)} features",
                "both name the same features in the same order",
                "write the bundle again",
            )
        runtime = cls(_module(directory / MODEL), config, transformer)
        runtime.try_example(directory / EXAMPLE)
        return runtime

    def try_example(self, path: Path) -> None:
        """Answer one row, so that a module that does not fit its config fails at load and not in traffic."""
        example = self.metadata.example
        try:
            if path.is_file():
                example = from_objects(json.loads(path.read_bytes()), self.metadata.schema, EXAMPLE)
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
        """Apply the fitted transformer; without one the features are the input."""
        return rows if self._transformer is None else self._transformer.apply(rows)

    def predict(self, rows: Rows, parameters: Parameters) -> Outputs:  # noqa: ARG002  # a bundle has no parameters
        """Forward, then activation and threshold."""
        raw = run_module(self._module, rows)
        config = self.config
        return results(raw, config.task, logits=config.outputs == "logits", threshold=config.threshold)

    def close(self) -> None:
        """Let the module go."""
        del self._module


def read_config(path: Path) -> BundleConfig:
    """Read and check `config.yaml`."""
    try:
        return BundleConfig.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".lstrip(": ")
        raise InvalidArtifact(
            f"{path.name}: {reason}", "a bundle has a slipway-bundle/1 config", "correct it"
        ) from error


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


def _metadata(config: BundleConfig, transformer: Transformer | None) -> ModelMetadata:
    features = transformer.features if transformer else tuple(Feature(name=name) for name in config.required_features)
    schema = Schema(features)
    return ModelMetadata(
        platform="torchscript",
        schema=schema,
        outputs=_OUTPUTS[config.task],
        score="probability" if config.task is Task.BINARY else "prediction",
        task=config.task,
        threshold=config.threshold,
        example=transformer.example() if transformer else schema.zeros(),
    )


_OUTPUTS = {
    Task.BINARY: (Output(name="probability", datatype="FP32"), Output(name="prediction", datatype="INT64")),
    Task.MULTICLASS: (
        Output(name="probability", datatype="FP32"),
        Output(name="prediction", datatype="INT64"),
        Output(name="probabilities", datatype="FP32", shape=(-1, -1)),
    ),
    Task.REGRESSION: (Output(name="prediction", datatype="FP32"),),
}
