"""A night on the cluster: a batch model deployed, its job run once, its table read back."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import subprocess
import time

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.config import Config

from infra import names
from tests.cluster.conftest import free_port
from tests.e2e.conftest import CLUSTER
from tests.e2e.everything import BATCH_MODEL, RAY_MODEL
from tools.cluster import lifecycle
from tools.toolchain.build import binary

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1800)]


@contextlib.contextmanager
def forwarded(service, port):
    """A port of this machine that leads to a Service of the platform."""
    layout, local = lifecycle.load(CLUSTER), free_port()
    command = [
        str(binary("kubectl")), f"--kubeconfig={layout.kubeconfig}", "port-forward",
        "--namespace", names.PLATFORM_NAMESPACE, f"service/{service}", f"{local}:{port}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert "Forwarding from" in forward.stdout.readline()
            yield f"http://127.0.0.1:{local}"
        finally:
            forward.terminate()


@pytest.fixture(scope="module")
def s3(everything):
    """The platform's S3 with the job's own credentials."""
    secret = json.loads(
        everything.kubectl("get", "secret", "object-store-batch", "--namespace", names.MODELS_NAMESPACE, "-o", "json")
    )["data"]
    key = {name: base64.b64decode(value).decode() for name, value in secret.items()}
    with forwarded(names.OBJECT_STORE, 7070) as endpoint:
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=key["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=key["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        yield client
        client.close()


def read(s3, key, output="patients"):
    return s3.get_object(Bucket=names.PREDICTIONS_BUCKET, Key=f"{output}/{key}")["Body"].read()


def scored_rows(s3, output="patients"):
    """Manifest and rows of an output."""
    manifest = json.loads(read(s3, "_manifest.json", output))
    parts = [pq.read_table(io.BytesIO(read(s3, part["key"], output))) for part in manifest["parts"]]
    return manifest, pa.concat_tables(parts)


def run(site, model, job):
    """A run of a model's schedule, now; how long it took, in seconds."""
    started = time.monotonic()
    site.kubectl("create", "job", job, f"--from=cronjob/{model}", "--namespace", names.MODELS_NAMESPACE)
    wait = ["--for=condition=complete", "--namespace", names.MODELS_NAMESPACE, f"job/{job}"]
    site.kubectl("wait", "--timeout=300s", *wait, timeout=320)
    return time.monotonic() - started


def test_a_run_of_the_schedule_scores_the_table_and_commits_it(site, s3, golden):
    rows = [{"id": at, **row["features"]} for at, row in enumerate(golden)]
    rows.append({**rows[0], "id": len(golden), next(iter(golden[0]["features"])): None})
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), content)
    s3.put_object(Bucket=names.FEATURES_BUCKET, Key="patients/one.parquet", Body=content.getvalue())

    site.figure("a batch job on the cluster, from its creation", run(site, BATCH_MODEL, "tonight"), "s")

    manifest, scored = scored_rows(s3)
    assert scored["id"].to_pylist() == [at for at in range(len(rows)) if at < len(golden) or manifest["refused"] == 0]
    assert scored["probability"].to_pylist()[: len(golden)] == pytest.approx(
        [row["probability"] for row in golden], abs=1e-6
    )
    assert manifest["rows"] + manifest["refused"] == len(rows)
    found = s3.list_objects_v2(Bucket=names.PREDICTIONS_BUCKET, Prefix="patients/")["Contents"]
    parts = {f"patients/{part['key']}" for part in (*manifest["parts"], *manifest["quarantine"])}
    assert {entry["Key"] for entry in found} == {"patients/_manifest.json", *parts}, "nothing else is left on S3"


def test_a_ray_cluster_scores_the_same_table_row_for_row(site, s3):
    took = run(site, RAY_MODEL, "tonight-on-ray")
    site.figure("the same on a Ray cluster of one worker, which it starts and ends", took, "s")

    (manifest, scored), (expected, by_one_pod) = scored_rows(s3, RAY_MODEL), scored_rows(s3)
    at = scored.column_names.index("inference_timestamp")
    assert scored.remove_column(at).equals(by_one_pod.remove_column(at))
    assert (manifest["rows"], manifest["refused"]) == (expected["rows"], expected["refused"])
    told = site.kubectl("logs", "job/tonight-on-ray", "--namespace", names.MODELS_NAMESPACE)
    summary = json.loads(told.strip().splitlines()[-1])
    assert summary["rows"] == expected["rows"], "what the job says is in the Job's log"


def test_the_job_has_no_way_to_the_artifacts_bucket(s3):
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket=names.MODELS_BUCKET)


def test_an_edit_of_the_schedule_previews_exactly_its_effect(everything):
    before = everything.stack_file.read_text()
    everything.edit(lambda config: config["slipway:models"][BATCH_MODEL].update(schedule="30 3 1 1 *"))
    try:
        assert everything.preview_steps() == {
            f"kubernetes:batch/v1:CronJob {BATCH_MODEL}": "update",
            f"slipway:serving:BatchModel {BATCH_MODEL}": "update",
        }
    finally:
        everything.stack_file.write_text(before)
