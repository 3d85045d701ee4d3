"""What commands that were killed have left behind, put right before the next one starts.

Whatever is interrupted cleans up after itself. A `pulumi` that is killed leaves its lock, operations whose end nobody
saw, and where Helm was at work a release that nobody owns; a restore of the registry leaves MLflow at rest, which is
nothing that Pulumi would see.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra import names
from tools.environment import PROJECT_NAME, STACK

if TYPE_CHECKING:
    from tools.environment import Environment
    from tools.kubectl import Kubectl
    from tools.steps import Steps

RELEASE_TYPE = "kubernetes:helm.sh/v3:Release"

SERVER = f"deployment/{names.MLFLOW}"

RESTORER = f"pod/{names.MLFLOW}-restore"
"""Has the database's volume while the server rests."""

WITHIN = "--timeout=300s"
"""For a pod to come or go on two busy cores."""


def recover(found: Environment, steps: Steps, stack: str = STACK) -> None:
    """Make a stack whose last update was killed ready for the next; nothing where there is nothing to do.

    1. locks of processes of this machine that have ended are removed
    2. Helm's notes of releases that were under way are removed, so that they can start again
    3. the state is compared with the cluster: what was under way is forgotten, what became of it is found by the update
    """
    backend = found.variables.get("PULUMI_BACKEND_URL", os.environ.get("PULUMI_BACKEND_URL", ""))
    if not backend.startswith("file://"):
        return  # a service knows itself which updates are alive
    home = Path(backend.removeprefix("file://"), ".pulumi")
    for lock in (home / "locks" / "organization" / PROJECT_NAME / stack).glob("*.json"):
        if _is_stale(json.loads(lock.read_text())):
            lock.unlink()  # 1
    pending = _pending(home / "stacks" / PROJECT_NAME / f"{stack}.json")
    if not pending:
        return
    with steps.step("recover from an update that was killed", estimate=20):
        for operation in pending:
            if operation["resource"]["type"] == RELEASE_TYPE:
                _forget_release(found, operation)  # 2
        found.pulumi("refresh", "--yes", "--skip-preview", "--clear-pending-creates", stack=stack)  # 3


def wake(kubectl: Kubectl, steps: Steps) -> None:
    """Start MLflow where a restore was killed; nothing where it runs, or is not there yet.

    A database is replaced as a whole, so that it starts with the one that was there or with the one that came.
    """
    if rests(kubectl):
        with steps.step("start MLflow, which a restore that was killed left at rest", estimate=20):
            end_rest(kubectl)


def rests(kubectl: Kubectl) -> bool:
    """Whether MLflow is there, and is to have no pod."""
    return kubectl.ask("get", SERVER, "--ignore-not-found", "--output=jsonpath={.spec.replicas}") == "0"


def end_rest(kubectl: Kubectl) -> None:
    """The pod that restores goes before the server comes: the database is never two programs'."""
    kubectl.ask("delete", RESTORER, "--ignore-not-found", "--wait")
    kubectl.ask("scale", SERVER, "--replicas=1")
    kubectl.ask("rollout", "status", WITHIN, SERVER)


def _is_stale(lock: dict[str, Any]) -> bool:
    """Whether the process that took the lock has ended; of another machine's nothing is known."""
    if lock.get("hostname") != socket.gethostname():
        return False
    try:
        return Path(f"/proc/{lock['pid']}/comm").read_text().strip() != "pulumi"
    except FileNotFoundError:
        return True


def _pending(state: Path) -> list[dict[str, Any]]:
    if not state.exists():
        return []
    latest = json.loads(state.read_text())["checkpoint"].get("latest") or {}
    operations: list[dict[str, Any]] = latest.get("pending_operations") or []
    return operations


def _forget_release(found: Environment, operation: dict[str, Any]) -> None:
    """Remove Helm's notes of an installation, or of an upgrade that never ended, so that it can start again.

    What it had created stays and is taken over: it carries the release's name.
    """
    inputs = operation["resource"]["inputs"]
    selector = f"owner=helm,name={inputs['name']}"
    if operation["type"] != "creating":
        selector += ",status in (pending-upgrade,pending-rollback)"
    found.kubectl(inputs.get("namespace", "default")).ask("delete", "secrets", f"--selector={selector}")
