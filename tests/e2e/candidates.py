"""Candidates for rollouts: the example model as good as it is, and with one thing wrong each.

`python -m tests.e2e.candidates MLFLOW_URL` registers them and prints their versions by kind as JSON. Each of them
loads, is ready and answers its golden rows: what is wrong shows under traffic alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch

from examples.breast_cancer.train import MODEL_NAME, train
from tools.registry import Registration, register_bundle

UNUSUAL = 20.0
"""Deviations of the first feature from its mean, beyond which `failing` raises."""


class Good(torch.nn.Module):
    """The very same answers, by another artifact."""

    def __init__(self, model: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) * 1.0


class Failing(Good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not bool((x[:, 0] > 20.0).any()), "an unusual row"
        return self.model(x)


class Slow(Good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        work = torch.ones(512, 512)
        for _ in range(60):
            work = torch.mm(work, work) / 512.0
        return self.model(x) + work[0, 0] - work[0, 0]


class Different(Good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -self.model(x)


KINDS = {"good": Good, "failing": Failing, "slow": Slow, "different": Different}


def bundle(kind: str, directory: Path) -> Path:
    trained = train(directory)
    path = trained.directory / "model.pt"
    torch.jit.script(KINDS[kind](torch.jit.load(path))).save(path)
    if kind == "different":
        golden = trained.directory / "golden.json"
        document = json.loads(golden.read_text())
        for row in document["rows"]:
            row["probability"] = 1 - row["probability"]
            row["prediction"] = 1 - row["prediction"]
        golden.write_text(json.dumps(document))
    return trained.directory


def register(tracking_uri: str) -> dict[str, str]:
    found = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as scratch:
            made = bundle(kind, Path(scratch, "bundle"))
            registration = Registration(name=MODEL_NAME, bundle=made, metrics={}, parameters={}, alias=f"e2e-{kind}")
            found[kind] = register_bundle(tracking_uri, registration).version
    return found


if __name__ == "__main__":
    print(json.dumps(register(sys.argv[1])))
