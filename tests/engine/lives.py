"""The life of an environment on AWS under the real engine: what the tests judge, and what is recorded from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.engine.aws_provider import RememberingAccount
from tests.engine.conftest import ROOT, Ran, Registry, engine_env, new_project, steps_of
from tests.engine.kubernetes_provider import RememberingCluster
from tests.engine.remembering_provider import Serving
from tests.infra.aws.environment import platform
from tests.infra.recording import realtime
from tests.tokens import ISSUER

if TYPE_CHECKING:
    from pathlib import Path

PACK = ("--policy-pack", str(ROOT / "policies"))

GPU = {"cpu": "2", "memory": "8Gi", "gpu": 1, "accelerator": "nvidia-l4"}
ONE = realtime(releases={"v1": {"model": "models:/fraud/1"}}, scaling={"min": 2})
TWO = realtime(
    releases={"v1": {"model": "models:/fraud/1"}, "v2": {"model": "models:/fraud/2", "resources": GPU}},
    traffic={"v1": 90, "v2": 10},
    scaling={"min": 2},
)

T4 = {"t4": {"accelerator": "nvidia-t4", "max": 2}}

RENAMED = {"models": "artifacts", "cluster": "control-plane", "database": "mlflow", "kafka": "brokers"}

RENAMING = f"""
import pulumi

from infra.platforms.aws import resource

renamed = {RENAMED}
declare = resource.AwsResource.__init__


def declare_renamed(self, token, name, inputs, opts, outputs=()):
    if opts.protect and name in renamed:
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=[pulumi.Alias(name=name)]))
        name = renamed[name]
    declare(self, token, name, inputs, opts, outputs)


resource.AwsResource.__init__ = declare_renamed
"""
"""What somebody does who renames what holds data, before the program."""


@dataclass
class Life:
    """What the engine said at each stage."""

    previews: dict[str, str] = field(default_factory=dict)
    updates: dict[str, Ran] = field(default_factory=dict)
    performed: dict[str, list[str]] = field(default_factory=dict)
    state: str = ""
    secrets: set[str] = field(default_factory=set)
    left: dict[str, object] = field(default_factory=dict)

    def steps(self, stage: str) -> dict[str, str]:
        return steps_of(self.previews[stage])


def live(root: Path, toolchain_bin: Path) -> Life:
    """One stack from its first preview to its end, in a directory of its own."""
    cluster, seen = RememberingCluster(), Life()
    account = RememberingAccount(operations=cluster.operations)
    with Registry() as registry, Serving(cluster) as inside, Serving(account) as outside:
        env = engine_env(root, toolchain_bin, f"{inside.attached},{outside.attached}")
        project = new_project(root, env, registry.url)
        entry = project.directory / "stacks" / "__main__.py"

        def perform(stage: str, update) -> None:
            cluster.forget_operations()
            seen.updates[stage] = update()
            seen.performed[stage] = cluster.performed()

        login = {"mlflow": {"login": [ISSUER]}}
        project.configure(platform=platform(), models={"fraud": ONE}, production=True, addons=login)
        plan = str(root / "plan.json")
        seen.previews["first"] = project.previewed("--save-plan", plan)
        perform("first", lambda: project.up("--plan", plan, *PACK))
        seen.state = project.exported()
        seen.secrets = {
            line
            for name, secret in cluster.objects.items()
            if name.startswith("Secret ")
            for key, value in secret["stringData"].items()
            if key != "tls.crt"
            for line in value.splitlines()[1:2] or [value]
        }
        perform("again", lambda: project.up("--expect-no-changes"))

        project.configure(models={"fraud": TWO})
        seen.previews["release"] = project.previewed("--save-plan", plan)
        project.configure(models={"fraud": TWO | {"traffic": {"v1": 50, "v2": 50}}})
        perform("unplanned", lambda: project.up("--plan", plan))

        project.configure(models={"fraud": ONE}, platform=platform(cluster={"systemNodes": {"count": 6}}))
        seen.previews["nodes"] = project.previewed()
        project.configure(platform=platform(gpuPools=T4))
        seen.previews["pool"] = project.previewed()
        edits = {"cluster": {"systemNodes": {"instanceTypes": ["m7i.2xlarge"]}}, "gpuPools": T4}
        project.configure(models={"fraud": TWO}, platform=platform(**edits))
        seen.previews["pull request"] = project.previewed("--show-sames", *PACK)
        project.configure(models={"fraud": ONE}, platform=platform())
        program = entry.read_text()
        entry.write_text(program.replace("import pulumi\n", RENAMING, 1))
        seen.previews["renamed"] = project.previewed("--show-sames")
        entry.write_text(program)

        # With its preview, as `pulumi destroy` is without `--skip-preview`: that alone refuses before anything goes.
        perform("refused", lambda: project.pulumi("destroy", "--stack", "test", "--yes", "--color", "never"))
        seen.left = dict(account.objects)
        project.configure(production=False)
        perform("unprotected", project.up)
        perform("destroyed", project.destroy)
        assert not account.objects
        assert not cluster.objects
    return seen
