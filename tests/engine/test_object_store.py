"""The bootstrap script against the real versitygw."""

from __future__ import annotations

import os
import subprocess

import botocore.exceptions
import botocore.session
import pytest

from infra import names
from infra.platforms.local import bootstrap
from infra.platforms.local.object_store import HEALTH, REGION, ROOT_ACCESS_KEY
from tests.infra.waiting import answers, until
from tests.processes import free_port

pytestmark = pytest.mark.engine

ROOT_SECRET = "root-secret"
OWNED = f"{names.MLFLOW}={names.MODELS_BUCKET}"


@pytest.fixture
def endpoint(toolchain_bin, tmp_path):
    port = free_port()
    for directory in ("data", "iam"):
        (tmp_path / directory).mkdir()
    command = [toolchain_bin / "versitygw", "--port", f"127.0.0.1:{port}", "--region", REGION]
    command += ["--iam-dir", tmp_path / "iam", "--health", HEALTH, "posix", tmp_path / "data"]
    env = {**os.environ, "ROOT_ACCESS_KEY_ID": ROOT_ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": ROOT_SECRET}
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as server:
        try:
            until(answers(f"http://127.0.0.1:{port}{HEALTH}"), within=30, what="versitygw")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    def write(owner, access_key, secret_key):
        directory = tmp_path / "credentials" / owner
        directory.mkdir(parents=True, exist_ok=True)
        (directory / bootstrap.ACCESS_KEY).write_text(access_key)
        (directory / bootstrap.SECRET_KEY).write_text(secret_key)

    monkeypatch.setattr(bootstrap, "CREDENTIALS", tmp_path / "credentials")
    write("root", ROOT_ACCESS_KEY, ROOT_SECRET)
    write(names.MLFLOW, names.MLFLOW, "user-secret")
    return write


def client(endpoint, secret):
    return botocore.session.get_session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=names.MLFLOW,
        aws_secret_access_key=secret,
    )


def test_the_bootstrap_makes_a_bucket_that_its_user_can_use_and_may_run_again(endpoint, credentials):
    bootstrap.main(endpoint, REGION, OWNED)
    client(endpoint, "user-secret").put_object(Bucket=names.MODELS_BUCKET, Key="kept", Body=b"1")
    bootstrap.main(endpoint, REGION, OWNED)
    kept = client(endpoint, "user-secret").get_object(Bucket=names.MODELS_BUCKET, Key="kept")["Body"].read()
    assert kept == b"1", "running again must not touch what is there"


def test_the_user_may_use_its_bucket_and_make_no_other(endpoint, credentials):
    bootstrap.main(endpoint, REGION, OWNED)
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        client(endpoint, "user-secret").create_bucket(Bucket="another")


def test_a_new_secret_of_the_user_replaces_the_old_one(endpoint, credentials):
    bootstrap.main(endpoint, REGION, OWNED)
    credentials(names.MLFLOW, names.MLFLOW, "rotated-secret")
    bootstrap.main(endpoint, REGION, OWNED)
    with pytest.raises(botocore.exceptions.ClientError):
        client(endpoint, "user-secret").list_objects_v2(Bucket=names.MODELS_BUCKET)


def test_wrong_root_credentials_fail_with_the_servers_words(endpoint, credentials):
    credentials("root", ROOT_ACCESS_KEY, "wrong")
    with pytest.raises(SystemExit, match="SignatureDoesNotMatch"):
        bootstrap.main(endpoint, REGION, OWNED)
