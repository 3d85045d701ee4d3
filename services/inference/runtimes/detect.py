"""Which runtime reads an artifact, decided by its files; and whether it may be read at all.

| files                                            | runtime         | needs a verified digest |
|--------------------------------------------------|-----------------|-------------------------|
| `config.yaml`                                    | bundle          | no: text and TorchScript |
| `MLmodel` with our loader, its data a bundle     | bundle          | no                      |
| `MLmodel` with the pytorch flavour, tensor input | MLflow pytorch  | yes: a pickle           |
| `MLmodel` with the sklearn flavour, numbers only | MLflow sklearn  | yes: a pickle           |
| any other `MLmodel`                              | MLflow pyfunc   | yes: pickles and code   |
| `config.yaml` of slipway-python/1                | python model    | yes: code               |
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from services.inference.core.errors import InvalidArtifact, UntrustedArtifact
from services.inference.runtimes import mlflow_loader, mlflow_sklearn
from services.inference.runtimes.bundle import CONFIG, BundleRuntime
from services.inference.runtimes.mlflow_pyfunc import PyfuncRuntime
from services.inference.runtimes.mlflow_pytorch import PytorchRuntime
from services.inference.runtimes.mlflow_sklearn import SklearnRuntime
from services.inference.runtimes.mlmodel import FILE, MlModel, read_mlmodel
from services.inference.runtimes.python_model import PythonRuntime, is_python_model

if TYPE_CHECKING:
    from pathlib import Path

    from services.inference.core.runtime import Artifact, Runtime
    from services.inference.runtimes.torch_module import TorchOptions


def import_framework(artifact: Artifact) -> None:
    """Import what will load the model, where the files tell."""
    config = artifact.directory / CONFIG
    if is_python_model(config):
        return  # it imports what it needs
    if config.is_file():
        importlib.import_module("torch")
    elif (artifact.directory / FILE).is_file():
        flavors = read_mlmodel(artifact.directory).flavors
        importlib.import_module("mlflow.pytorch" if "pytorch" in flavors else "mlflow.pyfunc")


def load_runtime(artifact: Artifact, options: TorchOptions) -> Runtime:
    """Load the model; `UntrustedArtifact` or `InvalidArtifact` where that may not or cannot be done."""
    runtime = _load(artifact, options)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(options.threads)
    return runtime


def _load(artifact: Artifact, options: TorchOptions) -> Runtime:
    directory = artifact.directory
    if is_python_model(directory / CONFIG):
        _require_digest(artifact, "the artifact is a Python model")
        return PythonRuntime.load(artifact)
    if (directory / CONFIG).is_file():
        return BundleRuntime.load(artifact, options)
    if not (directory / FILE).is_file():
        raise InvalidArtifact(
            f"the artifact holds {_listing(directory)}",
            f"a model has {CONFIG} or {FILE} at its root",
            "point at its root",
        )
    model = read_mlmodel(directory)
    bundle = _bundle_inside(directory, model)
    if bundle is not None:
        return BundleRuntime.load(replace(artifact, directory=bundle), options)
    _require_digest(artifact, f"the artifact has MLflow flavours {', '.join(sorted(model.flavors))}")
    if "pytorch" in model.flavors:
        return PytorchRuntime.load(artifact, options)
    if mlflow_sklearn.takes(model):
        with contextlib.suppress(InvalidArtifact):  # it does not take a matrix: pyfunc says what is wrong if it is more
            return SklearnRuntime.load(artifact)
    return PyfuncRuntime.load(artifact)


def _require_digest(artifact: Artifact, what: str) -> None:
    if not artifact.verified:
        raise UntrustedArtifact(
            what,
            "code and pickles are read only where a digest vouches for them",
            "set SLIPWAY_MODEL_DIGEST to the artifact's digest",
        )


def _bundle_inside(directory: Path, model: MlModel) -> Path | None:
    """The bundle of an MLflow model that our own tool registered."""
    function = model.flavors.get("python_function", {})
    if function.get("loader_module") != mlflow_loader.NAME:
        return None
    data = PurePosixPath(str(function.get("data", "")))
    if data.is_absolute() or ".." in data.parts or not (directory / data / CONFIG).is_file():
        raise InvalidArtifact(f"{FILE}: data is {data}", f"it is the bundle's directory, with {CONFIG}", "log it again")
    return directory / data


def _listing(directory: Path) -> str:
    names = sorted(path.name for path in directory.iterdir())
    return ", ".join(names[:6]) + (" …" if len(names) > 6 else "") if names else "nothing"  # noqa: PLR2004
