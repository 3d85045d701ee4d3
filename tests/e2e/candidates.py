"""Candidates for rollouts: the example model as good as it is, and with one thing wrong each.

`python -m tests.e2e.candidates MLFLOW_URL` registers them and prints their versions by kind as JSON. Each of them
loads, is ready and answers its golden rows: what is wrong shows under traffic alone.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from examples.breast_cancer.train import MODEL_NAME, train
from tools.registry import Registration, register_bundle


class Good(torch.nn.Module):
    """The very same answers, by another artifact."""

    def __init__(self, model: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) * 1.0


class Failing(Good):
    """Raises where the first feature is far from its mean, in deviations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not bool((x[:, 0] > 4.0).any()), "an unusual row"
        return self.model(x)


class Slow(Good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        work = torch.ones(512, 512)
        for _ in range(250):
            work = torch.mm(work, work) / 512.0
        return self.model(x) + work[0, 0] - work[0, 0]


class Different(Good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -self.model(x)


KINDS = {"good": Good, "failing": Failing, "slow": Slow, "different": Different}


def altered(trained: Path, kind: str, directory: Path) -> Path:
    """A copy of the trained bundle with that kind's module, and answers to its golden rows."""
    shutil.copytree(trained, directory)
    path = directory / "model.pt"
    torch.jit.script(KINDS[kind](torch.jit.load(path))).save(path)
    if kind == "different":
        golden = directory / "golden.json"
        document = json.loads(golden.read_text())
        for row in document["rows"]:
            row["probability"] = 1 - row["probability"]
            row["prediction"] = 1 - row["prediction"]
        golden.write_text(json.dumps(document))
    return directory


def register(tracking_uri: str) -> dict[str, str]:
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        trained = train(Path(scratch, "trained")).directory
        for kind in KINDS:
            bundle = altered(trained, kind, Path(scratch, kind))
            registration = Registration(name=MODEL_NAME, bundle=bundle, metrics={}, parameters={}, alias=f"e2e-{kind}")
            found[kind] = register_bundle(tracking_uri, registration).version
    return found


if __name__ == "__main__":
    print(json.dumps(register(sys.argv[1])))
