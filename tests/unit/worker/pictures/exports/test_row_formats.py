"""Rows for other programs: every column and every number arrives, whatever it is called."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from pyarrow import parquet

from db.reader.run_query import QueryResult
from worker.cli.output.terminal import console, table
from worker.errors import FacetError
from worker.pictures.exports.cells import cell
from worker.pictures.exports.row_formats import unique_names, write_csv, write_json, write_parquet


def result(columns, row, types=None):
    return QueryResult(columns, types or ["text"] * len(columns), iter([row]))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a_2", "a_3"]),
        (["a", "a_2", "a"], ["a", "a_2", "a_3"]),
        (["a", "a", "a_2"], ["a", "a_3", "a_2"]),
        (["?column?", "?column?"], ["?column?", "?column?_2"]),
        ([], []),
    ],
)
def test_columns_of_one_name_are_numbered(columns, expected):
    assert unique_names(columns) == expected


def test_no_column_is_lost_in_json_or_parquet(tmp_path):
    columns, row = ["media_id", "age", "media_id", "age"], (1, 2, 3, 4)
    stream = io.StringIO()
    write_json(result(columns, row), stream)
    assert json.loads(stream.getvalue()) == [{"media_id": 1, "age": 2, "media_id_2": 3, "age_2": 4}]
    write_parquet(result(columns, row, ["int8"] * 4), tmp_path / "rows.parquet")
    assert parquet.read_table(tmp_path / "rows.parquet").to_pylist() == [
        {"media_id": 1, "age": 2, "media_id_2": 3, "age_2": 4}
    ]


def written(tmp_path, rows, kind="jsonb"):
    write_parquet(QueryResult(["x"], [kind], iter([(row,) for row in rows])), tmp_path / "rows.parquet")
    return parquet.read_table(tmp_path / "rows.parquet")


def test_documents_are_structs_and_lists_in_parquet(tmp_path):
    rows = [{"a": 1, "b": [1, 2.5]}, {"a": 0.5, "b": []}, None]
    found = written(tmp_path, rows)
    assert str(found.schema.field("x").type).startswith("struct<a: double, b: list<")
    assert found.column("x").to_pylist() == rows
    assert written(tmp_path, [["a"], ["b", "c"]]).column("x").to_pylist() == [["a"], ["b", "c"]]


def test_arrays_keep_their_type_in_parquet(tmp_path):
    moment = datetime(2026, 11, 28, tzinfo=UTC)
    assert written(tmp_path, [[True, None]], "_bool").column("x").to_pylist() == [[True, None]]
    assert written(tmp_path, [[moment]], "_timestamptz").column("x").to_pylist() == [[moment]]


@pytest.mark.parametrize("rows", [[{"a": 1}, ["b"]], [{}, {}], [None, None], [{"a": {}}, {"a": {}}]])
def test_documents_of_no_common_type_are_text_in_parquet(tmp_path, rows):
    texts = written(tmp_path, rows).column("x").to_pylist()
    assert [None if one is None else json.loads(one) for one in texts] == rows


def test_no_key_of_a_later_document_is_lost_in_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr("worker.pictures.exports.row_formats.PARQUET_ROWS", 1)
    with pytest.raises(FacetError, match=r"'b'.*x::text"):
        written(tmp_path, [{"a": 1}, {"a": 1, "b": 2}])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (Decimal("NaN"), "NaN"),
        (Decimal("-Infinity"), "-Infinity"),
        ([0.5, math.nan], [0.5, "NaN"]),
        ({"a": [math.inf]}, {"a": ["Infinity"]}),
        (Decimal(7), 7),
        (Decimal("0.25"), 0.25),
        (0.0, 0.0),
        (None, None),
    ],
)
def test_json_is_strict(value, expected):
    def refuse(constant):
        raise AssertionError(constant)

    stream = io.StringIO()
    write_json(result(["x"], (value,)), stream)
    assert json.loads(stream.getvalue(), parse_constant=refuse) == [{"x": expected}]


@pytest.mark.parametrize(
    "formula", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1+1"]
)
def test_a_spreadsheet_runs_no_name_as_a_formula(formula):
    stream = io.StringIO()
    write_csv(result(["name", "n"], (formula, -2)), stream, spreadsheet=True)
    assert list(csv.reader(io.StringIO(stream.getvalue(), newline="")))[1] == [f"'{formula}", "-2"]
    plain = io.StringIO()
    write_csv(result(["name", "n"], (formula, -2)), plain)
    assert list(csv.reader(io.StringIO(plain.getvalue(), newline="")))[1] == [formula, "-2"]


def test_csv_on_a_terminal_shows_what_a_file_holds_as_it_is():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    write_csv(result(["na\x1bme"], ("\x1b[2J",)), stream)
    assert stream.getvalue() == "na\\x1bme\r\n\\x1b[2J\r\n"


def test_times_are_shown_in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    moment = datetime(2026, 11, 28, 4, 2, 15, tzinfo=UTC)
    assert cell(moment) == "2026-11-28 04:02:15 UTC"
    assert cell(moment.astimezone(timezone(timedelta(hours=5, minutes=30)))) == "2026-11-28 04:02:15 UTC"
    assert cell(moment.replace(tzinfo=None)) == "2026-11-28 04:02:15"


@pytest.mark.parametrize(
    "name",
    [
        "Talk [dQw4w9WgXcQ].mp4",
        "[/].jpg",
        "[/red] Zoe",
        "[link=http://evil]x[/link]",
        "smile:heart:.jpg",
        "[bold",
        "\\[b]",
    ],
)
@pytest.mark.parametrize("place", ["title", "column", "cell", "message"])
def test_brackets_and_colons_are_no_markup(name, place, capsys):
    if place == "message":
        console().print(name)
    else:
        drawn = table(name if place == "title" else "t", [name if place == "column" else "c"], [[name]])
        console().print(drawn)
    assert name in capsys.readouterr().out
