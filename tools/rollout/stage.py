"""The real stage of a rollout: the stack's file, `pulumi up`, and what Prometheus saw."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra import names
from tools import paths
from tools.recovery import recover
from tools.rollout import stack_file
from tools.rollout.route import manager_of, releases_of, shifted, weighted, weights_of
from tools.steps import StepError, Steps

if TYPE_CHECKING:
    from tools.environment import Environment
    from tools.rollout.telemetry import Telemetry
    from tools.rollout.verdict import Bounds, Verdict

ROUTE = "kubernetes:networking.istio.io/v1:VirtualService"
COMPONENT = "slipway:serving:RealtimeModel"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model of a stack, as its file, Pulumi's state and the cluster have it."""

    found: Environment
    stack: str
    model: str
    file: Path

    def settings(self) -> dict[str, Any]:
        """What the file says of the model."""
        return stack_file.model_of(self.file.read_text(), self.model, self.file.name)

    def in_file(self) -> dict[str, int]:
        """Weights in the file, zeros left out."""
        return weighted(self.settings()["traffic"])

    def in_cluster(self) -> dict[str, int] | None:
        """Weights of the route in the cluster, None where there is no route."""
        route = self._route()
        return None if route is None else weights_of(route, self.model)

    def _route(self) -> dict[str, Any] | None:
        """The route in the cluster."""
        told = self.found.kubectl(names.MODELS_NAMESPACE).ask(
            "get", "virtualservice", names.route(self.model), "--output=json", "--ignore-not-found",
            "--show-managed-fields",
        )  # fmt: skip
        return json.loads(told) if told.strip() else None

    def in_state(self) -> dict[str, int] | None:
        """Weights of the route in Pulumi's state, None where it has none."""
        for resource in self.found.state(self.stack):
            if resource["type"] == ROUTE and resource["inputs"]["metadata"]["name"] == names.route(self.model):
                return weights_of(resource["inputs"], self.model)
        return None

    def preview(self, traffic: dict[str, int]) -> None:
        """Show what that traffic would change, with the file as it is."""
        edited = stack_file.with_traffic(self.file.read_text(), self.model, traffic, self.file.name)
        with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
            path = Path(scratch, self.file.name)
            path.write_text(edited)
            self.found.pulumi("preview", "--diff", "--config-file", str(path), stack=self.stack)

    def apply(self, traffic: dict[str, int], *, at_once: bool = False) -> None:
        """Write the file and update the stack; `at_once` moves the traffic before that. Where the update fails, the
        file says what became of the traffic: a checklist that fails afterwards has not put it back.
        """
        before = self.file.read_text()
        edited = stack_file.with_traffic(before, self.model, traffic, self.file.name)
        paths.write_whole(self.file, edited.encode())
        try:
            if at_once:
                self._shift(traffic)
            recover(self.found, Steps(), self.stack)
            self.found.pulumi("up", "--yes", "--skip-preview", "--suppress-outputs", stack=self.stack)
        except StepError:
            if self.in_cluster() != weighted(traffic):
                paths.write_whole(self.file, before.encode())
            raise

    def _shift(self, traffic: dict[str, int]) -> None:
        """Move the traffic in the cluster alone. Left to the update where releases are not there yet, or the route is
        not Pulumi's: it knows the order.
        """
        route = self._route()
        if route is None or not traffic.keys() <= releases_of(route) or manager_of(route) is None:
            return
        sticky = self.settings().get("sticky") is not None
        manifest = shifted(route, self.model, traffic, sticky=sticky)
        self.found.kubectl().ask(
            "apply", "--server-side", f"--field-manager={manager_of(route)}", "--filename=-",
            given=json.dumps(manifest),
        )  # fmt: skip

    def previous(self) -> dict[str, int] | None:
        """The traffic before the last update that changed it, of the stack's history; None where there is none."""
        now = self.in_file()
        for update in self.found.history(self.stack):
            configured = (update.get("config") or {}).get(stack_file.MODELS, {}).get("value")
            models = json.loads(configured) if isinstance(configured, str) else configured or {}
            traffic = weighted((models.get(self.model) or {}).get("traffic") or {})
            if traffic and traffic != now and update.get("result") == "succeeded":
                return traffic
        return None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What `tools.rollout.run` plays on."""

    target: Target
    telemetry: Telemetry
    bounds: Bounds
    live: str
    """The release that the candidate is held against."""
    began: float
    """When the rollout began, by the monotonic clock: the live release is measured from a while before."""

    def apply(self, traffic: dict[str, int], *, at_once: bool = False) -> None:
        """File, state and cluster."""
        self.target.apply(traffic, at_once=at_once)

    def look(self, candidate: str, seconds: float) -> Verdict:
        """Ask Prometheus for both releases, and judge."""
        return self.telemetry.verdict(
            self.live, candidate, self.bounds, seconds=seconds, since=time.monotonic() - self.began
        )

    def seconds(self) -> float:
        """The monotonic clock."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)
