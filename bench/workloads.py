"""The models that every server serves, built once: `python -m bench.workloads DIRECTORY`.

All take FP32 [rows, 32] and give one number for each row, so that one payload fits all and what
differs is the model. Each directory holds

    bundle/      what our service reads (A, C, D): TorchScript and its config
    mlflow/      the same model as MLflow saves it
    model.pkl    the fitted scikit-learn model (B)
    inputs.npy   float32 [1024, 32], the rows of every request
    expected.npy [1024], what the model answers in the building process, on one thread, in its own type

| workload | model                                          | seconds at 1 row, one thread |
|----------|------------------------------------------------|------------------------------|
| A        | TorchScript that returns the first column      | ~2 µs: no maths              |
| B        | 100 boosted trees of scikit-learn              | ~1 ms                        |
| C        | MLP 32-256-256-1                               | ~30 µs                       |
| D        | transformer encoder over 32 tokens of width 256 | ~5 ms                       |
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    import torch

WIDTH = 32
"""Values of one row."""
ROWS = 1024
"""Rows of the largest request."""
SEED = 7
DECIMALS = 4
"""Inputs are rounded, as measured values are: a JSON number then has some seven characters, not twenty."""

INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is served, and with which payloads."""

    name: str
    title: str
    rows: tuple[int, ...] = (1, 64, 1024)
    """Rows of one request."""
    tolerance: float = 0.0
    """Largest difference from `expected.npy` that is not a mistake: kernels differ with the batch's size."""
    datatype: str = "FP32"
    """V2 datatype of the answer."""
    torch: bool = True


WORKLOADS = {
    each.name: each
    for each in (
        Workload(name="A", title="echo: first of 32 columns, no maths"),
        Workload(name="B", title="scikit-learn, 100 boosted trees", datatype="FP64", torch=False, tolerance=1e-9),
        Workload(name="C", title="MLP 32-256-256-1", tolerance=1e-5),
        # 1,024 rows take it seconds: that measures torch and nothing else.
        Workload(name="D", title="transformer encoder, ~5 ms a row", rows=(1, 64), tolerance=1e-4),
    )
}


def artifact(workload: str, cache: Path) -> Path:
    """Where a workload's files are once `ensure` has built them."""
    return cache / "artifacts" / _key() / workload


def is_built(workload: str, cache: Path) -> bool:
    """Whether they are there, whole."""
    return (artifact(workload, cache) / "expected.npy").is_file()


def build(workload: str, directory: Path) -> None:
    """Write one workload's files; `expected.npy` comes last and says that the others are there."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    inputs = np.random.default_rng(SEED).standard_normal((ROWS, WIDTH)).round(DECIMALS).astype(np.float32)
    np.save(directory / "inputs.npy", inputs)
    expected = _boosted_trees(directory, inputs) if workload == "B" else _module(workload, directory, inputs)
    np.save(directory / "expected.npy", expected.ravel())


def _key() -> str:
    """Artifacts of other code or other libraries are other artifacts."""
    parts = [Path(__file__).read_text(), *(f"{name}={version(name)}" for name in ("torch", "scikit-learn", "mlflow"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _module(workload: str, directory: Path, inputs: Any) -> Any:
    import mlflow.pytorch  # noqa: PLC0415  # seconds of import
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated")  # the format that all servers read
        module = torch.jit.freeze(torch.jit.script(_architecture(workload).eval()))
    with torch.inference_mode():
        expected = module(torch.from_numpy(inputs)).numpy()
    bundle = directory / "bundle"
    bundle.mkdir()
    torch.jit.save(module, str(bundle / "model.pt"))
    config = {
        "format": "slipway-bundle/1",
        "name": "bench",
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, WIDTH]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, 1]}],
    }
    (bundle / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    mlflow.pytorch.save_model(
        module,
        str(directory / "mlflow"),
        signature=_signature("float32", (-1, 1)),
        serialization_format="pickle",  # MLflow's name for it; of a ScriptModule it is TorchScript
        pip_requirements=[],
    )
    return expected


def _boosted_trees(directory: Path, inputs: Any) -> Any:
    import mlflow.sklearn  # noqa: PLC0415
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415

    random = np.random.default_rng(SEED + 1)
    features = random.standard_normal((4000, WIDTH)).astype(np.float32)
    target = features[:, 0] * features[:, 1] + np.sin(features[:, 2]) + 0.1 * random.standard_normal(len(features))
    model = HistGradientBoostingRegressor(max_iter=100, random_state=SEED).fit(features, target)
    # Of use in training alone, and numpy 1, which Triton's environment has, cannot read numpy 2's.
    del model._feature_subsample_rng  # noqa: SLF001
    (directory / "model.pkl").write_bytes(pickle.dumps(model))
    mlflow.sklearn.save_model(
        model,
        str(directory / "mlflow"),
        signature=_signature("float64", (-1,)),
        serialization_format="cloudpickle",
        pip_requirements=[],
    )
    return model.predict(inputs)


def _signature(dtype: str, shape: tuple[int, ...]) -> Any:
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types.schema import Schema, TensorSpec  # noqa: PLC0415

    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), (-1, WIDTH))]),
        outputs=Schema([TensorSpec(np.dtype(dtype), shape)]),
    )


def _architecture(workload: str) -> torch.nn.Module:
    from torch import nn  # noqa: PLC0415

    from bench.architectures import Echo, Encoder  # noqa: PLC0415  # imports torch

    if workload == "A":
        return Echo()
    if workload == "D":
        return Encoder(WIDTH)
    hidden = 256
    return nn.Sequential(
        nn.Linear(WIDTH, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    build(target.name, target)
