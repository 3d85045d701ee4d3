"""Train the model and write its bundle: `python -m examples.breast_cancer.train DIRECTORY`.

1. split the data set, stratified
2. fit the transformer on the training part: medians, bounds, means, scales
3. train a small MLP with fixed seeds on one thread, so that a second training gives the same bytes
4. choose the threshold on the validation part
5. measure on the holdout part, which nothing before has seen
6. write the bundle; its golden rows hold what the trained module answered, in eager torch
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from examples.breast_cancer.data import CLASSES, SEED, Array, Dataset, Part, load_dataset
from services.contract import directory_digest
from services.inference.core.transformer import NumericColumn, Transformer
from services.inference.core.types import Rows

if TYPE_CHECKING:
    import torch

MODEL_NAME = "breast-cancer"
GOLDEN_ROWS = 40
CLIP_QUANTILES = (0.001, 0.999)
"""Values beyond what nearly all of training had are held at its edge: one wild measure does not decide alone."""
PARAMETERS = {"hidden": 32, "epochs": 60, "batch_rows": 64, "learning_rate": 3e-3, "weight_decay": 1e-2, "seed": SEED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A written bundle and what is worth telling about it."""

    directory: Path
    digest: str
    """`contract.directory_digest` of the bundle."""
    metrics: dict[str, float]
    parameters: dict[str, float]
    threshold: float


def train(directory: Path) -> Trained:
    """Train and write the bundle into `directory`, which is made or replaced as a whole. About ten seconds.

    In a process of its own: TorchScript numbers the classes that a process has scripted and writes
    the numbers down, so a second training in one process would give other bytes than the first.
    """
    command = [sys.executable, "-m", "examples.breast_cancer.train", str(directory.absolute())]
    root = Path(__file__).parents[2]
    child = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if child.returncode != 0:
        raise RuntimeError(f"training ended with code {child.returncode}:\n{child.stderr}")
    told = json.loads(child.stdout)
    return Trained(**{**told, "directory": Path(told["directory"])})


def train_here(directory: Path) -> Trained:
    """`train` in this process, whose random state and torch settings it takes over."""
    data = load_dataset()  # 1
    transformer = fit_transformer(data)  # 2
    module = _fit_module(transformer, data.train)  # 3
    threshold = _best_threshold(_probabilities(module, transformer, data.validation), data.validation.labels)  # 4
    metrics = _metrics(_probabilities(module, transformer, data.holdout), data.holdout.labels, threshold)  # 5
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".train-", dir=directory.parent) as scratch:  # 6
        bundle = Path(scratch) / "bundle"
        bundle.mkdir()
        _write(bundle, data, transformer, module, threshold, metrics)
        shutil.rmtree(directory, ignore_errors=True)
        bundle.rename(directory)
    return Trained(
        directory=directory,
        digest=directory_digest(directory),
        metrics=metrics,
        parameters=dict(PARAMETERS),
        threshold=threshold,
    )


def fit_transformer(data: Dataset) -> Transformer:
    """Median imputation, clipping to training's quantiles, standard scaling of what that leaves."""
    columns = []
    for at, name in enumerate(data.names):
        values = data.train.features[:, at]
        low, high = (float(bound) for bound in np.quantile(values, CLIP_QUANTILES))
        clipped = np.clip(values, low, high)
        columns.append(
            NumericColumn(
                name=name,
                impute=float(np.median(values)),
                clip=(low, high),
                mean=float(clipped.mean()),
                scale=float(clipped.std()),
            )
        )
    return Transformer(columns=tuple(columns))


def _fit_module(transformer: Transformer, part: Part) -> torch.nn.Sequential:
    """An MLP of one logit; AdamW on binary cross-entropy."""
    import torch  # noqa: PLC0415  # seconds of import

    torch.set_num_threads(1)  # sums in one order
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(SEED)
    return _optimise(_tensor(transformer, part), torch.from_numpy(part.labels.astype(np.float32)))


def _optimise(inputs: torch.Tensor, labels: torch.Tensor) -> torch.nn.Sequential:
    import torch  # noqa: PLC0415

    hidden, rows = int(PARAMETERS["hidden"]), int(PARAMETERS["batch_rows"])
    module = torch.nn.Sequential(
        torch.nn.Linear(inputs.shape[1], hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, 1),
    )
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=PARAMETERS["learning_rate"], weight_decay=PARAMETERS["weight_decay"]
    )
    loss = torch.nn.BCEWithLogitsLoss()
    for _ in range(int(PARAMETERS["epochs"])):
        for chosen in torch.split(torch.randperm(len(inputs)), rows):
            optimiser.zero_grad()
            loss(module(inputs[chosen])[:, 0], labels[chosen]).backward()
            optimiser.step()
    return module.eval()


def _tensor(transformer: Transformer, part: Part) -> torch.Tensor:
    import torch  # noqa: PLC0415

    return torch.from_numpy(transformer.apply(Rows(part.features)).numbers)


def _probabilities(module: torch.nn.Sequential, transformer: Transformer, part: Part) -> Array:
    """What the module answers in eager torch, by torch's own sigmoid: float32 [rows]."""
    import torch  # noqa: PLC0415

    with torch.inference_mode():
        probabilities: Array = torch.sigmoid(module(_tensor(transformer, part))[:, 0].double()).float().numpy()
    return probabilities


def _best_threshold(probabilities: Array, labels: Array) -> float:
    """The threshold of the best F1, the one nearest 0.5 among equals.

    From a grid of hundredths within [0.05, 0.95]: among 114 rows a finer choice would fit single samples.
    """
    from sklearn.metrics import f1_score  # noqa: PLC0415  # seconds of import

    candidates = np.arange(5, 96) / 100
    scores = [float(f1_score(labels, probabilities >= candidate)) for candidate in candidates]
    best = max(zip(scores, -np.abs(candidates - 0.5), candidates, strict=True))[2]
    return float(best)


def _metrics(probabilities: Array, labels: Array, threshold: float) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score  # noqa: PLC0415

    predicted = probabilities >= threshold
    return {
        "roc_auc": float(roc_auc_score(labels, probabilities)),
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1": float(f1_score(labels, predicted)),
        "log_loss": float(log_loss(labels, probabilities.astype(np.float64))),
        "rows": float(len(labels)),
    }


def _write(  # the parts of a bundle
    bundle: Path,
    data: Dataset,
    transformer: Transformer,
    module: torch.nn.Sequential,
    threshold: float,
    metrics: dict[str, float],
) -> None:
    import torch  # noqa: PLC0415

    with warnings.catch_warnings():
        # Deprecated for new authors; it is the bundle's format, and needs no pickle to read.
        warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated", category=FutureWarning)
        # Frozen: a module's constants are written in the order of a set, which differs from process to process.
        torch.jit.save(torch.jit.freeze(torch.jit.script(module)), str(bundle / "model.pt"))
    (bundle / "transformer.json").write_text(transformer.dump())
    config = {
        "format": "slipway-bundle/1",
        "name": MODEL_NAME,
        "task": "binary_classification",
        "outputs": "logits",
        "threshold": threshold,
        "classes": list(CLASSES),
        "required_features": list(data.names),
    }
    (bundle / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    golden = Part(features=data.holdout.features[:GOLDEN_ROWS], labels=data.holdout.labels[:GOLDEN_ROWS])
    rows = [dict(zip(data.names, row.tolist(), strict=True)) for row in golden.features]
    probabilities = _probabilities(module, transformer, golden)
    answers = [
        {"features": row, "probability": float(probability), "prediction": int(probability >= threshold)}
        for row, probability in zip(rows, probabilities, strict=True)
    ]
    _write_json(bundle / "golden.json", {"model": MODEL_NAME, "tolerance": 1e-6, "rows": answers})
    _write_holdout(bundle / "holdout.csv", data)
    _write_json(bundle / "metrics.json", metrics)
    _write_json(bundle / "input_example.json", rows[:2])


def _write_holdout(path: Path, data: Dataset) -> None:
    """The holdout part, which `slipway models evaluate` finds by this name; the column `target` has the labels."""
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*data.names, "target"])
        for row, label in zip(data.holdout.features.tolist(), data.holdout.labels.tolist(), strict=True):
            table.writerow([*row, label])  # the shortest text that reads back as the same float


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004
        sys.exit("usage: python -m examples.breast_cancer.train DIRECTORY")
    print(json.dumps(asdict(train_here(Path(sys.argv[1]))), indent=1, default=str))
