"""The example model: real data, honest metrics, the same bytes each time."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml

from examples.breast_cancer.data import load_dataset
from services.contract import directory_digest
from services.inference.core.transformer import Transformer
from services.inference.core.types import Rows


@pytest.mark.slow
def test_a_training_in_another_process_gives_the_same_bytes(trained, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}  # another order of sets than this process has
    command = [sys.executable, "-W", "error", "-m", "examples.breast_cancer.train", str(tmp_path / "again")]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, env=environment, timeout=250).stdout)
    for path in sorted(trained.directory.iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), f"{path.name} differs"
    assert told["digest"] == trained.digest == directory_digest(trained.directory)


def test_the_holdout_was_not_seen_and_keeps_the_share_of_the_classes():
    data = load_dataset()
    parts = (data.train, data.validation, data.holdout)
    rows = [tuple(row) for part in parts for row in part.features]
    assert len(rows) == 569
    assert len(set(rows)) == 569, "a row is in two parts"
    shares = [float(part.labels.mean()) for part in parts]
    assert max(shares) - min(shares) < 0.02, "the split is not stratified"
    assert sum(int(part.labels.sum()) for part in parts) == 212, "1 is malignant"


def test_the_model_is_good_on_the_holdout_and_says_so(trained):
    metrics = json.loads((trained.directory / "metrics.json").read_text())
    assert metrics == trained.metrics
    assert metrics["rows"] == 114
    assert metrics["roc_auc"] > 0.98
    assert metrics["accuracy"] > 0.95
    assert metrics["f1"] > 0.93
    assert metrics["log_loss"] < 0.12


def test_golden_rows_are_of_the_holdout_and_of_both_classes(trained):
    rows = json.loads((trained.directory / "golden.json").read_text())["rows"]
    config = yaml.safe_load((trained.directory / "config.yaml").read_text())
    assert len(rows) >= 32
    assert {row["prediction"] for row in rows} == {0, 1}
    holdout = {tuple(row) for row in load_dataset().holdout.features}
    for row in rows:
        assert list(row["features"]) == config["required_features"]
        assert tuple(row["features"].values()) in holdout
        assert row["prediction"] == int(row["probability"] >= config["threshold"])


def test_the_transformer_standardises_the_training_part(trained):
    transformer = Transformer.read(trained.directory / "transformer.json")
    scaled = transformer.apply(Rows(load_dataset().train.features)).numbers
    assert np.abs(scaled.mean(axis=0)).max() < 1e-5
    assert np.abs(scaled.std(axis=0) - 1).max() < 1e-5
