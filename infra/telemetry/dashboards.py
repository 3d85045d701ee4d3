"""Grafana's dashboards: one for the environment, one for the releases of a realtime model, one for streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.telemetry import alerts, queries
from services.contract import Metric

SCHEMA_VERSION = 39
"""Of Grafana 10.4 and newer, which upgrade it by themselves."""

COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 24, 12, 8
"""Grafana's grid."""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WINDOW = "$__rate_interval"
OF = '{model=~"$model",release=~"$release"}'


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One graph: queries with the legend of each."""

    title: str
    unit: str
    """Grafana's name of it: `s`, `reqps`, `percentunit`, `short`, `bytes`."""
    targets: tuple[tuple[str, str], ...]
    description: str = ""


def quantile(share: float, metric: str, by: str = "model, release") -> str:
    """A quantile of a histogram of the chosen releases."""
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{OF}[{WINDOW}])))"


def rate(metric: str, by: str, matchers: str = "") -> str:
    """Rate of a counter of the chosen releases."""
    of = OF if not matchers else f"{OF[:-1]},{matchers}}}"
    return f"sum by ({by}) (rate({metric}{of}[{WINDOW}]))"


OVERVIEW = (
    Panel(title="Requests", unit="reqps", targets=((alerts.REQUESTS, "{{model}}"),)),
    Panel(
        title="Failures",
        unit="percentunit",
        targets=((f"{alerts.ERRORS} / {alerts.REQUESTS}", "{{model}}"),),
        description="Share of answers with 5xx, as callers see them.",
    ),
    Panel(
        title="p99 latency",
        unit="s",
        targets=(
            (
                f"histogram_quantile(0.99, sum by (le, model) "
                f"(rate({Metric.LATENCY}_bucket{{{queries.PREDICTIONS}}}[{WINDOW}])))",
                "{{model}}",
            ),
        ),
    ),
    Panel(
        title="Ready pods",
        unit="short",
        targets=((f"max by (model, release) ({queries.GATEWAY_MEMBERS})", "{{model}} {{release}}"),),
    ),
    Panel(title="Memory", unit="bytes", targets=(("process_resident_memory_bytes", "{{pod}}"),)),
    Panel(title="Cores", unit="short", targets=((f"rate(process_cpu_seconds_total[{WINDOW}])", "{{pod}}"),)),
)

REALTIME = (
    Panel(
        title="Requests by release",
        unit="reqps",
        targets=((rate(queries.GATEWAY_REQUESTS, "model, release", queries.BY_CLASS), "{{model}} {{release}}"),),
    ),
    Panel(
        title="Answers by status",
        unit="reqps",
        targets=(
            (
                rate(queries.GATEWAY_REQUESTS, "release, response_code", 'response_code!=""'),
                "{{release}} {{response_code}}",
            ),
        ),
    ),
    Panel(
        title="Latency",
        unit="s",
        targets=tuple((quantile(share, Metric.LATENCY), f"p{share * 100:g} {{{{release}}}}") for share in (0.5, 0.99)),
        description="From a request's arrival at the service to its answer.",
    ),
    Panel(
        title="Queue wait and batch time, p99",
        unit="s",
        targets=(
            (quantile(0.99, Metric.QUEUE_WAIT), "wait {{release}}"),
            (quantile(0.99, Metric.BATCH_SECONDS), "batch {{release}}"),
        ),
    ),
    Panel(
        title="Rows a batch",
        unit="short",
        targets=(
            (
                f"{rate(f'{Metric.BATCH_ROWS}_sum', 'release')} / {rate(f'{Metric.BATCH_ROWS}_count', 'release')}",
                "{{release}}",
            ),
        ),
    ),
    Panel(title="Requests in flight", unit="short", targets=((f"{Metric.IN_FLIGHT}{OF}", "{{pod}}"),)),
    Panel(title="Refused", unit="reqps", targets=((rate(Metric.SHED, "release, reason"), "{{release}} {{reason}}"),)),
    Panel(
        title="Predicted classes",
        unit="short",
        targets=((rate(Metric.PREDICTIONS, "release, class"), "{{release}} {{class}}"),),
    ),
    Panel(
        title="Scores",
        unit="short",
        targets=tuple(
            (quantile(share, Metric.SCORES), f"p{share * 100:g} {{{{release}}}}") for share in (0.1, 0.5, 0.9)
        ),
    ),
    Panel(
        title="Shadow: rows by result",
        unit="short",
        targets=((rate(Metric.SHADOW_ROWS, "release, shadow, result"), "{{release}} {{shadow}} {{result}}"),),
    ),
    Panel(
        title="Shadow: difference, p99",
        unit="short",
        targets=((quantile(0.99, Metric.SHADOW_DIFFERENCE, "release, shadow"), "{{release}} {{shadow}}"),),
    ),
    Panel(
        title="Requests a second and pod",
        unit="reqps",
        targets=((f"{Metric.REQUEST_RATE}{OF}", "{{pod}}"),),
        description="What autoscaling follows.",
    ),
)


STREAMS = (
    Panel(
        title="Messages",
        unit="short",
        targets=((rate(Metric.STREAM_MESSAGES, "model, result"), "{{model}} {{result}}"),),
        description="A second, in committed transactions.",
    ),
    Panel(
        title="Lag",
        unit="short",
        targets=((f"sum by (model, partition) ({Metric.STREAM_LAG}{OF})", "{{model}} {{partition}}"),),
        description="Messages without an answer, by partition.",
    ),
    Panel(
        title="Delay",
        unit="s",
        targets=tuple(
            (quantile(share, Metric.STREAM_DELAY, "model"), f"p{share * 100:g} {{{{model}}}}") for share in (0.5, 0.99)
        ),
        description="Age of a transaction's oldest message when it is committed.",
    ),
    Panel(
        title="Commit time, p99",
        unit="s",
        targets=((quantile(0.99, Metric.STREAM_COMMIT_SECONDS, "model"), "{{model}}"),),
    ),
    Panel(
        title="Transactions",
        unit="short",
        targets=((rate(Metric.STREAM_COMMITS, "model, result"), "{{model}} {{result}}"),),
    ),
    Panel(
        title="Dead letters",
        unit="short",
        targets=((rate(Metric.STREAM_DEAD_LETTERS, "model, error"), "{{model}} {{error}}"),),
    ),
)


def dashboards() -> dict[str, dict[str, Any]]:
    """Each dashboard by the name of its file."""
    choices = [
        _choice("model", "label_values(up, model)"),
        _choice("release", 'label_values(up{model=~"$model"}, release)'),
    ]
    return {
        "overview": _dashboard("slipway-overview", "Slipway: overview", OVERVIEW, []),
        "realtime": _dashboard("slipway-realtime", "Slipway: releases", REALTIME, choices),
        "streams": _dashboard("slipway-streams", "Slipway: streams", STREAMS, choices),
    }


def _dashboard(uid: str, title: str, panels: tuple[Panel, ...], choices: list[dict[str, Any]]) -> dict[str, Any]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    return {
        "uid": uid,
        "title": title,
        "tags": ["slipway"],
        "schemaVersion": SCHEMA_VERSION,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [source, *choices]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _choice(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS // PANEL_WIDTH)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"h": PANEL_HEIGHT, "w": PANEL_WIDTH, "x": column * PANEL_WIDTH, "y": row * PANEL_HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
            for place, (expression, legend) in enumerate(panel.targets)
        ],
    }
