"""Where files of a backup come from and go to: a directory, or a prefix of an S3 bucket."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_FOUND = "404"


class Place(Protocol):
    """Files by key. Errors are `StepError`."""

    uri: str

    def files(self) -> list[str]:
        """All that it has."""

    def has(self, key: str) -> bool:
        """Whether there is such a file."""

    def fetch(self, key: str, scratch: Path) -> Path:
        """The file on this machine: where it lies, or a copy at `scratch`."""

    def put(self, key: str, path: Path) -> None:
        """Write a file, whole or not at all."""


def place(uri: str) -> Place:
    """The place that a person names: `s3://bucket/prefix`, by boto3's own credentials, or a directory."""
    parts = urlsplit(uri)
    if not parts.scheme:
        return Directory(Path(uri))
    if parts.scheme == "s3" and parts.netloc:
        import boto3  # noqa: PLC0415  # half a second

        return S3(boto3.session.Session().client("s3"), parts.netloc, parts.path.strip("/"))
    raise StepError(f"{uri} → a backup is in a directory or at s3://bucket/prefix → correct it")


class Directory:
    """A directory that only its owner reads: what it holds was behind the registry's door."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.uri = str(root)

    def files(self) -> list[str]:
        """Every file, wherever below."""
        return sorted(path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file())

    def has(self, key: str) -> bool:
        """Whether there is such a file."""
        return (self._root / key).is_file()

    def fetch(self, key: str, scratch: Path) -> Path:  # noqa: ARG002 (it is on this machine already)
        """Where it lies."""
        if not self.has(key):
            raise StepError(f"{self._root / key}: not there → a backup has every file of its manifest → take another")
        return self._root / key

    def put(self, key: str, path: Path) -> None:
        """Copy it beside its place and rename."""
        target = self._root / key
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside = target.with_name(f".{target.name}.new")
            shutil.copyfile(path, aside)
            aside.replace(target)
        except OSError as error:
            raise StepError(f"{target}: {error.strerror} → the backup is written there → name another place") from error


class S3:
    """A prefix of a bucket."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")

    def files(self) -> list[str]:
        """Every object; a console's folder markers are none."""
        with self._told():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            found = [str(each["Key"]) for page in pages for each in page.get("Contents", [])]
        return [key.removeprefix(self._prefix) for key in found if not key.endswith("/")]

    def has(self, key: str) -> bool:
        """Whether there is such an object."""
        from botocore.exceptions import ClientError  # noqa: PLC0415

        with self._told():
            try:
                self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if error.response["Error"]["Code"] == NOT_FOUND:
                    return False
                raise
        return True

    def fetch(self, key: str, scratch: Path) -> Path:
        """A copy."""
        with self._told():
            self._client.download_file(self._bucket, self._prefix + key, str(scratch))
        return scratch

    def put(self, key: str, path: Path) -> None:
        """Upload it, in several pieces where it is large; it appears with the last."""
        with self._told():
            self._client.upload_file(str(path), self._bucket, self._prefix + key)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        from boto3.exceptions import Boto3Error  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError) as error:
            told = " ".join(str(error).split())
            raise StepError(
                f"{self.uri}: {told} → its objects can be read and written → mend that, run it again"
            ) from error
