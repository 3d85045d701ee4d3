"""`slipway batch run` with a model of numpy alone: one run, a span of days, what is refused before anything starts."""

import json
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from services.contract import directory_digest
from tools import batch
from tools.cli.batch import app
from tools.steps import StepError

CONFIG = """
format: slipway-python/1
model: model.py:Model
inputs: [{name: x, datatype: FP32, shape: [-1, 2]}]
outputs: [{name: prediction, datatype: FP32, shape: [-1]}]
"""
CODE = """
class Model:
    def predict(self, inputs, parameters):
        return {"prediction": inputs["x"].sum(axis=1)}
"""


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "sums"
    directory.mkdir()
    (directory / "config.yaml").write_text(CONFIG)
    (directory / "model.py").write_text(CODE)
    return ["--model", str(directory), "--digest", directory_digest(directory)]


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    for day in (1, 3):
        path = tmp_path / f"in/date=2026-11-0{day}/t.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"x": pa.array([[1.0, day]] * 4, pa.list_(pa.float32()))}), path)
    return f"{tmp_path}/in/date={{date}}", f"{tmp_path}/out/date={{date}}"


@pytest.mark.slow
def test_a_span_is_a_run_for_each_day_and_a_day_that_fails_keeps_no_other(table, model, tmp_path, capfd):
    options = ["run", *table, *model, "--from", "2026-11-01", "--to", "2026-11-03", "-o", "json"]
    found = CliRunner().invoke(app, options)
    runs = json.loads(found.stdout)
    assert [(each["day"], each["code"]) for each in runs] == [("2026-11-01", 0), ("2026-11-02", 3), ("2026-11-03", 0)]
    assert found.exit_code == 3, "scripts must see that a day is missing"
    assert "date=2026-11-02: no parquet file" in capfd.readouterr().err
    for day in (1, 3):
        out = tmp_path / f"out/date=2026-11-0{day}"
        (part,) = json.loads((out / "_manifest.json").read_text())["parts"]
        assert pq.read_table(out / part["key"])["prediction"].to_pylist() == [1.0 + day] * 4


def test_days_are_those_from_the_first_to_the_last():
    assert batch.days(date(2026, 2, 27), date(2026, 3, 1)) == [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--date", "2026-11-01", "--from", "2026-11-01"], "--date and --from: both given"),
        (["--from", "2026-11-01"], "--from: without --to"),
        (["--to", "2026-11-01"], "--to: without --from"),
        (["--from", "2026-11-02", "--to", "2026-11-01"], "before --from 2026-11-02"),
        (["--from", "1026-11-02", "--to", "2026-11-01"], "at most 3660 at once"),
        (["--date", "2026-11-01"], "no {date} in it"),
    ],
)
def test_days_that_make_no_sense_are_refused_before_anything_runs(options, told, model):
    found = CliRunner().invoke(app, ["run", "in", "out", *model, *options])
    assert isinstance(found.exception, StepError)
    assert told in str(found.exception)
    assert str(found.exception).count("→") == 2
