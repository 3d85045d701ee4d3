"""`slipway rollout`: traffic of a deployed model, moved at once or step by step."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tools import environment, paths
from tools.cli.stack import Cluster, Context, Stack
from tools.cluster import layout as names
from tools.rollout import journal as journals
from tools.rollout import run as rollouts
from tools.rollout.journal import Journal
from tools.rollout.route import weighted
from tools.rollout.stage import Stage, Target
from tools.rollout.telemetry import Telemetry
from tools.rollout.verdict import Bounds
from tools.steps import StepError

app = typer.Typer(name="rollout", help="Move a model's traffic, and go back.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(metavar="MODEL")]

REPORTS = paths.BUILD / "rollouts"
"""One JSON and one Markdown file for each rollout that ended."""


@app.command()
def status(
    model: Model,
    stack: Stack = environment.STACK,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Show the traffic of the stack's file, of Pulumi's state and of the cluster, and a rollout that is under way."""
    target = _target(model, stack, cluster, context)
    unfinished = journals.read(_journal(target))
    under_way = None if unfinished is None else unfinished.told
    found = {"file": target.in_file(), "state": target.in_state(), "cluster": target.in_cluster()}
    agree = found["file"] == found["state"] == found["cluster"]
    if output == "json":
        print(json.dumps({**found, "rollout": under_way, "agree": agree}, indent=2))
        return
    for where, traffic in found.items():
        print(f"{where:8} {_shown(traffic)}")
    if under_way is not None:
        print(f"rollout  {under_way}: `slipway rollout run` goes on with it, `slipway rollout rollback` ends it")
    elif not agree:
        print("they differ: `slipway pulumi preview` shows what an update would do")


@app.command("set")
def set_traffic(
    model: Model,
    weights: Annotated[list[str], typer.Argument(metavar="RELEASE=PERCENT…")],
    stack: Stack = environment.STACK,
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Give the releases these percents: edit the stack's file, preview, apply."""
    target = _target(model, stack, cluster, context)
    with journals.alone(_journals(target), stack):
        _refuse_unfinished(target)
        _move(target, _parsed(weights, target))


@app.command()
def promote(
    model: Model,
    release: Annotated[str, typer.Argument(metavar="RELEASE")],
    stack: Stack = environment.STACK,
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Give one release all the traffic."""
    set_traffic(model, [f"{release}=100"], stack, cluster, context)


@app.command()
def rollback(
    model: Model,
    stack: Stack = environment.STACK,
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Give up a rollout that is under way, or put back the traffic from before the last change. Asks nothing."""
    target = _target(model, stack, cluster, context)
    with journals.alone(_journals(target), stack):
        unfinished = journals.read(_journal(target))
        before = unfinished.before if unfinished is not None else target.previous()
        if before is None:
            raise StepError(
                f"{model}: no other traffic in the history of stack {stack} → a rollback needs one → "
                f"`slipway rollout set {model} RELEASE=100`"
            )
        gone = sorted(set(before) - set(target.settings()["releases"]))
        if gone:
            raise StepError(
                f"{model}: it went to {', '.join(gone)} before → these are not in the stack's file any more → "
                "add them there again, or choose with `slipway rollout set`"
            )
        started = time.monotonic()
        target.apply(before, at_once=True)
        _journal(target).unlink(missing_ok=True)
        print(f"{model}: {_shown(before)}, after {time.monotonic() - started:.1f} s")


@app.command()
def run(
    model: Model,
    to: Annotated[str | None, typer.Option(help="The release to roll out.")] = None,
    steps: Annotated[str, typer.Option(help="Percents, ascending.")] = "5,25,50,100",
    bake: Annotated[str, typer.Option(help="How long each step is watched: 60s, 5m.")] = "60s",
    patience: Annotated[str, typer.Option(help="How much longer a verdict may be missing.")] = "2m",
    look: Annotated[str, typer.Option(help="Between two looks at the telemetry.")] = "5s",
    stack: Stack = environment.STACK,
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Roll a release out in steps, each judged by its telemetry; a bad one is taken back without being asked.

    The shadow is judged without getting traffic. A run that was interrupted is taken up by the same command, or ended
    by `slipway rollout rollback`.
    """
    target = _target(model, stack, cluster, context)
    with journals.alone(_journals(target), stack):
        journal = journals.read(_journal(target))
        if journal is None:
            journal = _begun(target, to, steps, bake)
        else:
            if to not in (None, journal.candidate):
                _refuse_unfinished(target)
            print(f"{model}: goes on with {journal.told}")
        pace = rollouts.Pace(look_seconds=_seconds(look, "--look"), patience_seconds=_seconds(patience, "--patience"))
        result = rollouts.run(journal, _journal(target), _stage(target, journal), pace, print)
    report = _report(result)
    print(f"report: {report}")
    if not result.completed:
        raise typer.Exit(1)


def _target(model: str, stack: str, cluster: str, context: str | None) -> Target:
    environment.stack_config(stack)  # it exists
    found = environment.resolve(context, cluster)
    target = Target(found=found, stack=stack, model=model, file=environment.STACKS / f"Pulumi.{stack}.yaml")
    kind = target.settings().get("kind")
    if kind != "realtime":
        raise StepError(f"{model}: of kind {kind} → traffic is a realtime model's → edit its `model` and `pulumi up`")
    return target


def _stage(target: Target, journal: Journal) -> Stage:
    outputs = target.found.outputs(target.stack)
    if not outputs.get("prometheus"):
        raise StepError(
            f"stack {target.stack}: has no Prometheus → a rollout goes by its telemetry → "
            "turn `slipway:addons.monitoring` on, or move traffic with `slipway rollout set`"
        )
    settings = target.settings()
    slo = settings.get("slo") or {}
    default = Bounds()
    bounds = Bounds(
        error_rate=slo.get("errorRate", default.error_rate),
        p99_seconds=slo["p99Ms"] / 1e3 if "p99Ms" in slo else None,
    )
    live = max(sorted(journal.before), key=lambda release: (release != journal.candidate, journal.before[release]))
    telemetry = Telemetry(outputs["prometheus"], target.model, shadow=settings.get("shadow"))
    return Stage(target=target, telemetry=telemetry, bounds=bounds, live=live, began=time.monotonic())


def _begun(target: Target, to: str | None, steps: str, bake: str) -> Journal:
    before = target.in_file()
    settings = target.settings()
    known = sorted(settings["releases"])
    if to is None:
        raise StepError(f"{target.model}: which release? → one of: {', '.join(known)} → --to RELEASE")
    if to not in known:
        raise StepError(f"--to {to}: no release of {target.model} → one of: {', '.join(known)} → choose one")
    if target.in_cluster() != before:
        raise StepError(
            f"{target.model}: the file says {_shown(before)}, the cluster {_shown(target.in_cluster())} → a rollout "
            "begins where both agree → `slipway pulumi up`, then again"
        )
    return Journal(
        model=target.model,
        stack=target.stack,
        candidate=to,
        before=before,
        # A shadow answers nobody: it is watched and judged, and its traffic is for a person to decide.
        steps=(0,) if settings.get("shadow") == to else _ascending(steps, before.get(to, 0)),
        bake_seconds=_seconds(bake, "--bake"),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _ascending(text: str, now: int) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or list(found) != sorted(set(found)) or not now < found[0] or found[-1] > 100:  # noqa: PLR2004
        raise StepError(f"--steps {text} → whole percents above {now}, ascending to 100 at most → 5,25,50,100")
    return found


def _seconds(text: str, option: str) -> float:
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        value = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise StepError(f"{option} {text} → a length of time → 90s, 5m or 1h")
    return value


def _parsed(weights: list[str], target: Target) -> dict[str, int]:
    known = sorted(target.settings()["releases"])
    found: dict[str, int] = {}
    for each in weights:
        release, _, percent = each.partition("=")
        if release not in known:
            raise StepError(f"{each}: no release of {target.model} → one of: {', '.join(known)} → RELEASE=PERCENT")
        if not percent.isdigit():
            raise StepError(f"{each}: a release and its percent → whole numbers → {release}=10")
        found[release] = int(percent)
    if sum(found.values()) != 100:  # noqa: PLR2004
        raise StepError(f"{' '.join(weights)}: sums to {sum(found.values())} → all the traffic, 100 → add the rest")
    return weighted(found)


def _move(target: Target, traffic: dict[str, int]) -> None:
    if traffic == target.in_file() == target.in_cluster():
        print(f"{target.model}: is at {_shown(traffic)}")
        return
    target.preview(traffic)
    started = time.monotonic()
    target.apply(traffic)
    print(f"{target.model}: {_shown(traffic)}, after {time.monotonic() - started:.1f} s")


def _refuse_unfinished(target: Target) -> None:
    unfinished = journals.read(_journal(target))
    if unfinished is not None:
        raise StepError(
            f"{target.model}: {unfinished.told} is under way → one at a time → `slipway rollout run {target.model}` "
            f"goes on with it, `slipway rollout rollback {target.model}` ends it"
        )


def _journals(target: Target) -> Path:
    return target.found.state_directory / "rollouts"


def _journal(target: Target) -> Path:
    return journals.path_of(_journals(target), target.stack, target.model)


def _report(result: rollouts.Result) -> Path:
    journal = result.journal
    REPORTS.mkdir(parents=True, exist_ok=True)
    stamp = journal.started.replace(":", "").replace("+0000", "Z")
    path = REPORTS / f"{journal.stack}.{journal.model}.{stamp}.md"
    paths.write_whole(path, rollouts.report(result).encode())
    content = {**asdict(journal), "completed": result.completed}
    paths.write_whole(path.with_suffix(".json"), (json.dumps(content, indent=1) + "\n").encode())
    return path


def _shown(traffic: dict[str, int] | None) -> str:
    return ", ".join(f"{release} {weight}%" for release, weight in (traffic or {}).items()) or "nothing"
