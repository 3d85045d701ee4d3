"""A prefix of an S3 bucket; credentials and region come from boto3's own chain."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from services.inference.core.errors import FetchFailed
from services.inference.runtimes.sources.base import Located, TransientError, not_found

if TYPE_CHECKING:
    from pathlib import Path

_FORBIDDEN = 403
_NOT_FOUND = 404


class S3Source:
    """`s3://bucket/prefix`: every object below the prefix."""

    def __init__(self, uri: str, endpoint_url: str | None) -> None:
        self._uri = uri
        self._endpoint_url = endpoint_url

    def locate(self) -> Located:
        """An S3 URI names its place itself."""
        if not urlsplit(self._uri).netloc:
            raise not_found(self._uri, "no bucket in the URI")
        return Located(uri=self._uri)

    def download(self, located: Located, into: Path) -> None:
        """List the prefix and fetch each object."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError  # noqa: PLC0415

        try:
            self._download(located, into)
        except NoCredentialsError as error:
            raise FetchFailed(
                f"model {located.uri}: no S3 credentials",
                "boto3 finds them in its own chain",
                "give the pod a role or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ) from error
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            reason = error.response.get("Error", {}).get("Code", "unknown error")
            if status in (_FORBIDDEN, _NOT_FOUND):
                raise not_found(located.uri, f"S3 answered {status} {reason}") from error
            raise TransientError(f"S3 answered {status} {reason}") from error
        except BotoCoreError as error:
            raise TransientError(str(error)) from error

    def _download(self, located: Located, into: Path) -> None:
        parts = urlsplit(located.uri)
        bucket, prefix = parts.netloc, parts.path.strip("/")
        prefix = f"{prefix}/" if prefix else ""
        client = self._client()
        found = False
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                key = entry["Key"]
                if key.endswith("/"):  # a console's folder marker, not a file
                    continue
                target = into / _safe(key.removeprefix(prefix), located.uri)
                target.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(bucket, key, str(target))
                found = True
        if not found:
            raise not_found(located.uri, "no object below this prefix")

    def _client(self) -> Any:
        import boto3  # noqa: PLC0415  # half a second of import that other sources do not need
        from botocore.config import Config  # noqa: PLC0415

        style = {"addressing_style": "path"} if self._endpoint_url else {}  # our own gateway has no bucket host names
        config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=60, s3=style)
        return boto3.session.Session().client("s3", endpoint_url=self._endpoint_url, config=config)


def _safe(relative: str, uri: str) -> PurePosixPath:
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise FetchFailed(
            f"model {uri}: key {relative!r}", "keys stay below the prefix", "remove the object from the artifact"
        )
    return path
