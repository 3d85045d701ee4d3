"""What an address names, and how it is cut into parts."""

import json

import pyarrow as pa
import pytest

from services.inference.adapters.batch.columns import check_schema
from services.inference.adapters.batch.errors import InvalidInput, Overtaken
from services.inference.adapters.batch.inputs import listed, parts_of, survey
from tests.services.scored_tables import SCHEMA, rows, write

ALL = ["date=2026-11-25/site=a/one.parquet", "date=2026-11-25/site=b/two.parquet", "date=2026-11-26/site=a/one.parquet"]


@pytest.fixture
def tables(tmp_path):
    files = {
        "t/date=2026-11-25/site=a/one.parquet": rows(120),
        "t/date=2026-11-25/site=b/two.parquet": rows(30, 120),
        "t/date=2026-11-26/site=a/one.parquet": rows(250, 150),
        "t/_aside/three.parquet": rows(5),
        "t/.hidden.parquet": rows(5),
        "folder.parquet/part-0.parquet": rows(1),
        "folder.parquet/part-1.parquet": rows(1),
    }
    directory = write(tmp_path, {name: table.drop(["site"]) for name, table in files.items()})
    (directory / "t" / "_SUCCESS").touch()
    (directory / "t" / "notes.txt").write_text("no data")
    return directory


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("t", ALL),
        ("t/", ALL),
        ("t/date=2026-11-26", ["site=a/one.parquet"]),
        ("t/date=2026-11-25/site=b/two.parquet", ["two.parquet"]),
        ("t/*/site=a/*.parquet", ["date=2026-11-25/site=a/one.parquet", "date=2026-11-26/site=a/one.parquet"]),
        ("t/date=2026-11-*/site=b", ["date=2026-11-25/site=b/two.parquet"]),
        ("t/**/two.parquet", ["date=2026-11-25/site=b/two.parquet"]),
        ("folder.parquet", ["part-0.parquet", "part-1.parquet"]),
        ("*.parquet", ["folder.parquet/part-0.parquet", "folder.parquet/part-1.parquet"]),
    ],
)  # fmt: skip
def test_an_address_is_a_directory_a_file_or_a_glob(tables, address, expected):
    _, entries = listed(f"{tables}/{address}", None)
    assert [entry.key for entry in entries] == expected


@pytest.mark.parametrize("address", ["nothing", "t/*.parquet", "t/_aside/x"])
def test_an_address_of_nothing_is_refused(tables, address):
    with pytest.raises(InvalidInput, match=f"{address.split('*')[0]}.*no parquet file"):
        listed(f"{tables}/{address}", None)


def test_folders_are_columns(tables):
    found, schema = survey(f"{tables}/t", None)
    assert found.rows == 400
    assert schema.names == ["id", "amount", "count", "date", "site"]
    assert schema.field("date").type == pa.string()
    assert found.files[0].partitions == (("date", "2026-11-25"), ("site", "a"))


def test_folders_of_whole_numbers_are_integers_and_the_null_folder_is_null(tmp_path):
    write(tmp_path, {"year=2025/a.parquet": rows(1), "year=__HIVE_DEFAULT_PARTITION__/a.parquet": rows(1)})
    found, schema = survey(str(tmp_path), None)
    assert schema.field("year").type == pa.int64()
    assert {file.partitions[0][1] for file in found.files} == {"2025", None}


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (rows(1, amount=pa.array(["much"])), "column 'amount' is string, not double"),
        (rows(1).drop(["count"]), "no column 'count'"),
        (rows(1).append_column("more", pa.array([1])), "column 'more' more"),
    ],
)
def test_files_that_differ_are_refused_by_name(tmp_path, other, told):
    write(tmp_path, {"a.parquet": rows(1), "b.parquet": other})
    with pytest.raises(InvalidInput, match=rf"b\.parquet: {told} → all files have the columns of a\.parquet"):
        survey(str(tmp_path), None)


def test_escaped_folders_are_read_as_they_were_meant(tmp_path):
    write(
        tmp_path, {"city=New%20York/a.parquet": rows(1), "city=a%2Fb/a.parquet": rows(1), "city=5%/a.parquet": rows(1)}
    )
    found, _ = survey(str(tmp_path), None)
    assert {file.partitions[0][1] for file in found.files} == {"New York", "a/b", "5%"}


def test_columns_of_one_name_are_refused(tmp_path):
    table = rows(1)
    write(tmp_path, {"a.parquet": pa.table([*table.columns, table["id"]], names=[*table.column_names, "id"])})
    with pytest.raises(InvalidInput, match=r"a\.parquet: two columns 'id' → columns are told apart by name"):
        survey(str(tmp_path), None)
    write(tmp_path / "x=1" / "x=2", {"a.parquet": rows(1)})
    with pytest.raises(InvalidInput, match="two folders 'x'"):
        survey(str(tmp_path / "**" / "x=2"), None)


@pytest.mark.parametrize("content", ["", "[]", "no json", '{"parts": []}'])
def test_a_manifest_of_somebody_elses_is_refused(tmp_path, content):
    write(tmp_path, {"a.parquet": rows(1)})
    (tmp_path / "_manifest.json").write_text(content or " ")
    with pytest.raises(InvalidInput, match="not of slipway-batch/1 → a file of this name is a table's of ours"):
        listed(str(tmp_path), None)


def test_a_table_without_one_of_its_parts_is_not_scored_in_part(tmp_path):
    write(tmp_path, {"_parts/a.parquet": rows(1)})
    parts = [{"key": f"_parts/{name}.parquet"} for name in ("a", "b")]
    (tmp_path / "_manifest.json").write_text(json.dumps({"format": "slipway-batch/1", "parts": parts}))
    with pytest.raises(Overtaken, match=r"part _parts/b\.parquet is gone"):
        listed(str(tmp_path), None)


def test_folders_that_differ_are_refused(tmp_path):
    write(tmp_path, {"x=1/a.parquet": rows(1), "y=1/b.parquet": rows(1)})
    with pytest.raises(InvalidInput, match=r"partitioned by \['y'\] → all files are partitioned by \['x'\]"):
        survey(str(tmp_path), None)


@pytest.mark.parametrize("content", [b"", b"no parquet, but longer than a footer", b"PAR1" + b"\0" * 64 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path, content):
    write(tmp_path, {"a.parquet": rows(1)})
    (tmp_path / "b.parquet").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"b\.parquet: .* → it is a whole parquet file → write it again"):
        survey(str(tmp_path), None)


def test_files_without_a_row_are_no_input(tmp_path):
    write(tmp_path, {"a.parquet": rows(0)})
    with pytest.raises(InvalidInput, match="no row → the input has one at least"):
        survey(str(tmp_path), None)


def test_the_digest_is_of_names_sizes_and_times(tmp_path):
    write(tmp_path, {"a.parquet": rows(1)})
    before, _ = survey(str(tmp_path), None)
    assert survey(str(tmp_path), None)[0].digest == before.digest
    write(tmp_path, {"a.parquet": rows(2)})
    assert survey(str(tmp_path), None)[0].digest != before.digest


@pytest.mark.parametrize("part_rows", [1, 100, 150, 10_000])
def test_parts_cover_every_row_group_once_and_in_order(tmp_path, part_rows):
    write(tmp_path, {"a.parquet": rows(250), "b.parquet": rows(0), "c.parquet": rows(120), "d.parquet": rows(10)})
    found, _ = survey(str(tmp_path), None)
    parts = parts_of(found, part_rows)
    seen = [(piece.file.key, group) for part in parts for piece in part.slices for group in piece.groups]
    expected = [(file.key, group) for file in found.files for group in range(len(file.group_rows))]
    assert seen == expected
    assert sum(part.rows for part in parts) == found.rows
    assert all(part.rows >= part_rows for part in parts[:-1])
    for part in parts:
        for piece in part.slices:
            assert piece.first_row == sum(piece.file.group_rows[: piece.groups[0]]), "rows are told by their number"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (rows(1).drop(["amount"]), "no column 'amount' → the model takes 3 inputs by name"),
        (rows(1).rename_columns(["id", "amounts", "count", "site"]), "→ rename 'amounts'"),
        (rows(1, count=pa.array([0.5])), "column 'count' is double → the model takes an integer there"),
        (rows(1, site=pa.array([1])), "column 'site' is int64 → the model takes text there"),
        (rows(1, amount=pa.array([True])), "column 'amount' is bool → the model takes a number there"),
    ],
)
def test_columns_that_the_model_cannot_take_are_refused_before_a_row_is_read(columns, told):
    with pytest.raises(InvalidInput, match=told):
        check_schema(columns.schema, SCHEMA, "t")


def test_columns_of_other_widths_and_dictionaries_are_taken():
    columns = rows(
        1,
        amount=pa.array([1], pa.int8()),
        count=pa.array([1], pa.uint64()),
        site=pa.array(["a"]).dictionary_encode(),
    )
    check_schema(columns.schema, SCHEMA, "t")
