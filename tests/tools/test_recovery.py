"""What a killed restore of the registry leaves behind. On a real cluster: tests/e2e/test_recovery.py."""

from __future__ import annotations

import pytest

from tools.backup.cluster import ClusterRegistry
from tools.recovery import wake
from tools.steps import StepError, Steps


class Cluster:
    """What kubectl would say of MLflow's Deployment, and the commands that changed something."""

    def __init__(self, replicas: str) -> None:
        self.replicas = replicas
        self.changed: list[str] = []

    def ask(self, command: str, *arguments: str) -> str:
        if command == "get":
            return self.replicas
        self.changed.append(f"{command} {arguments[0]}")
        return ""


def test_mlflow_at_rest_is_started_once_nothing_else_has_its_database():
    cluster = Cluster("0")
    wake(cluster, Steps())
    assert cluster.changed == ["delete pod/mlflow-restore", "scale deployment/mlflow", "rollout status"]


@pytest.mark.parametrize("replicas", ["1", ""], ids=["runs", "is not there yet"])
def test_mlflow_is_left_alone_where_it(replicas):
    cluster = Cluster(replicas)
    wake(cluster, Steps())
    assert cluster.changed == []


def test_a_registry_at_rest_is_not_copied_and_says_how_it_is_started():
    registry = ClusterRegistry(kubectl=Cluster("0"), artifacts=None)
    with pytest.raises(StepError, match=r"MLflow rests → .* was killed → .* start it by `slipway up`"):
        _ = registry.database
