"""The flow on disk, with a model without a framework: what is committed, what is kept, what is refused."""

import hashlib
import io
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from services.inference.adapters.batch import job as jobs
from services.inference.adapters.batch.errors import InvalidInput, Overtaken, StoreUnavailable, TooManyRefused
from services.inference.adapters.batch.job import BatchJob, Spec
from services.inference.adapters.batch.progress import Progress
from services.inference.adapters.batch.ray_engine import score_on_ray
from services.inference.adapters.batch.stores import LocalStore
from services.inference.batch_settings import prepare_prefect
from tests.services.scored_tables import AT, HalfTheAmount, pipeline_of, rows, write


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a job's flow in this process, as its own process would."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "environ", dict(os.environ))
        prepare_prefect(tmp_path_factory.mktemp("cache"), None)
        # Prefect reads its settings when it is imported, and has to find them then.
        from services.inference.adapters.batch import flow  # noqa: PLC0415
        from services.inference.adapters.batch.orchestration import api  # noqa: PLC0415

        patched.setattr(flow, "RETRY_SECONDS", [0.0, 0.0, 0.0])

        def runs(job):
            with api(None):
                return flow.batch_inference(job)("in", "out", "model")

        yield runs


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "scratch").mkdir()
    return Spec(
        input=str(write(tmp_path / "in", {"a.parquet": rows(350), "b.parquet": rows(130, 350)})),
        output=str(tmp_path / "out"),
        part_rows=150,
        timestamp=AT,
        scratch=tmp_path / "scratch",
    )


def job_of(spec, runtime=None, **keys):
    return BatchJob(pipeline=pipeline_of(runtime, **keys), spec=spec, progress=Progress())


def manifest_of(spec):
    return json.loads((Path(spec.output) / "_manifest.json").read_bytes())


def read(spec, what="parts"):
    return pa.concat_tables([pq.read_table(f"{spec.output}/{part['key']}") for part in manifest_of(spec)[what]])


def objects(spec):
    return [entry.key for entry in LocalStore(Path(spec.output)).list()]


def test_the_output_has_the_inputs_columns_and_ours(run, spec):
    manifest, made = run(job_of(spec))
    assert made
    found = read(spec)
    expected = rows(480)
    assert found.select(expected.column_names).equals(expected), "rows come as they went, in order"
    assert pc.all(pc.equal(found["probability"], pc.divide(expected["amount"], 2).cast(pa.float32()))).as_py()
    assert found["model_version"].unique().to_pylist() == ["7"]
    assert found.schema.field("inference_timestamp").type == pa.timestamp("us", tz="UTC")
    assert found["inference_timestamp"].unique().to_pylist() == [AT]
    assert manifest["rows"] == 480
    assert [part["rows"] for part in manifest["parts"]] == [200, 150, 130], "they end at row groups"
    assert sorted(objects(spec)) == sorted(["_manifest.json", *(part["key"] for part in manifest["parts"])])
    for part in manifest["parts"]:
        content = (Path(spec.output) / part["key"]).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (part["sha256"], part["bytes"])


def test_a_finished_job_is_not_done_again(run, spec):
    run(job_of(spec))
    before = {path: path.stat().st_mtime_ns for path in Path(spec.output).rglob("*")}
    later = replace(spec, timestamp=AT.replace(year=2027))
    manifest, made = run(job_of(later, HalfTheAmount(poison=0.0)))
    assert not made
    assert manifest == manifest_of(spec)
    assert {path: path.stat().st_mtime_ns for path in Path(spec.output).rglob("*")} == before


def test_another_model_or_input_replaces_the_table_and_leaves_nothing_of_the_old(run, spec):
    run(job_of(spec))
    old = set(objects(spec)) - {"_manifest.json"}
    run(job_of(spec, version="8"))
    assert read(spec)["model_version"].unique().to_pylist() == ["8"]
    assert not old & set(objects(spec))
    write(Path(spec.input), {"c.parquet": rows(10, 480)})
    manifest, made = run(job_of(spec, version="8"))
    assert (made, manifest["rows"]) == (True, 490)


def test_columns_may_be_left_out(run, spec):
    run(job_of(replace(spec, passthrough=("id",))))
    assert read(spec).column_names == ["id", "prediction", "probability", "model_version", "inference_timestamp"]
    run(job_of(replace(spec, passthrough=())))
    assert read(spec).column_names == ["prediction", "probability", "model_version", "inference_timestamp"]


def test_a_column_that_is_not_there_or_that_we_add_is_refused(run, spec):
    with pytest.raises(InvalidInput, match="passthrough 'idd' → a column of"):
        run(job_of(replace(spec, passthrough=("idd",))))
    write(Path(spec.input), {f"{name}.parquet": rows(5, prediction=pa.array([1] * 5)) for name in "ab"})
    with pytest.raises(InvalidInput, match="column 'prediction' → a job adds a column of that name"):
        run(job_of(spec))
    assert not Path(spec.output).exists()


def test_an_output_may_be_an_input(run, spec):
    run(job_of(replace(spec, passthrough=("id", "amount", "count", "site"))))
    again = replace(spec, input=spec.output, output=f"{spec.output}-2", passthrough=("id",))
    manifest, _ = run(job_of(again))
    assert manifest["rows"] == 480, "of the parts of the manifest, though their folder is no data of its own"


def bad_rows(spec):
    amounts = (rows(350)["amount"].to_numpy()).copy()
    amounts[[3, 340]] = float("nan")
    amounts[100] = 7.0
    sites = rows(350)["site"].to_pylist()
    sites[5] = "nowhere"
    sites[6] = None
    write(Path(spec.input), {"a.parquet": rows(350, amount=pa.array(amounts), site=pa.array(sites))})


def test_rows_that_cannot_be_scored_go_to_the_quarantine_with_their_reasons(run, spec):
    bad_rows(spec)
    manifest, _ = run(job_of(replace(spec, quarantine_share=0.01), HalfTheAmount(poison=7.0)))
    assert (manifest["rows"], manifest["refused"]) == (476, 4)
    found = read(spec, "quarantine")
    assert found["source_file"].unique().to_pylist() == ["a.parquet"]
    assert found["source_row"].to_pylist() == [3, 5, 100, 340], "numbers of the rows in their file, from 0"
    assert found["error"].to_pylist() == ["invalid_value", "invalid_value", "prediction_failed", "invalid_value"]
    assert found["message"][0].as_py().startswith("feature 'amount' is nan → it is a finite number")
    assert found["id"].to_pylist() == [3, 5, 100, 340], "the row as it was"
    assert found["site"][1].as_py() == "nowhere"
    assert set(read(spec)["id"].to_pylist()) == set(range(480)) - {3, 5, 100, 340}
    assert read(spec).filter(pc.equal(read(spec)["id"], 6))["site"].to_pylist() == [None]


def test_a_column_of_a_name_of_the_quarantines_keeps_its_values_there(run, spec):
    bad = rows(
        350,
        amount=pa.array([float("nan")] * 350),
        message=pa.array([f"from {number}" for number in range(350)]),
        row_message=pa.array(["under a name that would do"] * 350),
    )
    write(Path(spec.input), {"a.parquet": bad, "b.parquet": bad})
    run(job_of(replace(spec, quarantine_share=1.0)))
    found = read(spec, "quarantine")
    assert found["message"][0].as_py().startswith("feature 'amount' is nan")
    assert found["row_message"][1].as_py() == "under a name that would do"
    assert found["row_row_message"][1].as_py() == "from 1"


def test_beyond_the_threshold_nothing_is_committed_and_nothing_stays(run, spec):
    run(job_of(spec))
    committed = objects(spec)
    bad_rows(spec)
    job = job_of(replace(spec, quarantine_share=0.005), HalfTheAmount(poison=7.0))
    with pytest.raises(TooManyRefused, match=r"rows cannot be scored.*a\.parquet, row 3: .* at most 2 may be refused"):
        run(job)
    job.abandon()
    assert objects(spec) == committed, "the table of before is still there, and no part of this job"


class Failing(LocalStore):
    """A disk that fails for a while: the `fails`-th writes of parts, counted over its life."""

    def __init__(self, root, fails):
        super().__init__(root)
        self.fails = set(fails)
        self.taken = 0

    def take(self, path, key):
        self.taken += 1
        if self.taken in self.fails:
            raise StoreUnavailable("disk: full", "there is room", "make some")
        super().take(path, key)


@pytest.fixture
def failing(monkeypatch, spec):
    def fails(*at):
        store = Failing(Path(spec.output), at)
        real = jobs.open_store
        monkeypatch.setattr(
            jobs, "open_store", lambda uri, endpoint: store if uri == spec.output else real(uri, endpoint)
        )
        return store

    return fails


def test_what_may_pass_is_tried_again_three_times(run, spec, failing):
    store = failing(1, 2, 4)
    manifest, made = run(job_of(spec))
    assert made
    assert store.taken == 6, "three parts and three tries more"
    assert manifest["rows"] == 480


def test_what_does_not_pass_ends_the_job_and_the_next_one_goes_on_from_there(run, spec, failing, monkeypatch):
    store = failing(*range(2, 60))
    with pytest.raises(StoreUnavailable):
        run(job_of(spec))
    assert not (Path(spec.output) / "_manifest.json").exists()
    store.fails = set()
    written = store.taken
    later = replace(spec, timestamp=AT.replace(year=2027))
    run(job_of(later))
    assert store.taken - written == 2, "one of three parts was there"
    assert read(spec)["inference_timestamp"].unique().to_pylist() == [AT], "one job, one time, whoever ends it"


def test_a_run_that_has_only_to_commit_starts_no_cluster(spec):
    first = job_of(spec)
    plan = first.prepare()
    for part in plan.todo:
        first.score(plan, part)
    plan = job_of(spec).prepare()
    assert plan.done.keys() == {part.number for part in plan.parts}
    assert list(score_on_ray(plan, pipeline_of, 2, 0, spec.scratch / "ray")) == []


def test_two_runs_at_once_make_one_table(run, spec):
    found = []

    def one():
        found.append(run(job_of(spec)))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0][0] == found[1][0], "both tell of the same table"
    assert read(spec)["id"].to_pylist() == list(range(480))
    assert len(objects(spec)) == 4, "what one of them has written in vain is gone"


def test_a_job_that_another_one_overtook_fails_and_leaves_nothing(run, spec):
    slow, quick = job_of(spec), job_of(spec, version="8")
    plan = slow.prepare()
    run(quick)
    records = [slow.score(plan, part) for part in plan.parts]
    with pytest.raises(Overtaken, match=r"job .* committed meanwhile → one job at a time replaces a table"):
        slow.commit(plan, records)
    assert read(spec)["model_version"].unique().to_pylist() == ["8"]
    assert len(objects(spec)) == 4


def test_an_input_that_changes_under_way_is_told(run, spec):
    job = job_of(spec)
    plan = job.prepare()
    records = [job.score(plan, part) for part in plan.parts]
    write(Path(spec.input), {"c.parquet": rows(1)})
    with pytest.raises(Overtaken, match="changed while it was read"):
        job.commit(plan, records)
    assert objects(spec) == []


def test_a_page_that_cannot_be_read_is_told_by_file_and_nothing_is_committed(run, spec):
    path = Path(spec.input) / "b.parquet"
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"b\.parquet: .* → it is a whole parquet file"):
        run(job_of(spec))
    assert not (Path(spec.output) / "_manifest.json").exists()


def test_an_output_that_is_a_file_is_refused(run, spec):
    Path(spec.output).write_text("mine")
    with pytest.raises(InvalidInput, match="a table is a directory"):
        run(job_of(spec))
    assert Path(spec.output).read_text() == "mine"


def test_an_output_that_is_not_ours_is_left_alone(run, spec):
    Path(spec.output).mkdir()
    (Path(spec.output) / "_manifest.json").write_text('{"format": "another"}')
    with pytest.raises(InvalidInput, match="not of slipway-batch/1"):
        run(job_of(spec))


def test_partitions_are_columns_of_the_output(run, spec, tmp_path):
    write(tmp_path / "p", {f"year={year}/x.parquet": rows(20, year) for year in (2025, 2026)})
    run(job_of(replace(spec, input=str(tmp_path / "p"))))
    assert read(spec)["year"].to_pylist() == [2025] * 20 + [2026] * 20


def test_integers_beyond_what_a_float_counts_are_refused_not_rounded(run, spec):
    counts = [0] * 349 + [2**53 + 1]
    write(Path(spec.input), {"a.parquet": rows(350, count=pa.array(counts))})
    manifest, _ = run(job_of(replace(spec, quarantine_share=0.01)))
    assert manifest["refused"] == 1
    assert read(spec, "quarantine")["count"].to_pylist() == [2**53 + 1]


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self):
        return self.now


def test_progress_is_a_line_now_and_then_where_nobody_watches():
    clock, told = Clock(), io.StringIO()
    progress = Progress(told, clock)
    progress.begin(1000)
    progress.set(0, 500)
    progress.start()
    clock.now = 10
    progress.set(1, 100)
    assert told.getvalue() == ""
    clock.now = 25
    progress.set(1, 250)
    assert told.getvalue() == "750 of 1,000 rows (75%), 10 rows/s, 25 s left\n"
