"""Charts that are fetched when a stack is deployed: what we tell them is what their release knows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.addons import cert_manager, grafana
from infra.deploy import deploy
from tests.infra.recording import record, resolve_without_registry, stack

pytestmark = pytest.mark.engine

SOURCES = {
    # No release of it is a module's; this one has the chart's version.
    "grafana": ("github.com/grafana-community/helm-charts", "v0.0.0-20260829030558-dbf9f4fb5fa1", "charts/grafana"),
    "cert-manager": ("github.com/cert-manager/cert-manager", cert_manager.VERSION, "deploy/charts/cert-manager"),
}
"""Of charts: module, version, directory."""

FREE = {"grafana.ini", "datasources", "dashboardProviders", "dashboardsConfigMaps", "resources"}
"""What the charts hand on unread."""

ADDONS = {"grafana": {"enabled": True}, "certManager": {"enabled": True}}


@pytest.fixture(scope="module")
def declared():
    config = stack(addons=ADDONS)
    return record(lambda: deploy(config, resolve_without_registry), preview=False)


def source(name):
    module, version, directory = SOURCES[name]
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


@pytest.mark.parametrize("name", SOURCES)
def test_the_chart_knows_every_value(declared, name):
    known = yaml.safe_load((source(name) / "values.yaml").read_text())
    assert [*unknown(declared.one("Release", name)["values"], known)] == []


def test_the_grafana_that_is_installed_is_the_one_that_was_looked_at():
    described = yaml.safe_load((source("grafana") / "Chart.yaml").read_text())
    assert (described["name"], described["version"]) == (grafana.CHART, grafana.VERSION)


def test_a_key_that_a_chart_does_not_know_is_seen():
    assert [*unknown({"admin": {"existing": "x"}}, {"admin": {"existingSecret": ""}})] == ["admin.existing"]
