"""A batch model on the cluster: its CronJob, triggered once, scores a table of the platform's own S3."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

MODEL = "breast-cancer-nightly"
NAMESPACE = "slipway-models"

WRITE = """
import json, os, sys
import pyarrow as pa, pyarrow.parquet as pq
from pyarrow import fs
rows = json.loads(sys.argv[1])
store = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL_S3"], region=os.environ["AWS_DEFAULT_REGION"])
place = os.environ["SLIPWAY_BATCH_INPUT"].removeprefix("s3://")
table = pa.Table.from_pylist(rows).append_column("patient", pa.array(range(len(rows))))
pq.write_table(table, place + "/rows.parquet", filesystem=store)
"""

READ = """
import json, os
import pyarrow.parquet as pq
from pyarrow import fs
store = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL_S3"], region=os.environ["AWS_DEFAULT_REGION"])
place = os.environ["SLIPWAY_BATCH_OUTPUT"].removeprefix("s3://")
manifest = json.loads(store.open_input_stream(place + "/_manifest.json").read())
tables = [pq.read_table(place + "/" + part["key"], filesystem=store) for part in manifest["parts"]]
rows = [row for table in tables for row in table.to_pylist()]
print(json.dumps({"rows": rows, "columns": list(rows[0])}, default=str))
"""
"""Both run as the job does: its image, its identity, its credentials."""


@pytest.fixture(scope="module")
def nightly(site):
    """The site with a batch model; as it was in the end."""
    original = site.stack_file.read_text()

    def add(config):
        config["slipway:models"][MODEL] = {
            "kind": "batch",
            "model": "models:/breast-cancer/1",
            "input": "features/patients",
            "output": "predictions/patients",
            "schedule": "0 2 * * *",
            "passthrough": ["patient"],
        }

    try:
        site.edit(add)
        site.slipway("up")
        yield site
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")
    site.pulumi("preview", "--expect-no-changes")


def run_as_the_job(site, name, command=None):
    """Make a Job of the CronJob, with another command where one is given, and return what it printed."""
    job = json.loads(
        site.kubectl(
            "create", "job", name, "-n", NAMESPACE, f"--from=cronjob/{MODEL}", "--dry-run=client", "-o", "json"
        )
    )
    if command is not None:
        job["spec"]["template"]["spec"]["containers"][0]["command"] = command
    site.kubectl("create", "-f", "-", stdin=json.dumps(job))
    try:
        site.kubectl("wait", "-n", NAMESPACE, f"job/{name}", "--for=condition=Complete", "--timeout=150s", timeout=170)
        return site.kubectl("logs", "-n", NAMESPACE, f"job/{name}")
    finally:
        site.kubectl("delete", "-n", NAMESPACE, f"job/{name}", "--cascade=foreground")


def test_a_cronjob_triggered_once_scores_the_table_as_the_service_scores_its_rows(nightly):
    golden = nightly.artifact("1", "data/bundle/golden.json")["rows"]
    rows = json.dumps([row["features"] for row in golden])
    run_as_the_job(nightly, "fill", ["python", "-c", WRITE, rows])
    summary = json.loads(run_as_the_job(nightly, "first").splitlines()[-1])
    assert summary["rows"] == len(golden)
    found = json.loads(run_as_the_job(nightly, "read", ["python", "-c", READ]).splitlines()[-1])
    assert found["columns"] == ["patient", "prediction", "probability", "model_version", "inference_timestamp"]
    assert [row["patient"] for row in found["rows"]] == list(range(len(golden))), "in the input's order"
    expected = [row["probability"] for row in golden]
    assert [row["probability"] for row in found["rows"]] == pytest.approx(expected, abs=1e-6)
    again = json.loads(run_as_the_job(nightly, "again").splitlines()[-1])
    assert again["made"] is False, "the table is there"


def test_an_edit_of_the_schedule_changes_the_schedule_alone(nightly):
    kept = nightly.stack_file.read_text()
    nightly.edit(lambda config: config["slipway:models"][MODEL].update(schedule="30 3 * * *"))
    steps = nightly.preview_steps()
    nightly.stack_file.write_text(kept)
    assert steps == {
        f"kubernetes:batch/v1:CronJob {MODEL}": "update",
        f"slipway:serving:BatchModel {MODEL}": "update",
    }
