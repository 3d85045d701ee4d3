"""Where tables are: a directory on disk or a prefix of an S3 bucket, with what a commit needs of them.

A store writes an object whole or not at all, and can write one on the condition that it is not there yet
or still has the tag that was read: `put` says whether it did.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from services.inference.adapters.batch.errors import AccessDenied, InvalidInput, NoSuchBucket, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

ABSENT = ""
"""The tag of an object that is not there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object: its key below the store's root, its size in bytes, and a tag that changes with its content."""

    key: str
    size: int
    tag: str


class Store(Protocol):
    """Objects below one root. Errors are `BatchError`."""

    uri: str

    def list(self, prefix: str = "") -> list[Entry]:
        """Every object whose key starts with the prefix, by key."""

    def open(self, key: str) -> pa.NativeFile:
        """Read an object at random."""

    def get(self, key: str) -> tuple[bytes, str]:
        """Content and tag; empty and `ABSENT` where there is none."""

    def put(self, key: str, content: bytes, *, expected: str | None = None) -> bool:
        """Write a small object; with `expected` only if it has that tag now, `ABSENT` for none at all."""

    def take(self, path: Path, key: str) -> None:
        """Move a file in as an object."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is gone is no error."""


def open_store(uri: str, endpoint_url: str | None) -> Store:
    """The store of `s3://bucket/prefix`, `file:///directory` or a directory."""
    scheme, found, rest = uri.partition("://")
    if not found:
        return LocalStore(Path(uri))
    if scheme == "file" and rest.startswith("/"):
        return LocalStore(Path(rest))
    if scheme == "s3" and urlsplit(uri).netloc:
        return S3Store(urlsplit(uri).netloc, urlsplit(uri).path.strip("/"), endpoint_url)
    raise InvalidInput(uri, "a table is in s3://bucket/prefix or a directory", "correct the address")


class LocalStore:
    """A directory. Renames make its objects appear whole; a lock beside them makes conditions hold among processes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.uri = str(root)

    def list(self, prefix: str = "") -> list[Entry]:
        """Every file, wherever below."""
        with _told(self.uri):
            found = []
            for folder, _, files in os.walk(self._root):
                for name in files:
                    path = Path(folder, name)
                    key = path.relative_to(self._root).as_posix()
                    if key.startswith(prefix):
                        with contextlib.suppress(FileNotFoundError):  # another run has just removed it
                            found.append(Entry(key, path.stat().st_size, _tag(path)))
            return sorted(found, key=lambda entry: entry.key)

    def open(self, key: str) -> pa.NativeFile:
        """A memory map would count as resident memory, so the file is read."""
        import pyarrow as pa  # noqa: PLC0415

        with _told(f"{self.uri}/{key}"):
            return pa.OSFile(str(self._root / key))

    def get(self, key: str) -> tuple[bytes, str]:
        """Read a file."""
        path = self._root / key
        with _told(str(path)):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return b"", ABSENT
            return content, hashlib.sha256(content).hexdigest()

    def put(self, key: str, content: bytes, *, expected: str | None = None) -> bool:
        """Write beside it and rename; the lock is of the output, held for that moment."""
        path = self._root / key
        with _told(str(path)), self._locked():
            if expected is not None and self.get(key)[1] != expected:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".put-", delete=False) as scratch:
                scratch.write(content)
                scratch.flush()
                os.fsync(scratch.fileno())
            Path(scratch.name).replace(path)
            return True

    def take(self, path: Path, key: str) -> None:
        """Rename, by way of a copy where the file is on another file system."""
        target = self._root / key
        with _told(str(target)):
            with self._locked():  # a folder that is empty may be removed
                target.parent.mkdir(parents=True, exist_ok=True)
                scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".take-"))
            near = scratch / target.name
            shutil.move(path, near)
            near.replace(target)
            scratch.rmdir()

    def delete(self, key: str) -> None:
        """Remove a file, and the folders that are empty then."""
        path = self._root / key
        with _told(str(path)), self._locked():
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._root:
                    return
                try:
                    folder.rmdir()
                except OSError:  # not empty, or gone
                    return

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclusive among processes, on the directory itself, so that no file is left for it."""
        self._root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._root, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _tag(path: Path) -> str:
    return str(path.stat().st_mtime_ns)


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise AccessDenied(
            f"{where}: {error.strerror}", "the job may read and write there", "give it access"
        ) from error
    except NotADirectoryError as error:
        raise InvalidInput(f"{where}: {error.strerror}", "a table is a directory", "choose another place") from error
    except FileNotFoundError as error:
        # Another run that has just committed removes what it does not need: trying again finds its table.
        raise StoreUnavailable(
            f"{where}: {error.strerror}", "files stay while they are read", "run it again"
        ) from error
    except OSError as error:
        raise StoreUnavailable(f"{where}: {error.strerror or error}", "the disk answers", "look at the disk") from error


class S3Store:
    """A prefix of a bucket; credentials and region come from boto3's own chain."""

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None) -> None:
        import boto3  # noqa: PLC0415  # half a second of import that a job on disk does not need
        from botocore.config import Config  # noqa: PLC0415

        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint_url = endpoint_url
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        style = {"addressing_style": "path"} if endpoint_url else {}  # our own gateway has no bucket host names
        config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=60, s3=style)
        self._session = boto3.session.Session()
        self._client = self._session.client("s3", endpoint_url=endpoint_url, config=config)
        self._files: Any = None

    def list(self, prefix: str = "") -> list[Entry]:
        """Every object below the prefix; a console's folder markers are none."""
        with self._told():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            return [
                Entry(each["Key"].removeprefix(self._prefix), each["Size"], each["ETag"].strip('"'))
                for page in pages
                for each in page.get("Contents", [])
                if not each["Key"].endswith("/")
            ]

    def open(self, key: str) -> pa.NativeFile:
        """By Arrow's own client, which reads ahead without Python's lock."""
        with self._told():
            return self._arrow().open_input_file(f"{self._bucket}/{self._prefix}{key}")

    def _arrow(self) -> Any:
        if self._files is None:
            from pyarrow.fs import S3FileSystem  # noqa: PLC0415

            credentials = self._session.get_credentials()
            frozen = credentials.get_frozen_credentials() if credentials else None
            given: dict[str, Any] = {"region": self._session.region_name or "us-east-1"}
            if frozen is not None and frozen.token is None:  # those of a role expire: Arrow's own chain renews them
                given |= {"access_key": frozen.access_key, "secret_key": frozen.secret_key}
            if self._endpoint_url:
                parts = urlsplit(self._endpoint_url)
                given |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
            self._files = S3FileSystem(connect_timeout=5, request_timeout=60, **given)
        return self._files

    def get(self, key: str) -> tuple[bytes, str]:
        """Read an object whole."""
        from botocore.exceptions import ClientError  # noqa: PLC0415

        with self._told():
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if error.response["Error"]["Code"] == _NO_SUCH_KEY:
                    return b"", ABSENT
                raise
            return found["Body"].read(), found["ETag"]

    def put(self, key: str, content: bytes, *, expected: str | None = None) -> bool:
        """One request, with S3's own conditions."""
        from botocore.exceptions import ClientError  # noqa: PLC0415

        condition = {} if expected is None else {"IfNoneMatch": "*"} if expected == ABSENT else {"IfMatch": expected}
        with self._told():
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=content, **condition)
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                # An object that is gone cannot match; two writers at once are told of a conflict.
                if expected is not None and status in (_NOT_FOUND, _CONFLICT, _PRECONDITION_FAILED):
                    return False
                raise
            return True

    def take(self, path: Path, key: str) -> None:
        """Upload, in several pieces where it is large; it appears with the last."""
        from boto3.exceptions import S3UploadFailedError  # noqa: PLC0415

        with self._told():
            try:
                self._client.upload_file(str(path), self._bucket, self._prefix + key)
            except S3UploadFailedError as error:
                raise error.__cause__ or error.__context__ or error from error
        path.unlink()

    def delete(self, key: str) -> None:
        """Remove an object; no matter whether another run has just done so, which some stores tell."""
        from botocore.exceptions import ClientError  # noqa: PLC0415

        with self._told():
            try:
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if error.response["Error"]["Code"] != _NO_SUCH_KEY:
                    raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError  # noqa: PLC0415

        try:
            yield
        except NoCredentialsError as error:
            raise AccessDenied(
                f"{self.uri}: no S3 credentials",
                "boto3 finds them in its own chain",
                "give the job a role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ) from error
        except ClientError as error:
            raise self._named(error) from error
        except (BotoCoreError, OSError) as error:
            raise StoreUnavailable(
                f"{self.uri}: {' '.join(str(error).split())[:200]}", "S3 answers", "see that its endpoint is up"
            ) from error

    def _named(self, error: Any) -> Exception:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "unknown error")
        told = f"{self.uri}: S3 answered {status} {code}"
        if code == "NoSuchBucket":
            return NoSuchBucket(told, "the bucket exists", f"create {self._bucket}, or correct its name")
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            return AccessDenied(told, "the credentials may use the bucket", "correct them, or the bucket's policy")
        if status == _NOT_FOUND:
            return InvalidInput(told, "objects stay while they are read", "run it again")
        return StoreUnavailable(told, "S3 takes the request", "try again later")


_NO_SUCH_KEY = "NoSuchKey"
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _PRECONDITION_FAILED = 401, 403, 404, 409, 412
