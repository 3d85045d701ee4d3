"""Runs inside the cluster, in the MLflow image: makes users and their buckets in S3.

Standard library and botocore only, no import from this repository: the file is
mounted as it is. Every step may run again on what an earlier run left.

    1. A user exists with exactly the given secret; its role may own buckets, not make them.
    2. Its buckets exist and belong to it.
    3. It can write, read and delete in each, which is what the caller needs.

Arguments: endpoint, region, then `user=bucket,bucket` for each user. Credentials are files below /credentials.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from pathlib import Path
from xml.sax.saxutils import escape

import botocore.session
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

CREDENTIALS = Path("/credentials")
ACCESS_KEY = "AWS_ACCESS_KEY_ID"
SECRET_KEY = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 (the key's name)
CONFLICT = 409
PROBE = "slipway-bootstrap-probe"


def read_credentials(owner: str) -> Credentials:
    """Credentials of `root` or a user from their mounted Secret."""
    directory = CREDENTIALS / owner
    return Credentials((directory / ACCESS_KEY).read_text(), (directory / SECRET_KEY).read_text())


def call(root: Credentials, region: str, url: str, body: str = "", headers: dict[str, str] | None = None) -> int:
    """Sends a signed request of versitygw's admin API; returns the status, of which only a conflict may be an error."""
    request = AWSRequest(method="PATCH", url=url, data=body.encode(), headers=headers or {})
    S3SigV4Auth(root, "s3", region).add_auth(request)
    prepared = request.prepare()
    plain = urllib.request.Request(url, data=body.encode(), headers=dict(prepared.headers), method="PATCH")  # noqa: S310
    try:
        with urllib.request.urlopen(plain, timeout=10) as answer:  # noqa: S310 (the endpoint is the program's own)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        if error.code == CONFLICT:
            return CONFLICT
        raise SystemExit(f"{url}: {error.code} {error.read().decode(errors='replace')}") from error


def make_user(root: Credentials, region: str, endpoint: str, user: Credentials) -> None:
    """Step 1."""
    secret = f"<Secret>{escape(user.secret_key)}</Secret><Role>user</Role>"
    account = f"<Account><Access>{escape(user.access_key)}</Access>{secret}</Account>"
    if call(root, region, f"{endpoint}/create-user", account) == CONFLICT:
        properties = f"<MutableProps>{secret}</MutableProps>"
        call(root, region, f"{endpoint}/update-user?access={user.access_key}", properties)


def make_bucket(root: Credentials, region: str, endpoint: str, user: Credentials, bucket: str) -> None:
    """Steps 2 and 3."""
    if call(root, region, f"{endpoint}/{bucket}/create", headers={"x-vgw-owner": user.access_key}) == CONFLICT:
        call(root, region, f"{endpoint}/change-bucket-owner?bucket={bucket}&owner={user.access_key}")
    client = botocore.session.get_session().create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=user.access_key,
        aws_secret_access_key=user.secret_key,
    )
    client.put_object(Bucket=bucket, Key=PROBE, Body=b"")
    client.get_object(Bucket=bucket, Key=PROBE)
    client.delete_object(Bucket=bucket, Key=PROBE)
    print(f"bucket {bucket} is ready for {user.access_key}")


def main(endpoint: str, region: str, *owned: str) -> None:
    """The three steps of the module's docstring."""
    root = read_credentials("root")
    for each in owned:
        owner, _, buckets = each.partition("=")
        user = read_credentials(owner)
        make_user(root, region, endpoint, user)
        for bucket in buckets.split(","):
            make_bucket(root, region, endpoint, user, bucket)


if __name__ == "__main__":
    main(*sys.argv[1:])
