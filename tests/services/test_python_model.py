"""A user's own class, as docs/inference.md shows it."""

import asyncio

import numpy as np
import pytest

from services.contract import directory_digest
from services.inference.core.batcher import Batcher, BatchLimits
from services.inference.core.errors import InvalidArtifact, InvalidValue, PredictionFailed, UntrustedArtifact
from services.inference.core.runtime import Artifact
from services.inference.core.types import Rows
from services.inference.runtimes.detect import load_runtime
from services.inference.runtimes.torch_module import TorchOptions

CONFIG = """
format: slipway-python/1
model: model.py:Model
inputs: [{name: x, datatype: FP32, shape: [-1, 2]}]
outputs: [{name: y, datatype: FP32, shape: [-1]}]
"""
CODE = """
import json

class Model:
    def load(self, directory):
        self.weights = json.loads((directory / "weights.json").read_text())

    def preprocess(self, inputs, parameters):
        if (inputs["x"] < 0).any():
            raise ValueError("x is negative")
        return {"doubled": inputs["x"] * 2, "count": inputs["x"][:, 0] * 0 + 1}

    def predict(self, inputs, parameters):
        scale = parameters.get("scale", 1)
        return {"y": (inputs["doubled"] * self.weights).sum(axis=1) * scale + inputs["count"]}

    def postprocess(self, outputs, parameters):
        return {"y": outputs["y"] - 1}
"""


def made(directory, code=CODE, config=CONFIG, *, verified=True):
    directory.mkdir(exist_ok=True)
    (directory / "config.yaml").write_text(config)
    (directory / "model.py").write_text(code)
    (directory / "weights.json").write_text("[1, 10]")
    return Artifact(directory=directory, digest=directory_digest(directory), verified=verified, version="1")


def rows(*values):
    return Rows(np.array(values, dtype=np.float32))


def test_the_class_is_loaded_and_its_steps_run_in_order(tmp_path):
    runtime = load_runtime(made(tmp_path / "m"), TorchOptions())
    found = runtime.predict(runtime.transform(rows([1, 1], [2, 0])), (("scale", 10),))
    assert found["y"].tolist() == [220, 40]
    assert found["y"].dtype == np.float32


def test_what_preprocess_refuses_is_the_callers_error(tmp_path):
    runtime = load_runtime(made(tmp_path / "m"), TorchOptions())
    with pytest.raises(InvalidValue, match="x is negative"):
        runtime.transform(rows([-1, 1]))


def test_only_predict_is_needed(tmp_path):
    code = "class Model:\n    def predict(self, inputs, parameters):\n        return {'y': inputs['x'].sum(axis=1)}\n"
    runtime = load_runtime(made(tmp_path / "m", code), TorchOptions())
    assert runtime.predict(runtime.transform(rows([1, 2])), ())["y"].tolist() == [3]


IN_PLACE = """
import numpy as np

class Model:
    answers = np.zeros(8, np.float32)

    def preprocess(self, inputs, parameters):
        inputs["x"] *= 2
        return inputs

    def predict(self, inputs, parameters):
        inputs["x"] += 1
        answers = self.answers[:len(inputs["x"])]
        answers[:] = inputs["x"].sum(axis=1)
        return {"y": answers}
"""


def test_a_class_may_write_to_its_inputs_and_use_its_outputs_again(tmp_path):
    runtime = load_runtime(made(tmp_path / "m", IN_PLACE), TorchOptions())
    asked = Rows(np.frombuffer(np.array([1, 2], dtype=np.float32).tobytes(), dtype=np.float32).reshape(1, 2))
    assert not asked.numbers.flags.writeable, "as the body of a binary request is"

    async def scenario():
        batcher = Batcher(runtime.predict, BatchLimits())
        first = await batcher.infer(runtime.transform(asked))
        second = await batcher.infer(runtime.transform(rows([10, 20])))
        await batcher.close(5)
        return first["y"].tolist(), second["y"].tolist()

    assert asyncio.run(scenario()) == ([8], [62])
    assert asked.numbers.tolist() == [[1, 2]]


def test_code_is_not_run_without_a_digest_that_vouches_for_it(tmp_path):
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n{CODE}"
    with pytest.raises(UntrustedArtifact):
        load_runtime(made(tmp_path / "m", code, verified=False), TorchOptions())
    assert not (tmp_path / "ran").exists()


def test_two_versions_of_one_file_do_not_meet(tmp_path):
    first = load_runtime(made(tmp_path / "a"), TorchOptions())
    second = load_runtime(made(tmp_path / "b", CODE.replace("* 2", "* 3")), TorchOptions())
    answers = [runtime.predict(runtime.transform(rows([1, 0])), ())["y"].tolist() for runtime in (first, second)]
    assert answers == [[2], [3]]


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        (CONFIG.replace("Model\n", "Other\n"), CODE, "Other"),
        (CONFIG.replace("model.py:Model", "../model.py:Model"), CODE, "model"),
        (CONFIG.replace("FP32", "FLOAT"), CODE, "FLOAT"),
        (CONFIG, "import no_such_module", "no_such_module"),
        (CONFIG, CODE.replace('return {"y": outputs["y"] - 1}', 'return {"z": 1}'), "returned"),
    ],
)
def test_a_class_that_does_not_fit_its_config_is_refused_at_load(tmp_path, config, code, message):
    with pytest.raises(InvalidArtifact, match=message):
        load_runtime(made(tmp_path / "m", code, config), TorchOptions())


def test_an_answer_of_another_form_is_the_models_failure(tmp_path):
    code = """
class Model:
    def predict(self, inputs, parameters):
        return {"y": inputs["x"][:, 0]} if inputs["x"][0, 0] == 0 else 7
"""
    runtime = load_runtime(made(tmp_path / "m", code), TorchOptions())
    with pytest.raises(PredictionFailed, match="int"):
        runtime.predict(rows([1, 1]), ())
