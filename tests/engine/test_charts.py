"""Charts that are fetched when a stack is deployed: what we tell them is what their release knows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.addons import grafana
from infra.deploy import deploy
from tests.infra.recording import record, resolve_without_registry, stack

pytestmark = pytest.mark.engine

GRAFANA = ("github.com/grafana-community/helm-charts", "v0.0.0-20260829030558-dbf9f4fb5fa1", "charts/grafana")
"""The chart's source: module, version, directory. No release of it is a module's; this one has the chart's version."""

FREE = {"grafana.ini", "datasources", "dashboardProviders", "dashboardsConfigMaps", "resources"}
"""What the chart hands on unread."""


@pytest.fixture(scope="module")
def chart():
    module, version, directory = GRAFANA
    command = ["go", "mod", "download", "-json", f"{module}@{version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return Path(json.loads(done.stdout)["Dir"], directory)


def unknown(said, known, path=()):
    """Keys that a chart's defaults do not have, by their path."""
    for key, value in said.items():
        if key not in known:
            yield ".".join((*path, key))
        elif isinstance(value, dict) and isinstance(known[key], dict) and key not in FREE:
            yield from unknown(value, known[key], (*path, key))


def test_grafanas_chart_knows_every_value(chart):
    described = yaml.safe_load((chart / "Chart.yaml").read_text())
    assert (described["name"], described["version"]) == (grafana.CHART, grafana.VERSION)
    config = stack(addons={"grafana": {"enabled": True}})
    said = record(lambda: deploy(config, resolve_without_registry), preview=False).one("Release", "grafana")["values"]
    known = yaml.safe_load((chart / "values.yaml").read_text())
    assert [*unknown(said, known)] == []
    assert [*unknown({"admin": {"existing": "x"}}, known)] == ["admin.existing"], "this test sees what is not known"
