"""The post-deployment checklist as a hook of the engine: it runs when an update has changed a model's route."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pulumi

from infra.checks.live import answers, post_deployment, until_passed

if TYPE_CHECKING:
    from infra.checks.live import Deployed
    from infra.evidence.checklist import Verdict


def after_change(deployed: Deployed, timeout_seconds: float) -> pulumi.ResourceHookBinding:
    """Hooks for what an update changes last. They raise where a line does not hold in time, which fails the update.

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
    return pulumi.ResourceHookBinding(after_create=[hook], after_update=[hook])


def failure(model: str, failing: list[Verdict], lines: int) -> str:
    """What the update says."""
    told = [
        f"  {verdict.item}: {verdict.shown} → {verdict.bound or 'it holds'} → {verdict.remedy}" for verdict in failing
    ]
    head = f"{model}: {len(failing)} of {lines} lines of the post-deployment checklist do not hold"
    return "\n".join([f"{head} (`slipway checklist {model}` looks again):", *told])
