"""Workbooks, read back by another program's reader."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import openpyxl
import pytest

from db.reader.run_query import QueryResult
from worker.errors import FacetError
from worker.pictures.exports import workbook
from worker.pictures.exports.workbook import write_workbook


def read_back(tmp_path, columns, *rows):
    path = tmp_path / "rows.xlsx"
    write_workbook(QueryResult(columns, ["text"] * len(columns), iter(rows)), path)
    sheet = openpyxl.load_workbook(path).active
    return [[cell.value for cell in row] for row in sheet.iter_rows()]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7, 7), (-2.5, -2.5), (True, True), (None, None), ("Ada", "Ada"), (Decimal("12.50"), 12.5), (Decimal(3), 3),
        ("=1+1", "=1+1"), ("{=A1}", "{=A1}"), ("+49", "+49"), ("007", "007"), ("https://a.test", "https://a.test"),
        (2**53 + 1, "9007199254740993"), (float("nan"), "NaN"), (float("-inf"), "-Infinity"),
        ([1.5, 2], "[1.5, 2]"), ({"Hat": 0.5}, '{"Hat": 0.5}'), ("\u05d0\u202eb", "\u05d0\u202eb"),
        (datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 3, 1, 10, 30)),  # noqa: DTZ001 - a sheet has no time zones
        (datetime(2026, 3, 1, 12, 30, tzinfo=UTC), datetime(2026, 3, 1, 12, 30)),  # noqa: DTZ001
    ],
)  # fmt: skip
def test_a_value_is_what_it_was_and_text_is_text(tmp_path, value, shown):
    (header, (first, last)) = read_back(tmp_path, ["value", "end"], (value, "end"))
    assert header == ["value", "end"]
    assert (first, last) == (shown, "end")
    assert type(first) is type(shown)


def test_no_cell_is_a_formula_or_a_link(tmp_path):
    read_back(tmp_path, ["=A1"], ("=HYPERLINK(1)",), ("@SUM(1)",), ("mailto:a@b.test",))
    (sheet,) = openpyxl.load_workbook(tmp_path / "rows.xlsx").worksheets
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} == {"s"}
    assert not any(cell.hyperlink for row in sheet.iter_rows() for cell in row)


def test_what_a_sheet_cannot_hold_is_refused_and_leaves_no_file(tmp_path, monkeypatch):
    with pytest.raises(FacetError, match="the column text has 32,768 characters"):
        read_back(tmp_path, ["text"], ("x" * 32768,))
    with pytest.raises(FacetError, match="columns, a sheet holds"):
        read_back(tmp_path, ["c"] * 16385)
    monkeypatch.setattr(workbook, "MAX_SHEET_ROWS", 2)
    with pytest.raises(FacetError, match="more than 2 rows"):
        read_back(tmp_path, ["n"], (1,), (2,), (3,))
    assert list(tmp_path.iterdir()) == []
    assert len(read_back(tmp_path, ["n"], (1,), (2,))) == 3


def test_long_documents_stay_whole(tmp_path):
    vector = [round(0.001 * n, 3) for n in range(3000)]
    (_, (text,)) = read_back(tmp_path, ["embedding"], (vector,))
    assert json.loads(text) == vector


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(FacetError, match="cannot be written"):
        write_workbook(QueryResult(["a"], ["int4"], iter([(1,)])), tmp_path / "nowhere" / "rows.xlsx")
