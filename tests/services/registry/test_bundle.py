"""Bundles other than the example: every task, and what is wrong with a broken one."""

import json
import warnings

import numpy as np
import pytest
import torch
import yaml

from services.inference.core.batcher import BatchLimits
from services.inference.core.errors import InvalidArtifact
from services.inference.core.pipeline import Pipeline
from services.inference.core.schema import ModelInfo
from services.inference.core.types import Rows
from services.inference.runtimes.bundle import BundleRuntime

FEATURES = ["a", "b", "c"]


class Fixed(torch.nn.Module):
    """Answers a linear map that the test knows."""

    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows @ self.weights


def write(directory, weights, **config):
    directory.mkdir()
    base = {"format": "slipway-bundle/1", "name": "m", "required_features": FEATURES, "task": "regression"}
    (directory / "config.yaml").write_text(yaml.safe_dump({**base, "outputs": "values", **config}))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated", category=FutureWarning)
        torch.jit.script(Fixed(weights)).save(str(directory / "model.pt"))
    return directory


def answer(directory, rows):
    runtime = BundleRuntime.read(directory)
    return runtime.predict(runtime.transform(Rows(np.array(rows, dtype=float))), ())


def test_a_regression_answers_its_value(tmp_path):
    found = answer(write(tmp_path / "m", [[1.0], [10.0], [100.0]]), [[1, 2, 3], [0, 0, 0]])
    assert found["prediction"].tolist() == [321, 0]
    assert "probability" not in found


def test_binary_logits_get_a_sigmoid_and_the_threshold_is_inclusive(tmp_path):
    directory = write(
        tmp_path / "m", [[1.0], [0.0], [0.0]], task="binary_classification", outputs="logits", threshold=0.5
    )
    found = answer(directory, [[0, 0, 0], [-1, 0, 0], [1000, 0, 0], [-1000, 0, 0]])
    assert found["probability"].tolist() == pytest.approx([0.5, 1 / (1 + np.e), 1, 0])
    assert found["prediction"].tolist() == [1, 0, 1, 0]


def test_two_columns_of_a_binary_model_are_its_classes(tmp_path):
    weights = [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    directory = write(tmp_path / "m", weights, task="binary_classification", outputs="logits", threshold=0.7)
    assert answer(directory, [[1, 0, 0]])["probability"].tolist() == pytest.approx([np.e / (1 + np.e)])


def test_several_classes_answer_the_likeliest_and_all_probabilities(tmp_path):
    directory = write(tmp_path / "m", np.eye(3).tolist(), task="multiclass_classification", outputs="logits")
    found = answer(directory, [[0, 2, 0], [3, 0, 0]])
    assert found["prediction"].tolist() == [1, 0]
    assert found["probabilities"].sum(axis=1).tolist() == pytest.approx([1, 1])
    assert found["probability"].tolist() == pytest.approx(found["probabilities"].max(axis=1).tolist())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "slipway-bundle/9"}, "format"),
        ({"thresold": 0.5}, "thresold"),
        ({"required_features": []}, "required_features"),
        ({"required_features": ["a", "a", "b"]}, "twice"),
        ({"task": "binary_classification", "outputs": "logits"}, "threshold"),
        ({"outputs": "logits"}, "outputs"),
        ({"required_features": ["a", "b"]}, "model.pt"),
        ({"task": "multiclass_classification", "outputs": "logits"}, "shape"),
    ],
)
def test_a_bundle_that_does_not_fit_together_is_refused_when_loaded(tmp_path, change, said):
    weights = [1.0, 1.0, 1.0] if change.get("task") == "multiclass_classification" else [[1.0], [1.0], [1.0]]
    with pytest.raises(InvalidArtifact, match=said):
        BundleRuntime.read(write(tmp_path / "m", weights, **change))


def test_a_transformer_for_other_features_is_refused(tmp_path):
    directory = write(tmp_path / "m", [[1.0], [1.0], [1.0]])
    columns = [{"name": name, "kind": "numeric"} for name in ("a", "c", "b")]
    (directory / "transformer.json").write_text(json.dumps({"format": "slipway-transformer/1", "columns": columns}))
    with pytest.raises(InvalidArtifact, match="same order"):
        BundleRuntime.read(directory)


def test_a_python_pickle_named_model_pt_is_never_unpickled(tmp_path):
    directory = write(tmp_path / "m", [[1.0], [1.0], [1.0]])
    mark = tmp_path / "mark"

    class Mark:
        def __reduce__(self):
            return (open, (str(mark), "w"))

    torch.save({"weights": Mark()}, directory / "model.pt")
    with pytest.raises(InvalidArtifact, match=r"model\.pt"):
        BundleRuntime.read(directory)
    assert not mark.exists(), "a bundle needs no digest because nothing in it is unpickled"


def test_a_batch_job_gets_the_answers_that_single_rows_get_whatever_the_batches(bundle, golden):
    runtime = BundleRuntime.read(bundle)
    info = ModelInfo(name="m", version="1", release="r", digest="", metadata=runtime.metadata)
    pipeline = Pipeline(runtime, info, BatchLimits(max_rows=7))
    features = np.array([list(row["features"].values()) for row in golden])
    batches = [Rows(features[:1]), Rows(features[1:30]), Rows(features[30:])]
    taken = []

    def reading():
        for batch in batches:
            taken.append(len(batch))
            yield batch

    answers = pipeline.infer_many(reading())
    first = next(answers)
    assert taken == [1], "a batch job holds one batch at a time"
    found = [first, *answers]
    assert [len(scored.kept) for scored in found] == [1, 29, 10]
    given = np.concatenate([scored.outputs["probability"] for scored in found])
    assert given.tolist() == pytest.approx([row["probability"] for row in golden], abs=1e-6)
