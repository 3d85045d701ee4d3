from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from tests.cluster.conftest import free_port, machine
from tests.e2e.everything import ACCELERATOR, GPUS, add_everything
from tools import paths
from tools.cluster import lifecycle

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = "e2e"

COMMAND_SECONDS = 3000
"""A cold `slipway up` builds the toolchain and the images."""


@dataclass
class Site:
    """A clone of the checkout with a cluster, a stack and a port of its own, used as a person would."""

    checkout: Path
    port: int
    before: dict[str, Any]
    up_output: str = ""
    figures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "SLIPWAY_KUBE"))},
            "PYTHONPATH": str(self.checkout),
            "SLIPWAY_CLUSTER": CLUSTER,
        }

    @property
    def stack_file(self) -> Path:
        return self.checkout / "stacks" / "Pulumi.local.yaml"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/models/breast-cancer"

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.port}/mlflow"

    def slipway(
        self, *arguments: str, check: bool = True, stdin: str | None = None, token: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "tools.cli.main", *arguments],
            cwd=self.checkout,
            env=self.variables | ({"MLFLOW_TRACKING_TOKEN": token} if token else {}),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        if check:
            assert done.returncode == 0, f"slipway {' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def pulumi(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.slipway("pulumi", *arguments, "--stack", "local", "--non-interactive", check=check)

    def python(self, *arguments: str, **variables: str) -> Any:
        """What Python says last, as JSON, with the checkout's packages."""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *arguments],
            cwd=self.checkout,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    def kubectl(self, *arguments: str, **options: Any) -> str:
        return lifecycle.kubectl(lifecycle.load(CLUSTER), *arguments, **options)

    def preview_steps(self) -> dict[str, str]:
        """Resource name → what the preview would do with it; what stays the same is left out."""
        done = self.pulumi("preview", "--json")
        steps = json.loads(done.stdout)["steps"]
        return {
            f"{step['urn'].split('::')[-2].split('$')[-1]} {step['urn'].split('::')[-1]}": step["op"]
            for step in steps
            if step["op"] != "same"
        }

    def edit(self, change: Any) -> None:
        """Change the stack file's configuration as an editor would."""
        document = yaml.safe_load(self.stack_file.read_text())
        change(document["config"])
        self.stack_file.write_text(yaml.safe_dump(document, sort_keys=False))

    def predict(self, features: Any, **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.endpoint}/predict",
            json={"features": features},
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            timeout=30,
        )

    def artifact(self, version: str, path: str) -> Any:
        """A JSON file of the registered model's artifact."""
        located = httpx.get(
            f"{self.mlflow}/api/2.0/mlflow/model-versions/get-download-uri",
            params={"name": "breast-cancer", "version": version},
        ).json()["artifact_uri"]
        root = httpx.URL(located).path.strip("/")
        answer = httpx.get(f"{self.mlflow}/api/2.0/mlflow-artifacts/artifacts/{root}/{path}", timeout=30)
        answer.raise_for_status()
        return answer.json()

    def figure(self, name: str, value: float, unit: str, bound: float | None = None) -> None:
        """Record a measured figure; the README's numbers come from the file this ends in."""
        self.figures.append({"name": name, "value": round(value, 3), "unit": unit, "bound": bound})


STARTUP_SECONDS = 40
"""Of a release, a third of the default: what never gets ready shall be found out sooner."""


def set_up(config: dict[str, Any], port: int) -> None:
    """The stack's file as it is, at a port of its own."""
    config["slipway:platform"]["gatewayPort"] = port
    config["slipway:models"]["breast-cancer"]["startupSeconds"] = STARTUP_SECONDS


@pytest.fixture(scope="session")
def site(tmp_path_factory, toolchain_bin):
    """`slipway up` in a clean clone; everything is taken down at the end, whatever happened."""
    checkout = tmp_path_factory.mktemp("clone") / "slipway"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=paths.PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in tracked:
        if (paths.PROJECT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(paths.PROJECT / name, checkout / name)
    made = Site(checkout, free_port(), machine(CLUSTER))
    made.edit(lambda config: set_up(config, made.port))
    try:
        made.slipway("cluster", "up", "--gateway-port", str(made.port), "--gpus", f"{GPUS}:{ACCELERATOR}")
        started = time.monotonic()
        done = made.slipway("up")
        made.figure("make up, caches as found", time.monotonic() - started, "s")
        steps = json.loads((checkout / "build" / "steps.json").read_text())
        for name, seconds in steps.items():
            made.figure(f"make up: {name}", seconds, "s")
        made.up_output = done.stdout
        yield made
    finally:
        made.slipway("down", check=False)
        record = {
            "taken": datetime.now(UTC).isoformat(timespec="seconds"),
            "cores": os.cpu_count(),
            "figures": made.figures,
        }
        paths.BUILD.mkdir(exist_ok=True)
        (paths.BUILD / "e2e.json").write_text(json.dumps(record, indent=2) + "\n")


@pytest.fixture(scope="session")
def versions(site):
    """Registered candidates by kind."""
    return site.python("-m", "tests.e2e.candidates", site.mlflow)


@pytest.fixture(scope="session")
def everything(site, versions):
    """The site with every kind of model, which stay until the end: each `up` is a minute of everybody's."""
    site.edit(lambda config: add_everything(config, versions["slow"]))
    started = time.monotonic()
    site.slipway("up")
    site.figure("make up, with KServe, KEDA, Kafka, a batch model and a stream more", time.monotonic() - started, "s")
    return site


@pytest.fixture(scope="session")
def golden(site):
    """Holdout rows with what the model said of them when it was trained."""
    return site.artifact("1", "data/bundle/golden.json")["rows"]
