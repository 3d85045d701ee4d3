"""Models logged by MLflow's own flavours, and our bundle loaded by MLflow's own loader."""

import asyncio

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from services.contract import directory_digest
from services.inference.core.batcher import Batcher, BatchLimits
from services.inference.core.errors import InvalidValue, UntrustedArtifact
from services.inference.core.runtime import Artifact
from services.inference.core.schema import Kind
from services.inference.core.types import Rows
from services.inference.runtimes.detect import load_runtime
from services.inference.runtimes.torch_module import TorchOptions


def artifact(directory, *, verified=True):
    return Artifact(directory=directory, digest=directory_digest(directory), verified=verified, version="1")


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    """A scikit-learn model over a data frame of mixed columns, and what it answers in this process."""
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"amount": random.normal(size=60), "items": random.integers(0, 9, 60)})
    model = RandomForestClassifier(n_estimators=5, random_state=1).fit(frame, frame["items"] > 4)
    directory = tmp_path_factory.mktemp("forest") / "model"
    mlflow.sklearn.save_model(
        model,
        directory,
        serialization_format="cloudpickle",
        signature=ModelSignature(
            Schema([ColSpec("double", "amount"), ColSpec("long", "items")]), Schema([ColSpec("boolean")])
        ),
        pip_requirements=["scikit-learn"],
    )
    return directory, frame, model.predict(frame)


def test_a_scikit_learn_model_answers_as_in_the_process_that_made_it(forest):
    directory, frame, expected = forest
    runtime = load_runtime(artifact(directory), TorchOptions())
    assert [feature.kind for feature in runtime.metadata.schema.features] == [Kind.FLOAT, Kind.INTEGER]
    found = runtime.predict(runtime.transform(Rows(frame.to_numpy(dtype=float))), ())
    assert found["prediction"].tolist() == expected.tolist()
    with pytest.raises(InvalidValue, match="'temperature'"):
        runtime.predict(Rows(frame.to_numpy(dtype=float)), (("temperature", 1),))


def test_a_classifier_answers_its_probabilities_too(forest):
    directory, frame, _ = forest
    runtime = load_runtime(artifact(directory), TorchOptions())
    assert runtime.metadata.platform == "mlflow_sklearn"
    model = mlflow.sklearn.load_model(directory)
    found = runtime.predict(runtime.transform(Rows(frame.to_numpy(dtype=float))), ())
    assert found["probability"].tolist() == model.predict_proba(frame)[:, 1].tolist()
    assert runtime.metadata.score == "probability"


def test_an_answer_is_the_same_alone_and_beside_a_request_of_another_number_type(tmp_path):
    frame = pd.DataFrame({"amount": np.random.default_rng(1).normal(1e4, 1, size=60)})
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(frame, frame["amount"] ** 2)
    mlflow.sklearn.save_model(
        model,
        tmp_path / "model",
        serialization_format="cloudpickle",
        signature=ModelSignature(Schema([ColSpec("double", "amount")]), Schema([ColSpec("double")])),
        pip_requirements=["scikit-learn"],
    )
    runtime = load_runtime(artifact(tmp_path / "model"), TorchOptions())
    single = Rows(frame.to_numpy(dtype=np.float32))
    double = Rows(frame.to_numpy(dtype=np.float64))

    async def scenario():
        batcher = Batcher(runtime.predict, BatchLimits(inline=False))
        alone = await batcher.infer(runtime.transform(single))
        beside, _ = await asyncio.gather(*(batcher.infer(runtime.transform(each)) for each in (single, double)))
        await batcher.close(5)
        return alone["prediction"].tolist(), beside["prediction"].tolist()

    alone, beside = asyncio.run(scenario())
    assert alone == beside


def test_a_pipeline_that_picks_columns_by_name_gets_a_frame(forest, tmp_path):
    _, frame, _ = forest
    picking = ColumnTransformer([("one", StandardScaler(), ["items"])])
    model = make_pipeline(picking, LinearRegression()).fit(frame, frame["amount"])
    signature = ModelSignature(Schema([ColSpec("double", "amount"), ColSpec("long", "items")]))
    mlflow.sklearn.save_model(
        model,
        tmp_path / "model",
        serialization_format="cloudpickle",
        signature=signature,
        pip_requirements=["scikit-learn"],
    )
    runtime = load_runtime(artifact(tmp_path / "model"), TorchOptions())
    assert runtime.metadata.platform == "mlflow_pyfunc"
    found = runtime.predict(runtime.transform(Rows(frame.to_numpy(dtype=float))), ())
    assert found["prediction"] == pytest.approx(model.predict(frame))


def test_a_pickled_flavour_is_refused_without_a_verified_digest(forest):
    with pytest.raises(UntrustedArtifact, match="SLIPWAY_MODEL_DIGEST"):
        load_runtime(artifact(forest[0], verified=False), TorchOptions())


def test_a_pytorch_flavour_is_run_without_mlflow_around_it(tmp_path):
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())
    rows = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    expected = module(torch.from_numpy(rows)).detach().numpy()
    directory = tmp_path / "model"
    mlflow.pytorch.save_model(
        module,
        directory,
        serialization_format="pickle",
        signature=infer_signature(rows, expected),
        pip_requirements=["torch"],
    )
    runtime = load_runtime(artifact(directory), TorchOptions())
    assert runtime.metadata.platform == "mlflow_pytorch"
    assert runtime.metadata.outputs[0].shape == (-1, 3)
    found = runtime.predict(Rows(rows), ())
    assert np.allclose(found["prediction"], expected, atol=1e-6)


def test_mlflows_own_loader_answers_the_golden_rows(mlflow_server, registered, golden, tmp_path):
    client = mlflow.MlflowClient(mlflow_server, mlflow_server)
    location = client.get_model_version_download_uri(registered.name, registered.version)
    local = mlflow.artifacts.download_artifacts(
        artifact_uri=location, dst_path=str(tmp_path), tracking_uri=mlflow_server
    )
    function = mlflow.pyfunc.load_model(local)
    answer = function.predict(pd.DataFrame([row["features"] for row in golden]))
    assert answer["probability"].tolist() == pytest.approx([row["probability"] for row in golden], abs=1e-6)
    assert answer["prediction"].tolist() == [row["prediction"] for row in golden]
    assert function.metadata.signature is not None
    assert function.input_example is not None, "the registered model has an input example"
