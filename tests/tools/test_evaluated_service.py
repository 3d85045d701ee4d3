from pathlib import Path

from tools.evaluation.service import Served, environment


def test_a_service_under_evaluation_signs_in_at_the_registry_as_its_command_does(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "secret")
    said = environment(
        Served(
            name="m", uri="models:/m/1", version="1", digest="sha256:0", tracking_uri="https://m.example.com/mlflow",
            cache=Path("/tmp/cache"), settings={},
        )
    )  # fmt: skip
    assert said["MLFLOW_TRACKING_TOKEN"] == "token"
    assert "secret" not in said.values(), "and gets no more of this process than it needs"
