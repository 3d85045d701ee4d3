"""What a `pulumi` command of this checkout runs with: the engine, its plugins, where state is, which cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tools import paths
from tools.cluster import layout as names
from tools.kubectl import Kubectl
from tools.steps import StepError, Steps
from tools.toolchain import build as toolchain
from tools.toolchain.recipes import KEDA_VERSION, KUBERAY_VERSION, KUBERNETES_PROVIDER_VERSION, Group
from tools.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

STACK = "local"
STACKS = paths.PROJECT / "stacks"
PROJECT_NAME = "slipway"

KEEP_ANNOTATION = '  annotations:\n    "helm.sh/resource-policy": keep\n'

LOCAL_PASSPHRASE = "slipway-local"  # noqa: S105 guards nothing: see docs/adr/0005-local-state.md
"""Passphrase of the `local` stack, whose state lies beside the cluster's own keys on the same disk."""


POLICY_PACK = ("--policy-pack", str(paths.PROJECT / "policies"))
"""What every preview and update runs with."""

UPDATES = frozenset({"up", "update"})
JUDGED = UPDATES | {"preview", "pre"}
"""Commands of `pulumi` that take a policy pack, by all their names."""


VALUED = frozenset({"-C", "--cwd", "-s", "--stack", "--color", "-v", "--verbose", "--profiling", "--tracing"})
"""Options of `pulumi` that may stand before a command, and take the next argument."""


def command(arguments: Sequence[str]) -> str:
    """The command among the arguments of `pulumi`; empty where there is none."""
    rest = iter(arguments)
    for argument in rest:
        if argument in VALUED:
            next(rest, None)
        elif not argument.startswith("-"):
            return argument
    return ""


def judged(arguments: Sequence[str]) -> list[str]:
    """A `pulumi` command with our policy pack, where it is one that takes a pack."""
    return [*arguments, *POLICY_PACK] if command(arguments) in JUDGED else list(arguments)


@dataclass(frozen=True)
class Environment:
    """Variables for programs of this checkout, and the directory that holds the stack's state."""

    variables: dict[str, str]
    context: str | None
    """Context of an existing cluster; None is the embedded one."""
    state_directory: Path
    """What commands remember of this environment."""

    def pulumi(self, *arguments: str, stack: str = STACK, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run `pulumi` on a stack, its output going to this process's own."""
        argv = ["pulumi", *judged(arguments), "--stack", stack]
        done = subprocess.run(argv, cwd=paths.PROJECT, env={**os.environ, **self.variables}, check=False)
        if done.returncode != 0:
            self.explain(arguments)
        if check and done.returncode != 0:
            raise StepError(f"`pulumi {' '.join(arguments)}` on stack {stack} failed: what it printed above says why")
        return done

    def run(self, arguments: Sequence[str]) -> int:
        """Run `pulumi` in this process's place: signals are its own, and so is the exit code."""
        argv, variables = ["pulumi", *judged(arguments)], {**os.environ, **self.variables}
        with subprocess.Popen(argv, cwd=paths.PROJECT, env=variables) as child:

            def forward(number: int, _: FrameType | None) -> None:
                child.send_signal(number)

            # Ctrl-C reaches it by itself: the terminal sends that to both.
            signal.signal(signal.SIGINT, lambda *_: None)
            signal.signal(signal.SIGTERM, forward)
            code = child.wait()
        if code != 0:
            self.explain(arguments)
        return code

    def explain(self, arguments: Sequence[str]) -> None:
        """Say which pods are not ready where an update has failed."""
        found = waiting(self.kubectl) if command(arguments) in UPDATES else []
        for line in ["Pods that are not ready:", *found] if found else []:
            print(f"  {line}", file=sys.stderr)

    def kubectl(self, namespace: str | None = None) -> Kubectl:
        """Kubectl on its cluster."""
        return Kubectl(self.variables, namespace)

    def outputs(self, stack: str = STACK) -> dict[str, Any]:
        """The stack's outputs; `StepError` where it has never been deployed."""
        found: dict[str, Any] = self._told("stack", "output", "--json", stack=stack)
        return found

    def state(self, stack: str = STACK) -> list[dict[str, Any]]:
        """The stack's resources as Pulumi remembers them, secrets encrypted."""
        deployment = self._told("stack", "export", stack=stack)["deployment"]
        found: list[dict[str, Any]] = deployment.get("resources") or []
        return found

    def history(self, stack: str = STACK) -> list[dict[str, Any]]:
        """The stack's updates, newest first, each with its configuration."""
        found: list[dict[str, Any]] = self._told("stack", "history", "--json", stack=stack)
        return found

    def _told(self, *arguments: str, stack: str) -> Any:
        """What a `pulumi` command prints as JSON."""
        argv = ["pulumi", *arguments, "--stack", stack]
        done = subprocess.run(
            argv, cwd=paths.PROJECT, env={**os.environ, **self.variables}, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise StepError(f"stack {stack}: {done.stderr.strip()} → it has to be deployed first → `make up`")
        return json.loads(done.stdout)


def resolve(context: str | None, cluster: str) -> Environment:
    """The environment of an existing cluster by its kubeconfig context, or of the embedded one by its name.

    What the caller has set already (PULUMI_BACKEND_URL, PULUMI_CONFIG_PASSPHRASE, PULUMI_HOME) stays.
    """
    state = _foreign_state(context) if context else names.Layout(cluster).state
    virtualenv = Path(sys.prefix) / "bin"
    path = [str(virtualenv)]
    variables = {
        "PULUMI_BACKEND_URL": os.environ.get("PULUMI_BACKEND_URL") or f"file://{state / 'pulumi'}",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "KUBECONFIG": str(_minified(context, state) if context else names.Layout(cluster).kubeconfig),
    }
    if not any(os.environ.get(name) for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")):
        variables["PULUMI_CONFIG_PASSPHRASE"] = LOCAL_PASSPHRASE
    if builds_engine():
        path.append(str(toolchain.root() / "bin"))
        variables["PULUMI_HOME"] = os.environ.get("PULUMI_HOME") or str(toolchain.root() / "pulumi-home")
    variables["PATH"] = ":".join(dict.fromkeys([*path, *os.environ["PATH"].split(":")]))
    return Environment(variables, context, state)


def builds_engine() -> bool:
    """Whether this machine lacks Pulumi, so that the toolchain's own is used."""
    found = shutil.which("pulumi")
    return found is None or Path(found).parent == toolchain.root() / "bin"


def required_groups(context: str | None) -> set[Group]:
    """What of the toolchain this machine has to build."""
    groups = {Group.IMAGES, *addon_groups()}
    if builds_engine():
        groups.add(Group.PULUMI)
    if not context:
        groups.add(Group.CLUSTER)
    return groups


def addon_groups(stack: str = STACK) -> set[Group]:
    """What of the toolchain the stack's add-ons need, from its file, as the program will read it."""
    addons = stack_config(stack).get("slipway:addons") or {}
    by_default = {Group.MONITORING: True, Group.KSERVE: False, Group.KEDA: False, Group.KUBERAY: False}
    enabled = {group for group, on in by_default.items() if (addons.get(group) or {}).get("enabled", on)}
    mesh = {Group.MTLS} if (addons.get("istio") or {}).get("mtls") == "strict" else set()
    return enabled | mesh | model_groups(stack)


def model_groups(stack: str = STACK) -> set[Group]:
    """What kinds of models need that the others do without: the images of batch jobs and of streams' brokers."""
    models = stack_config(stack).get("slipway:models") or {}
    engines = {model.get("engine", "local") for model in models.values() if model.get("kind") == "batch"}
    found = {Group.RAY if engine == "ray" else Group.BATCH for engine in engines}
    kafka = (stack_config(stack).get("slipway:platform") or {}).get("kafka") or {}
    return found | ({Group.KAFKA} if kafka.get("enabled") else set())


def prepare(groups: set[Group], steps: Steps) -> None:
    """Build what is missing, install the provider as a plugin, record what the Pulumi program needs to know."""
    toolchain.ensure(groups, steps)
    if Group.PULUMI in groups:
        _install_provider()
    record = {"istio_charts": str(_istio_charts())}
    # What is built already is recorded whatever this command was asked for: it writes the whole record.
    for name, adapt in (
        ("kserve", None),
        ("keda", _described("keda", KEDA_VERSION)),
        ("kuberay", _described("kuberay", KUBERAY_VERSION)),
    ):
        if toolchain.share(name).exists():
            record[f"{name}_charts"] = str(_charts(name, adapt))
    paths.write_whole(paths.BUILD / "toolchain.json", (json.dumps(record, indent=2) + "\n").encode())


def _istio_charts() -> Path:
    """Istio's charts. Their custom resource definitions carry an annotation that makes Helm leave them behind; here
    `pulumi destroy` takes away all that `pulumi up` brought, so the copy is without it.
    """

    def adapt(charts: Path) -> None:
        definitions = charts / "base" / "files" / "crd-all.gen.yaml"
        definitions.write_text(definitions.read_text().replace(KEEP_ANNOTATION, ""))

    return _charts("istio", adapt)


def _described(name: str, version: str) -> Callable[[Path], None]:
    """Makes a chart of a module's kinds, which come without one: it takes this one file."""

    def adapt(charts: Path) -> None:
        chart = {"apiVersion": "v2", "name": f"{name}-crd", "version": version, "description": f"Kinds of {name}"}
        (charts / chart["name"] / "Chart.yaml").write_text(yaml.safe_dump(chart))

    return adapt


def _charts(recipe: str, adapt: Callable[[Path], None] | None) -> Path:
    """Charts of a recipe at a path that a new toolchain or checkout does not change, or each would show as a change."""
    source = toolchain.share(recipe) / recipe / "charts"
    charts = toolchain.root() / "charts" / recipe
    made_from = charts / ".made-from"
    if made_from.exists() and made_from.read_text() == str(source):
        return charts
    aside = charts.with_name(f".{recipe}.new")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(source, aside)
    if adapt is not None:
        adapt(aside)
    (aside / made_from.name).write_text(str(source))
    shutil.rmtree(charts, ignore_errors=True)
    aside.rename(charts)
    return charts


def gateway_port(stack: str = STACK) -> int:
    """`slipway:platform.gatewayPort` of the stack's file, as the program will read it."""
    config = stack_config(stack)
    port = (config.get("slipway:platform") or {}).get("gatewayPort", names.DEFAULT_GATEWAY_PORT)
    if not isinstance(port, int):
        raise StepError(f"slipway:platform.gatewayPort: {port!r} → a port number → correct stacks/Pulumi.{stack}.yaml")
    return port


def registry_url(stack: str = STACK) -> str:
    """Address of the stack's model registry from this machine, as the program will read it."""
    explicit = (stack_config(stack).get("slipway:registry") or {}).get("url")
    return str(explicit) if explicit else f"http://127.0.0.1:{gateway_port(stack)}/mlflow"


def stack_config(stack: str) -> dict[str, Any]:
    """The `config` of a stack's file."""
    path = STACKS / f"Pulumi.{stack}.yaml"
    if not path.exists():
        known = ", ".join(sorted(file.name.split(".")[1] for file in STACKS.glob("Pulumi.*.yaml")))
        raise StepError(f"stack {stack}: {path} does not exist → a stack has a file of that name → one of: {known}")
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise StepError(f"{path}: not YAML: {error} → correct it") from error
    config: dict[str, Any] = content.get("config") or {}
    return config


def _install_provider() -> None:
    home = toolchain.root() / "pulumi-home"
    plugin = home / "plugins" / f"resource-kubernetes-v{KUBERNETES_PROVIDER_VERSION}"
    source = toolchain.provider()
    target = plugin / source.name
    if target.exists() and target.samefile(source):
        return
    plugin.mkdir(parents=True, exist_ok=True)
    aside = plugin / ".new"
    aside.unlink(missing_ok=True)
    aside.hardlink_to(source)
    aside.replace(target)


def _foreign_state(context: str) -> Path:
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / PROJECT_NAME / context.replace("/", "_")


def _minified(context: str, state: Path) -> Path:
    """A kubeconfig with that one context, so that no program can talk to another cluster by mistake."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    argv = ["kubectl", "config", "view", "--minify", "--flatten", "--context", context, "-o", "yaml"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StepError(
            "kubectl: not on PATH → an existing cluster is reached through its kubeconfig → install it"
        ) from None
    if done.returncode != 0:
        raise StepError(
            f"context {context}: {done.stderr.strip()} → names a context of your "
            "kubeconfig → `kubectl config get-contexts`"
        )
    path = state / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(done.stdout)
    return path
