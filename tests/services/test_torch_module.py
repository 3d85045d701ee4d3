"""How torch runs models here: on the CPU; a GPU's path is the same code but for its copies."""

import numpy as np
import pytest
import torch

from services.contract import Env
from services.inference.core.errors import InvalidArtifact
from services.inference.runtimes.torch_module import TorchModule, TorchOptions
from services.inference.settings import Settings

ROWS = np.random.default_rng(1).standard_normal((7, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3)).eval()


@pytest.fixture(scope="module")
def scripted(module):
    with pytest.warns(FutureWarning, match="deprecated"):
        return torch.jit.freeze(torch.jit.script(module))


def test_a_gpu_is_taken_where_there_is_one_and_refused_by_name_where_there_is_none(module):
    assert TorchModule(module, TorchOptions(device="auto")).device == "cpu"
    for device in ("cuda", "cuda:3"):
        with pytest.raises(InvalidArtifact, match=rf"device '{device}' → torch sees no GPU .* → give the pod one"):
            TorchModule(module, TorchOptions(device=device))


@pytest.mark.parametrize("kind", ["module", "scripted"])
def test_bfloat16_answers_in_float32_and_nearly_the_same(kind, request):
    module = request.getfixturevalue(kind)
    ((_, exact),) = TorchModule(module)(ROWS)
    ((_, rounded),) = TorchModule(module, TorchOptions(precision="bfloat16"))(ROWS)
    assert rounded.dtype == exact.dtype == np.float32
    assert np.abs(rounded - exact).max() < 0.05
    assert not np.array_equal(rounded, exact), "it was computed in bfloat16"


@pytest.mark.slow
def test_a_compiled_module_answers_as_the_module_does(module):
    ((_, plain),) = TorchModule(module)(ROWS)
    ((_, compiled),) = TorchModule(module, TorchOptions(compile="default"))(ROWS)
    assert np.allclose(plain, compiled, atol=1e-5)


def test_torchscript_is_not_compiled_and_says_so(scripted):
    with pytest.raises(InvalidArtifact, match="SLIPWAY_TORCH_COMPILE"):
        TorchModule(scripted, TorchOptions(compile="default"))


class Exhausted(torch.nn.Module):
    """Has memory for three rows."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError
        return x.sum(dim=1)


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    module = Exhausted()
    ((_, found),) = TorchModule(module)(ROWS)
    assert np.allclose(found, ROWS.sum(axis=1))
    assert module.seen == [7, 3, 4, 2, 2]


def settings(**more):
    given = {Env.MODEL_NAME: "m", Env.MODEL_URI: "dir", **more}
    return Settings(**{str(key): value for key, value in given.items()})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({Env.TORCH_COMPILE: "default"}, "SLIPWAY_TORCH_COMPILE is default → .* → set SLIPWAY_BATCH_BUCKETS"),
        ({Env.BATCH_BUCKETS: "4,2"}, "SLIPWAY_BATCH_BUCKETS.*ascend"),
        ({Env.BATCH_BUCKETS: "1,x"}, "SLIPWAY_BATCH_BUCKETS"),
        ({Env.BATCH_PADDING: "true"}, "SLIPWAY_BATCH_BUCKETS"),
        ({Env.BATCH_BUCKETS: "1,8", Env.MAX_BATCH_ROWS: "4"}, "bucket 8"),
        ({Env.DEVICE: "tpu"}, "SLIPWAY_DEVICE"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_by_name(given, words):
    with pytest.raises(ValueError, match=words):
        settings(**given)


def test_buckets_alone_bound_the_batches():
    limits = settings(**{Env.BATCH_BUCKETS: "1, 8,64", Env.BATCH_PADDING: "true"}).batch_limits()
    assert (limits.max_rows, limits.buckets, limits.pad) == (64, (1, 8, 64), True)
    limits = settings(**{Env.BATCH_BUCKETS: "8,64", Env.MAX_BATCH_ROWS: "100"}).batch_limits()
    assert (limits.max_rows, limits.buckets, limits.pad) == (100, (8, 64), False)


def test_kafkas_properties_are_read_and_an_error_does_not_tell_what_may_be_a_secret(tmp_path):
    file = tmp_path / "kafka.properties"
    file.write_text("# of the broker\nsasl.username = me\nsasl.password=a=b\n\n")
    assert settings(**{Env.KAFKA_PROPERTIES: str(file)}).kafka() == {"sasl.username": "me", "sasl.password": "a=b"}
    file.write_text("sasl.username=me\nhunter2\n")
    with pytest.raises(ValueError, match="entry 2: it has no '='") as refused:
        settings(**{Env.KAFKA_PROPERTIES: str(file)})
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ValueError, match=r"SLIPWAY_KAFKA_PROPERTIES: .*No such file"):
        settings(**{Env.KAFKA_PROPERTIES: str(tmp_path / "none")})
