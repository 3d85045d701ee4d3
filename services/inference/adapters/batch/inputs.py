"""What a job reads: parquet files by directory, glob or name, their partitions, and how they are cut into parts."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from services.inference.adapters.batch.errors import InvalidInput, Overtaken
from services.inference.adapters.batch.stores import Entry, open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.inference.adapters.batch.stores import Store

MANIFEST = "_manifest.json"
"""Name of a committed table's list of parts; a job's output may be another's input."""

FORMAT = "slipway-batch/1"
"""Of that list."""

SUFFIXES = (".parquet", ".parq")

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A parquet file of the input."""

    key: str
    size: int
    tag: str
    partitions: tuple[tuple[str, str | None], ...]
    """Of the folders `name=value` above it."""
    group_rows: tuple[int, ...]
    """Rows of each row group."""
    row_bytes: int
    """Of a row as it is decoded, in the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Row groups of one file, and the number of their first row in it."""

    file: File
    groups: tuple[int, ...]
    first_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What becomes one part of the output."""

    number: int
    rows: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The whole input as it was found."""

    root: str
    files: tuple[File, ...]
    digest: str
    """Of the listing: names, sizes, tags."""

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(sum(file.group_rows) for file in self.files)


def listed(uri: str, endpoint_url: str | None) -> tuple[Store, list[Entry]]:
    """The files that an address names: a file, a directory with all below it, or a glob (`*`, `?`, `[…]`, `**`).

    Names that start with `_` or `.` are not data; of a committed table only the manifest's parts are.
    """
    root, pattern = _split(uri)
    store = open_store(root, endpoint_url)
    entries = store.list()
    if not entries and not pattern and uri.endswith(SUFFIXES):  # no folder of that name
        root, _, pattern = uri.rpartition("/")
        store = open_store(root or ".", endpoint_url)
        entries = store.list()
    if not pattern:
        content, _ = store.get(MANIFEST)
        if content:
            return store, _parts(store.uri, parse_manifest(content, store.uri), entries)
    matches = re.compile(_regex(pattern)).fullmatch if pattern else lambda key: key.endswith(SUFFIXES)
    found = [entry for entry in entries if matches(entry.key) and not _hidden(entry.key)]
    if not found:
        raise InvalidInput(
            f"{uri}: no parquet file",
            "the input has one at least",
            "correct the address, or see why nothing was written",
        )
    return store, found


def parse_manifest(content: bytes, where: str) -> dict[str, Any]:
    """A committed table's; `InvalidInput` where it is somebody else's file."""
    try:
        manifest = json.loads(content)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InvalidInput(
            f"{where}/{MANIFEST}: not of {FORMAT}", "a file of this name is a table's of ours", "choose another place"
        )
    return manifest


def _parts(where: str, manifest: dict[str, Any], entries: Sequence[Entry]) -> list[Entry]:
    named = {part["key"] for part in manifest["parts"]}
    missing = named - {entry.key for entry in entries}
    if missing:
        raise Overtaken(f"{where}: part {min(missing)} is gone", "all parts of a table are there", "run it again")
    return [entry for entry in entries if entry.key in named]


def _split(uri: str) -> tuple[str, str]:
    """Root and the glob below it."""
    wild = _WILD.search(uri)
    if wild:
        root, _, _ = uri[: wild.start()].rpartition("/")
        return root or ".", uri[len(root) + 1 :] if root else uri
    return uri.rstrip("/") or "/", ""


def _regex(pattern: str) -> str:
    """`**` crosses folders, `*` and `?` do not; what names a folder means all below it."""
    pieces = []
    for piece in pattern.split("/"):
        if piece == "**":
            pieces.append("(?:[^/]+/)*")
        else:
            pieces.append(
                fnmatch.translate(piece).removeprefix("(?s:").removesuffix(r")\Z").replace(".*", "[^/]*") + "/"
            )
    regex = "".join(pieces).removesuffix("/")
    return regex + r"(?:/.*)?"


def _hidden(key: str) -> bool:
    return any(piece.startswith(("_", ".")) for piece in key.split("/"))


def survey(uri: str, endpoint_url: str | None) -> tuple[Survey, pa.Schema]:
    """List the input and read every footer; columns with the partitions' after them. Refuses mixed schemas."""
    store, entries = listed(uri, endpoint_url)
    files, first = [], None
    for entry in entries:
        metadata = _footer(store, entry)
        schema = metadata.schema.to_arrow_schema().remove_metadata()
        _check_names(schema.names, f"{store.uri}/{entry.key}", "column")
        first = first or schema
        if schema != first:
            raise InvalidInput(
                f"{store.uri}/{entry.key}: {_difference(first, schema)}",
                f"all files have the columns of {entries[0].key}",
                "write them alike, or score them apart",
            )
        rows = tuple(metadata.row_group(at).num_rows for at in range(metadata.num_row_groups))
        files.append(
            File(
                key=entry.key,
                size=entry.size,
                tag=entry.tag,
                partitions=_partitions(entry.key),
                group_rows=rows,
                row_bytes=_decoded_bytes(metadata) // max(1, sum(rows)),
            )
        )
    if first is None:
        raise AssertionError("a listing is not empty")
    if not any(sum(file.group_rows) for file in files):
        raise InvalidInput(f"{uri}: no row", "the input has one at least", "see why nothing was written")
    return Survey(root=store.uri, files=tuple(files), digest=digest_of(entries)), with_partitions(
        first, files, store.uri
    )


def digest_of(entries: Sequence[Entry]) -> str:
    """Digest of a listing."""
    lines = "".join(f"{entry.key}\0{entry.size}\0{entry.tag}\n" for entry in entries)
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def _footer(store: Store, entry: Entry) -> pq.FileMetaData:
    try:
        with store.open(entry.key) as content:
            return pq.ParquetFile(content).metadata
    except (pa.ArrowException, OSError) as error:
        raise corrupt(f"{store.uri}/{entry.key}", error) from error


def _decoded_bytes(metadata: pq.FileMetaData) -> int:
    return sum(int(metadata.row_group(at).total_byte_size) for at in range(metadata.num_row_groups))


def corrupt(where: str, error: Exception) -> InvalidInput:
    """A file that cannot be read as parquet."""
    return InvalidInput(
        f"{where}: {' '.join(str(error).split())[:160]}",
        "it is a whole parquet file",
        "write it again, or leave it out",
    )


def _check_names(names: Sequence[str], where: str, what: str) -> None:
    for at, name in enumerate(names):
        if name in names[:at]:
            raise InvalidInput(f"{where}: two {what}s {name!r}", "columns are told apart by name", "rename one")


def _difference(first: pa.Schema, other: pa.Schema) -> str:
    for name in first.names:
        if name not in other.names:
            return f"no column {name!r}"
        if other.field(name).type != first.field(name).type:
            return f"column {name!r} is {other.field(name).type}, not {first.field(name).type}"
    more = [name for name in other.names if name not in first.names]
    return f"column {more[0]!r} more" if more else "the columns are in another order or differ in null"


def _partitions(key: str) -> tuple[tuple[str, str | None], ...]:
    found = []
    for folder in key.split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if equals:
            # What writes such folders escapes what a name may not have.
            found.append((unquote(name), None if value == NULL_PARTITION else unquote(value)))
    return tuple(found)


def with_partitions(columns: pa.Schema, files: Sequence[File], where: str) -> pa.Schema:
    """The columns, and one for each partition: an integer where every value is one, else text."""
    names = [name for name, _ in files[0].partitions]
    _check_names(names, f"{where}/{files[0].key}", "folder")
    for file in files:
        if [name for name, _ in file.partitions] != names:
            raise InvalidInput(
                f"{where}/{file.key}: partitioned by {[name for name, _ in file.partitions]}",
                f"all files are partitioned by {names}",
                "score them apart",
            )
    for at, name in enumerate(names):
        if name in columns.names:
            continue  # the files have it themselves
        values = [file.partitions[at][1] for file in files]
        whole = all(value is None or re.fullmatch(r"-?(0|[1-9]\d{0,17})", value) for value in values)
        columns = columns.append(pa.field(name, pa.int64() if whole else pa.string()))
    return columns


def parts_of(survey: Survey, part_rows: int) -> list[Part]:
    """Cut the input at row groups into parts of at least `part_rows`, the last aside; the same input gives the same."""
    parts: list[Part] = []
    slices: list[Slice] = []
    rows = 0
    for file in survey.files:
        groups: list[int] = []
        begun = seen = 0
        for group, count in enumerate(file.group_rows):
            groups.append(group)
            seen += count
            rows += count
            if rows >= part_rows:
                slices.append(Slice(file=file, groups=tuple(groups), first_row=begun))
                parts.append(Part(number=len(parts), rows=rows, slices=tuple(slices)))
                slices, groups, rows, begun = [], [], 0, seen
        if groups:
            slices.append(Slice(file=file, groups=tuple(groups), first_row=begun))
    if rows:
        parts.append(Part(number=len(parts), rows=rows, slices=tuple(slices)))
    return parts
