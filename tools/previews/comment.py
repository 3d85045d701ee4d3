"""A preview as Markdown for a pull request: what changes for callers first, then what it takes, then the rest. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from policies import cost
from policies.rules import RULES, STACK_RULES
from policies.rules.models import BATCH_MODEL, REALTIME_MODEL, STREAM_MODEL
from policies.rules.rule import Declared
from tools.previews.plan import REPLACING, SAME, Plan, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from policies.rules.rule import Level

MODELS = (REALTIME_MODEL, STREAM_MODEL, BATCH_MODEL)

MARK = "<!-- slipway preview {stack} -->"
"""By which the workflow finds its own comment again."""

SEVERITY: Mapping[Level, str] = {"mandatory": "🔴", "advisory": "🟡"}

MOST_ROWS = 60
"""Of the table of all changes: a comment has an end, and so has patience."""


def comment(plan: Plan) -> str:
    """The comment."""
    changing = [step for step in plan.changing if not step.type.startswith("pulumi:")]
    parts = [MARK.format(stack=plan.stack), f"## `{plan.stack}`: {_summary(plan, changing)}"]
    sections = (
        ("Replaced", _replacements(plan)),
        ("Problems", _complaints(plan)),
        ("Policies", _verdicts(plan)),
        ("Traffic", _traffic(plan)),
        ("Releases", _releases(plan)),
        ("GPUs at the peak of the update", _gpus(plan)),
        ("Cost a month", _cost(plan)),
        ("Everything that changes", _everything(changing)),
    )
    for title, lines in sections:
        found = list(lines)
        if found:
            parts += ["", f"### {title}", *found]
    return "\n".join(parts) + "\n"


def _summary(plan: Plan, changing: list[Step]) -> str:
    if plan.failed:
        return "the preview failed"
    if not changing:
        return "nothing changes"
    counts = Counter(
        "replace" if step.op in REPLACING else step.op for step in changing if step.op != "delete-replaced"
    )
    return ", ".join(f"{count} to {op}" for op, count in sorted(counts.items()))


def _replacements(plan: Plan) -> Iterator[str]:
    for step in plan.changing:
        if step.op == "replace":
            why = ", ".join(step.changed) or "its inputs"
            yield f"- 🔴 **{step.kind} `{step.name}` is deleted and made anew**: {why}"


def _complaints(plan: Plan) -> Iterator[str]:
    for severity, message in plan.complaints:
        first, *rest = message.splitlines()
        yield f"- {'🔴' if severity == 'error' else '🟡'} {first}" + "".join(
            f"\n  {line}" for line in rest if line.strip()
        )


def _verdicts(plan: Plan) -> Iterator[str]:
    """What the rules say of what will be there: the engine's JSON has no word of it."""
    then = [
        Declared(step.type, step.name, step.after)
        for step in plan.steps
        if step.after is not None and step.op != "create-replacement"
    ]
    for each in then:
        for rule in RULES:
            for level in rule.levels:
                for said in rule.violations(each.type, each.properties, level):
                    yield f"- {SEVERITY[level]} **{rule.name}** {each.kind} `{each.name}`: {said}"
    for whole in STACK_RULES:
        yield from (f"- {SEVERITY[whole.level]} **{whole.name}** {said}" for said in whole.violations(then))


def _traffic(plan: Plan) -> Iterator[str]:
    rows = []
    for step in plan.of(REALTIME_MODEL):
        before, after = ((state or {}).get("traffic") or {} for state in (step.before, step.after))
        if before != after:
            rows.append(f"| {step.name} | {_weights(before)} | {_weights(after)} |")
    if rows:
        yield from ("", "| model | before | after |", "|---|---|---|", *rows)


def _weights(traffic: Mapping[str, Any]) -> str:
    return ", ".join(f"{release} {weight:g}%" for release, weight in traffic.items() if weight) or "–"


def _releases(plan: Plan) -> Iterator[str]:
    for step in (step for type_ in MODELS for step in plan.of(type_)):
        before, after = ((state or {}).get("releases") or {} for state in (step.before, step.after))
        for release in sorted({*before, *after}):
            old, new = before.get(release), after.get(release)
            name = f"`{step.name}` {release}"
            if old is None and new is not None:
                yield f"- added {name}: {_serves(new)}{_evidence(new)}"
            elif new is None and old is not None:
                yield f"- removed {name}: {_serves(old)}"
            elif old is not None and new is not None and _serves(old) != _serves(new):
                yield f"- changed {name}: {_serves(old)} → {_serves(new)}{_evidence(new)}"


def _serves(release: Mapping[str, Any]) -> str:
    return f"{release.get('uri')} ({str(release.get('digest', ''))[:19]}…)"


def _evidence(release: Mapping[str, Any]) -> str:
    found = release.get("evidence")
    if not found:
        return ", **without evidence**"
    document = found.get("document") or {}
    holdout = document.get("holdout") or {}
    figures = ", ".join(f"{name} {value:.4g}" for name, value in sorted(holdout.items()) if isinstance(value, float))
    return f", evidence of {document.get('evaluatedAt', 'an unknown time')}" + (f": {figures}" if figures else "")


def _gpus(plan: Plan) -> Iterator[str]:
    """While an update runs, what comes is there before what goes: the sum of both, and a replica more of each."""
    before, peak, after = Counter[str](), Counter[str](), Counter[str]()
    for type_ in MODELS:
        for step in plan.of(type_):
            old, new = _demands(step.before), _demands(step.after)
            for demands, total in ((old, before), (new, after)):
                for demand in demands.values():
                    total[demand.accelerator] += demand.settled
            for release in {*old, *new}:
                most = max((each[release] for each in (old, new) if release in each), key=lambda it: it.rolling)
                peak[most.accelerator] += most.rolling
    if not peak:
        return
    yield from ("", "| GPU | now | peak | then | quota |", "|---|---:|---:|---:|---:|")
    for kind in sorted(peak):
        most_there = plan.gpus.get(kind, 0)
        mark = "🔴 " if peak[kind] > most_there else ""
        yield f"| {kind} | {before[kind]} | {mark}{peak[kind]} | {after[kind]} | {most_there} |"


class _Demand(NamedTuple):
    """GPUs of a release with all its replicas, and with the one more that there is while they are replaced."""

    accelerator: str
    settled: int
    rolling: int


def _demands(state: Mapping[str, Any] | None) -> dict[str, _Demand]:
    """By release."""
    if state is None:
        return {}
    scaling = state.get("scaling")
    most = int(state.get("pods", 1)) if scaling is None else max(int(scaling["max"]), 1)
    spare = 0 if scaling is None else 1  # a batch model's pods are those of one run
    return {
        release: _Demand(gpus["accelerator"], gpus["count"] * most, gpus["count"] * (most + spare))
        for release, described in (state.get("releases") or {}).items()
        if (gpus := described.get("gpus"))
    }


def _cost(plan: Plan) -> Iterator[str]:
    states = [
        (step.type, step.before, step.after)
        for step in plan.steps
        if step.op not in {"delete-replaced", "create-replacement"}
    ]
    before = cost.monthly((type_, old) for type_, old, _ in states if old is not None)
    after = cost.monthly((type_, new) for type_, _, new in states if new is not None)
    if not (before.most or after.most):
        return
    listed = cost.prices()
    yield ""
    yield "| | before | after |"
    yield "|---|---:|---:|"
    yield f"| what always runs | {before.least:,.0f} | {after.least:,.0f} {listed['currency']} |"
    yield f"| with every pool at its largest | {before.most:,.0f} | {after.most:,.0f} {listed['currency']} |"
    yield ""
    yield f"On-demand prices of {listed['region']}, {listed['taken']}, without traffic, requests and stored objects."
    if after.unpriced:
        yield f"Not priced: {', '.join(sorted(after.unpriced))}."


def _everything(changing: list[Step]) -> Iterator[str]:
    shown = [step for step in changing if step.op not in {"delete-replaced", "create-replacement", *SAME}]
    if not shown:
        return
    yield from ("", "<details><summary>resources</summary>", "", "| | resource | what |", "|---|---|---|")
    for step in shown[:MOST_ROWS]:
        op = "🔴 replace" if step.op == "replace" else step.op
        yield f"| {op} | {step.kind} `{step.name}` | {', '.join(step.changed[:6])} |"
    if len(shown) > MOST_ROWS:
        yield f"| … | {len(shown) - MOST_ROWS} more | `pulumi preview --diff` shows them |"
    yield from ("", "</details>")
