"""The page, as HTML without scripts. Pure: a status in, text out; all that is not ours is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infra.evidence.checklist import Verdict
    from tools.ui.status import Model, Release, Status

REFRESH_SECONDS = 5

STYLE = """\
:root { color-scheme: light dark; --ok: #1a7f37; --bad: #cf222e; --line: #8884; --dim: #888; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .3rem; } h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.dim { color: var(--dim); } .ok { color: var(--ok); } .bad { color: var(--bad); font-weight: 600; }
.share { display: inline-block; height: .7rem; background: #0969da; border-radius: 2px; }
code { font-size: .9em; }
"""


def render(status: Status) -> str:
    """The whole document."""
    models = "".join(_model(model) for model in status.models)
    none = '<p class="dim">This stack has no models.</p>' if not status.models and not status.problem else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Slipway: {escape(status.stack)}</title>"
        '<link rel="stylesheet" href="/style.css"></head><body>'
        f"<h1>Stack {escape(status.stack)}</h1>"
        f'<p class="dim">as of {escape(status.at)} · <a href="/status.json">JSON</a></p>'
        f"{_problem(status.problem)}{none}{models}</body></html>"
    )


def _model(model: Model) -> str:
    health = '<span class="ok">healthy</span>' if model.healthy else '<span class="bad">not healthy</span>'
    differ = "" if model.agree else f'<p class="bad">Traffic differs: {_places(model)}</p>'
    rollout = f"<p><strong>Under way:</strong> {escape(model.rollout)}</p>" if model.rollout else ""
    return (
        f'<section id="{escape(model.name)}"><h2>{escape(model.name)} {health}</h2>'
        f'<p class="dim">{escape(model.runtime)} · <code>{escape(model.endpoint)}</code></p>'
        f"{_problem(model.problem)}{differ}{rollout}"
        "<table><thead><tr><th>release</th><th>model</th><th>traffic</th>"
        '<th class="number">requests/s</th><th class="number">errors</th><th class="number">p99</th></tr></thead>'
        f"<tbody>{''.join(_release(release) for release in model.releases)}</tbody></table>"
        f"{_checklist('Before deployment', model.before)}{_checklist('After deployment', model.after)}</section>"
    )


def _release(release: Release) -> str:
    share = f'<span class="share" style="width:{release.weight / 10:g}rem"></span> {release.weight}%'
    traffic = f'{share} <span class="dim">shadow</span>' if release.shadow else share
    errors = None if release.error_ratio is None else f"{release.error_ratio:.2%}"
    bad = " bad" if release.error_ratio else ""
    return (
        f"<tr><td>{escape(release.name)}</td><td><code>{escape(release.reference)}</code></td><td>{traffic}</td>"
        f'<td class="number">{_shown(release.requests_per_second, "{:.1f}")}</td>'
        f'<td class="number{bad}">{errors or "–"}</td>'
        f'<td class="number">{_shown(_milliseconds(release.p99_seconds), "≤ {:.0f} ms")}</td></tr>'
    )


def _checklist(title: str, verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    return f"<h3>{title}</h3><table><tbody>{''.join(_lines(verdicts))}</tbody></table>"


def _lines(verdicts: Iterable[Verdict]) -> Iterable[str]:
    for verdict in verdicts:
        mark = '<td class="ok">pass</td>' if verdict.passed else '<td class="bad">FAIL</td>'
        remedy = "" if verdict.passed else f"<br>{escape(verdict.remedy)}"
        yield (
            f"<tr>{mark}<td>{escape(verdict.item)}</td><td>{escape(verdict.shown)}{remedy}</td>"
            f'<td class="dim">{escape(verdict.bound)}</td></tr>'
        )


def _places(model: Model) -> str:
    return "; ".join(f"{where} {_weights(weights or {})}" for where, weights in model.traffic.items())


def _weights(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{escape(release)} {weight}%" for release, weight in weights.items()) or "nothing"


def _problem(problem: str) -> str:
    return f'<p class="bad">{escape(problem)}</p>' if problem else ""


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
