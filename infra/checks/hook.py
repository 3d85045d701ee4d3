"""The post-deployment checklist as a hook of the engine, before the record of what has passed it is written.

The record says what of a model has passed. Where what answers changes it is written anew, once the checklist holds: an
update that failed by the checklist leaves it pending, previews show that, and the next update looks again.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pulumi

from infra.checks.live import answers, post_deployment, until_passed
from infra.k8s.manifest import Manifest, metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.checks.live import Deployed
    from infra.evidence.checklist import Verdict


def before_record(deployed: Deployed, timeout_seconds: float) -> pulumi.ResourceHookBinding:
    """Hooks of a record. They raise where a line does not hold in time, which fails the update.

    The route is as the stack file says by then. Traffic is not put back: what is wrong may be older than the update.
    """
    # A platform without monitoring is what the stack file asks for; `slipway checklist` says what it lacks.
    look = answers if deployed.prometheus is None else post_deployment

    async def check(_: pulumi.ResourceHookArgs) -> None:
        # In a thread: the program's own loop has other resources to register meanwhile.
        verdicts = await asyncio.to_thread(until_passed, lambda: look(deployed), timeout_seconds)
        if failing := [verdict for verdict in verdicts if not verdict.passed]:
            raise pulumi.RunError(failure(deployed.model, failing, len(verdicts)))

    hook = pulumi.ResourceHook(f"checklist-{deployed.model}", check)
    return pulumi.ResourceHookBinding(before_create=[hook], before_update=[hook])


def failure(model: str, failing: list[Verdict], lines: int) -> str:
    """What the update says."""
    told = [
        f"  {verdict.item}: {verdict.shown} → {verdict.bound or 'it holds'} → {verdict.remedy}" for verdict in failing
    ]
    head = f"{model}: {len(failing)} of {lines} lines of the post-deployment checklist do not hold"
    return "\n".join([f"{head} (`slipway checklist {model}` looks again):", *told])


def record(model: str, namespace: pulumi.Input[str], labels: Mapping[str, str], passed: Mapping[str, Any]) -> Manifest:
    """The object that says what has passed; `passed` is what a checklist is about, by name.

    In annotations: for other data Pulumi's provider makes another ConfigMap, and previews show a replacement.
    """
    told = {f"slipway.dev/{name}": json.dumps(value, sort_keys=True) for name, value in passed.items()}
    described = metadata(f"{model}-checklist", namespace, labels, told)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": described}
