"""Where the prediction log goes: a file, S3 or Kafka, by its URI.

file:///var/cache/slipway/predictions.jsonl      rotated, the newest four files of 64 MiB are kept
s3://bucket/prefix                               gzipped objects, prefix/date=2026-11-22/hour=10/<process>-<n>.jsonl.gz
kafka://host:9092,host:9092/topic                keyed by request id
"""

from __future__ import annotations

import gzip
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from services.inference.adapters.telemetry.prediction_log import SinkError

if TYPE_CHECKING:
    from services.inference.adapters.telemetry.prediction_log import Sink

FILE_BYTES = 64 * 1024 * 1024
FILES = 4

OBJECT_BYTES = 8 * 1024 * 1024
"""Lines of an object before compression: large enough that readers do not drown in objects."""
WAITING_BYTES = 8 * OBJECT_BYTES
"""Lines that are kept while S3 refuses them; beyond it the oldest are lost."""

DELIVERY_SECONDS = 10.0
"""How long a flush waits for a broker."""


def sink(uri: str, *, s3_endpoint_url: str | None = None, kafka: dict[str, Any] | None = None) -> Sink:
    """The sink of a URI. `kafka` is librdkafka's configuration beyond the brokers. Raises `ValueError`."""
    parts = urlsplit(uri)
    path = parts.path.strip("/")
    if parts.scheme == "file" and not parts.netloc and path:
        return FileSink(Path(parts.path))
    if parts.scheme == "s3" and parts.netloc:
        return S3Sink(parts.netloc, path, s3_endpoint_url)
    if parts.scheme == "kafka" and parts.netloc and path and "/" not in path:
        return KafkaSink({**(kafka or {}), "bootstrap.servers": parts.netloc}, path)
    raise ValueError(f"{uri!r} → it is file:///path, s3://bucket/prefix or kafka://brokers/topic → correct it")


class FileSink:
    """Lines appended to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror} → lines are appended there → mount a volume") from error
        self._taken = 0

    def write(self, key: str, line: bytes) -> int:  # noqa: ARG002  # the file has no keys
        """Take a line; a file that is full makes room first."""
        written = self._rotate() if self._file.tell() + len(line) > FILE_BYTES else 0
        self._file.write(line + b"\n")
        self._taken += 1
        return written

    def flush(self) -> int:
        """Hand all lines to the system."""
        taken, self._taken = self._taken, 0
        try:
            self._file.flush()
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}", taken) from error
        return taken

    def close(self) -> int:
        """Flush and close."""
        try:
            return self.flush()
        finally:
            self._file.close()

    def _rotate(self) -> int:
        written = self.flush()
        self._file.close()
        names = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, FILES))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)
        self._file = self._path.open("ab")
        return written


class S3Sink:
    """Lines gathered into objects."""

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None = None) -> None:
        import boto3  # noqa: PLC0415  # half a second

        self._client = boto3.client("s3", endpoint_url=endpoint_url)
        self._bucket, self._prefix = bucket, prefix
        self._lines: list[bytes] = []
        self._size = 0
        self._objects = 0
        self._process = f"{socket.gethostname()}-{os.getpid()}"

    def write(self, key: str, line: bytes) -> int:  # noqa: ARG002  # objects have no keys by line
        """Take a line; enough of them are put."""
        if self._size + len(line) > WAITING_BYTES:
            lost, self._lines, self._size = len(self._lines), [], 0
            raise SinkError(f"s3://{self._bucket} has taken nothing for too long", lost + 1)
        self._lines.append(line)
        self._size += len(line) + 1
        return self._put(keep=True) if self._size >= OBJECT_BYTES else 0

    def flush(self) -> int:
        """Put what there is; what is refused is kept and tried again with the next."""
        return self._put(keep=True)

    def close(self) -> int:
        """Put what there is, a last time."""
        return self._put(keep=False)

    def _put(self, *, keep: bool) -> int:
        if not self._lines:
            return 0
        now = datetime.now(UTC)
        name = f"date={now:%Y-%m-%d}/hour={now:%H}/{self._process}-{self._objects:06}.jsonl.gz"
        body = gzip.compress(b"\n".join(self._lines) + b"\n", compresslevel=6)
        count = len(self._lines)
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=f"{self._prefix}/{name}".lstrip("/"), Body=body,
                ContentType="application/x-ndjson", ContentEncoding="gzip",
            )  # fmt: skip
        except Exception as error:  # botocore's errors have no common base but this
            raise SinkError(f"s3://{self._bucket}: {error}", 0 if keep else count) from error
        self._objects += 1
        self._lines, self._size = [], 0
        return count


class KafkaSink:
    """Lines as messages."""

    def __init__(self, configuration: dict[str, Any], topic: str) -> None:
        from confluent_kafka import KafkaException, Producer  # noqa: PLC0415  # only where there is a broker

        defaults = {"compression.type": "lz4", "linger.ms": "50", "enable.idempotence": "true"}
        self._producer = Producer({**defaults, **configuration})
        self._topic = topic
        self._refusals = (BufferError, KafkaException)
        """A full queue, and what is known of the topic by now."""
        self._delivered = self._failed = 0
        self._reason = ""

    def write(self, key: str, line: bytes) -> int:
        """Take a line."""
        try:
            self._producer.produce(self._topic, line, key=key, on_delivery=self._on_delivery)
        except self._refusals as error:
            self._failed += 1
            self._reason = str(error)
        self._producer.poll(0)
        return self._told()

    def flush(self) -> int:
        """Wait until the broker has every line, for a while."""
        self._producer.flush(DELIVERY_SECONDS)
        return self._told()

    def close(self) -> int:
        """Flush; what the broker has not taken by then is lost."""
        left = self._producer.flush(DELIVERY_SECONDS)
        if left:
            self._failed += left
            self._reason = "no broker has taken it"
        return self._told()

    def _on_delivery(self, error: Any, _: Any) -> None:
        if error is None:
            self._delivered += 1
        else:
            self._failed += 1
            self._reason = str(error)

    def _told(self) -> int:
        delivered, self._delivered = self._delivered, 0
        if self._failed:
            failed, self._failed = self._failed, 0
            self._delivered = delivered  # told with the next
            raise SinkError(f"kafka topic {self._topic!r}: {self._reason}", failed)
        return delivered
