from __future__ import annotations

import pytest

from infra import names
from infra.addons import grafana
from infra.deploy import deploy
from infra.errors import ConfigError
from infra.telemetry.dashboards import DATASOURCE, dashboards
from tests.infra.recording import GENERATED, record, resolve_without_registry, stack

ENABLED = {"grafana": {"enabled": True}}


def declared(**addons):
    config = stack(addons={**ENABLED, **addons})
    return record(lambda: deploy(config, resolve_without_registry), preview=False)


def values(recorded):
    return recorded.one("Release", "grafana")["values"]


def test_it_has_every_dashboard_and_prometheus_and_asks_the_api_server_for_nothing():
    recorded = declared()
    found = values(recorded)
    maps = recorded.of("ConfigMap")
    assert sorted(found["dashboardsConfigMaps"]) == sorted(dashboards())
    assert {maps[name].inputs["metadata"]["name"] for name in found["dashboardsConfigMaps"].values()} == {
        names.dashboard(each) for each in dashboards()
    }
    (source,) = found["datasources"]["datasources.yaml"]["datasources"]
    assert (source["type"], source["url"]) == (
        DATASOURCE["type"], "http://prometheus.slipway-platform.svc.cluster.local:9090",
    )  # fmt: skip
    assert found["rbac"]["create"] is False
    assert found["automountServiceAccountToken"] is False


def test_its_password_is_in_a_secret_that_the_chart_is_told_of_by_name():
    recorded = declared()
    secret = recorded.one("Secret", grafana.ADMIN)
    told = values(recorded)["admin"]
    assert told["existingSecret"] == secret["metadata"]["name"]
    assert {told["userKey"], told["passwordKey"]} == set(secret["stringData"])
    assert GENERATED not in str(values(recorded)), "a release's values are no secret"


def test_it_is_reached_by_the_gateway_and_reaches_prometheus():
    recorded = declared()
    spec = recorded.one("NetworkPolicy", "grafana-policy")["spec"]
    assert [rule["ports"][0]["port"] for rule in spec["ingress"]] == [3000]
    assert [rule["ports"][0]["port"] for rule in spec["egress"]] == [9090]
    assert recorded.outputs["grafana"] == "http://127.0.0.1:8080/grafana"
    route = recorded.one("VirtualService", "grafana")["spec"]["http"][-1]
    assert route["route"][0]["destination"]["host"] == "grafana.slipway-platform.svc.cluster.local"
    assert values(recorded)["grafana.ini"]["server"]["root_url"] == "http://127.0.0.1:8080/grafana/"


def test_without_it_there_is_nothing_of_it_and_without_prometheus_it_is_refused():
    recorded = record(lambda: deploy(stack(), resolve_without_registry), preview=False)
    assert not [each for each in recorded.resources if each.name.startswith("grafana")]
    assert "grafana" not in recorded.outputs
    with pytest.raises(
        ConfigError, match=r"addons\.grafana\.enabled: true → shows what the monitoring add-on measures"
    ):
        stack(addons={**ENABLED, "monitoring": {"enabled": False}})
