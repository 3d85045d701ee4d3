"""`slipway up`: from a machine to a prediction. Every step may have been done before; then it takes no time."""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from infra import names
from tools import environment, example, paths
from tools.cluster import lifecycle, preflight
from tools.images import build as images
from tools.images import load
from tools.recovery import recover, wake
from tools.toolchain.recipes import Group

if TYPE_CHECKING:
    from tools.environment import Environment
    from tools.steps import Steps

BUILDER_PACKAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}
KAFKA_PACKAGES = {"mvn": "maven", "java": "openjdk-17-jre-headless"}


def up(context: str | None, cluster: str, steps: Steps) -> Environment:
    """Bring stack `local` up and return the environment it runs in.

    1. what the machine lacks is found first: rights, room, programs, the gateway's port
    2. the toolchain is built, the cluster started, the images built and loaded
    3. the platform is deployed without models: the registry has to exist before a model can be in it
       meanwhile the images as large as torch go on being loaded
    4. the example model is trained, evaluated and registered, where the stack deploys it and the registry lacks it
    5. the whole stack is deployed
    """
    port = environment.gateway_port()
    groups = environment.required_groups(context)
    install_programs(steps, embedded=not context, kafka=Group.KAFKA in groups)
    if not context and not lifecycle.is_running(cluster):
        preflight.check(port)
    environment.prepare(groups, steps)
    if not context:
        lifecycle.up(cluster, port, steps)
    record = images.build(steps, groups, base=os.environ.get("SLIPWAY_BASE_IMAGE"))
    serving = [record.pop(name) for name in ("inference", "batch") if name in record]
    found = environment.resolve(context, cluster)
    _select_stack(found)
    recover(found, steps)
    registry = f"http://127.0.0.1:{port}/mlflow"

    def bring_in(references: list[str]) -> None:
        if context:
            load.into_context(context, references, steps)
        else:
            load.into_embedded(lifecycle.load(cluster), references, steps)

    bring_in(list(record.values()))
    wake(found.kubectl(names.PLATFORM_NAMESPACE), steps)
    with ThreadPoolExecutor(max_workers=1) as beside:
        loaded = beside.submit(bring_in, serving)
        if not _has_models(found):
            with steps.step("pulumi up: platform", estimate=60):
                _up_without_models(found)
        with steps.step("example model: train, evaluate, register", estimate=20):
            _bring_in_example(registry, steps)
        loaded.result()
    with steps.step("pulumi up: stack local", estimate=45):
        found.pulumi("up", "--yes", "--skip-preview")
    return found


def install_programs(steps: Steps, *, embedded: bool = True, kafka: bool = False) -> None:
    """Debian's packages for the programs that are missing, where this machine is one that can install them."""
    absent = preflight.missing_packages() if embedded else []
    if not any(shutil.which(program) for program in ("buildah", "podman")) and not images.docker_answers():
        absent += [package for program, package in BUILDER_PACKAGES.items() if not shutil.which(program)]
    if kafka:
        absent += [package for program, package in KAFKA_PACKAGES.items() if not shutil.which(program)]
    if not absent or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    with steps.step(f"install {', '.join(absent)}", estimate=25) as step:
        log = paths.cache() / "logs" / "apt.log"
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        remedy = "check that apt-get can reach Debian's packages, then run the same command again"
        step.run(["apt-get", "update", "-q"], log=log, env=quiet, remedy=remedy)
        install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *absent]
        step.run(install, log=log, env=quiet, remedy=remedy)


def _select_stack(found: Environment) -> None:
    backend = found.variables["PULUMI_BACKEND_URL"]
    if backend.startswith("file://"):
        Path(backend.removeprefix("file://")).mkdir(parents=True, exist_ok=True, mode=0o700)
    found.pulumi("stack", "select", "--create")


def _has_models(found: Environment) -> bool:
    """Whether the stack has deployed models, so that an update without them would take them away."""
    return bool(found.outputs().get("endpoints"))


def _up_without_models(found: Environment) -> None:
    """The stack's own file with no models in it, in a file of its own: nothing is "
    "edited, nothing can be left edited.
    """
    document: dict[str, Any] = yaml.safe_load((environment.STACKS / f"Pulumi.{environment.STACK}.yaml").read_text())
    document["config"]["slipway:models"] = {}
    with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
        path = Path(scratch, f"Pulumi.{environment.STACK}.yaml")
        path.write_text(yaml.safe_dump(document))
        found.pulumi("up", "--yes", "--skip-preview", "--config-file", str(path))


def _bring_in_example(registry: str, steps: Steps) -> None:
    """Train and register the example where the stack deploys it, and evaluate it unless it has fresh evidence."""
    config = environment.stack_config(environment.STACK)
    if example.NAME not in (config.get("slipway:models") or {}):
        return
    version = example.register(registry)
    measured = ", ".join(f"{name} {value:.4g}" for name, value in sorted(version.metrics.items()))
    print(f"{version.uri} {'registered' if version.created else 'is registered'}: {measured}", flush=True)
    # torch and MLflow: seconds that no other command should pay for.
    from tools.evaluation.evaluate import QUICK, evaluate  # noqa: PLC0415
    from tools.evaluation.record import is_fresh, read, record  # noqa: PLC0415
    from tools.evaluation.stack import demands  # noqa: PLC0415

    demanded = demands(config, version.name, version.version, version.aliases)
    if is_fresh(read(registry, version), version, timedelta(days=demanded.max_age_days)):
        return
    plan = replace(QUICK, bounds=demanded.bounds, settings=demanded.settings)
    evidence = evaluate(registry, version, plan, steps)
    record(registry, evidence)
    failing = ", ".join(verdict.item for verdict in evidence.verdicts if not verdict.passed)
    print(f"{version.uri} evaluated: " + (f"{failing} failed" if failing else "every item passed"), flush=True)
