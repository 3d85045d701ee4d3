"""A pickled transformer: read where the manifest names its digest, and nowhere else."""

import hashlib
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from services.inference.core.errors import InvalidArtifact, UntrustedArtifact
from services.inference.core.types import Rows
from services.inference.runtimes.bundle import BundleRuntime
from tests.services.registry.test_bundle import FEATURES, write

ROWS = np.array([[1.0, 10.0, 0.0], [2.0, 20.0, 1.0], [3.0, 60.0, 1.0]])


class Marks:
    """Leaves a mark when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def bundle(directory, transformer, manifest=None):
    content = pickle.dumps(transformer)
    digest = hashlib.sha256(content).hexdigest()
    write(directory, [1.0, 10.0, 100.0])
    (directory / "transformer.pkl").write_bytes(content)
    if manifest is not None:
        (directory / "manifest.json").write_text(json.dumps({"transformer.pkl": manifest.format(digest)}))
    return directory


@pytest.mark.parametrize("manifest", ["{}", "sha256:{}"])
def test_one_that_the_manifest_vouches_for_transforms_the_features(tmp_path, manifest):
    scaler = StandardScaler().fit(ROWS)
    runtime = BundleRuntime.read(bundle(tmp_path / "b", scaler, manifest))
    expected = scaler.transform(ROWS) @ [1.0, 10.0, 100.0]
    found = runtime.predict(runtime.transform(Rows(ROWS)), ())["prediction"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_one_that_works_in_place_leaves_the_request_as_it_was(tmp_path):
    scaler = StandardScaler(copy=False).fit(ROWS.copy())
    runtime = BundleRuntime.read(bundle(tmp_path / "b", scaler, "{}"))
    asked = Rows(ROWS.copy())
    expected = StandardScaler().fit_transform(ROWS) @ [1.0, 10.0, 100.0]
    assert runtime.predict(runtime.transform(asked), ())["prediction"] == pytest.approx(expected, rel=1e-5)
    assert asked.numbers.tolist() == ROWS.tolist()


def test_one_that_was_fitted_on_a_frame_gets_its_columns_by_name_and_may_give_a_sparse_matrix(tmp_path):
    frame = pd.DataFrame(ROWS, columns=FEATURES)
    picking = ColumnTransformer([("a", "passthrough", ["a"]), ("c", OneHotEncoder(), ["c"])], sparse_threshold=1.0)
    runtime = BundleRuntime.read(bundle(tmp_path / "b", picking.fit(frame), "{}"))
    found = runtime.predict(runtime.transform(Rows(ROWS)), ())["prediction"]
    assert found.tolist() == [1 + 10, 2 + 100, 3 + 100]


@pytest.mark.parametrize("manifest", [None, "0" * 64, "", "sha256:"])
def test_one_that_nothing_vouches_for_is_never_unpickled(tmp_path, manifest):
    mark = tmp_path / "mark"
    with pytest.raises(UntrustedArtifact, match=r"transformer\.pkl"):
        BundleRuntime.read(bundle(tmp_path / "b", Marks(str(mark)), manifest))
    assert not mark.exists(), "reading it would have run its code"


def test_one_that_cannot_be_read_here_says_so(tmp_path):
    directory = bundle(tmp_path / "b", StandardScaler().fit(ROWS), "{}")
    content = (directory / "transformer.pkl").read_bytes()[:-20]
    (directory / "transformer.pkl").write_bytes(content)
    (directory / "manifest.json").write_text(json.dumps({"transformer.pkl": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(InvalidArtifact, match="versions of this service"):
        BundleRuntime.read(directory)
