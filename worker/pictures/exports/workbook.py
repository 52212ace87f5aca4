"""Rows as an Excel workbook, streamed. Text stays text: no cell is read as a formula, a link or a number."""

from __future__ import annotations

import json
import math
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import xlsxwriter
from xlsxwriter.exceptions import XlsxWriterException

from worker.errors import FacetError
from worker.pictures.exports.json_text import json_value, number

if TYPE_CHECKING:
    from pathlib import Path

    from db.reader.run_query import QueryResult

MAX_SHEET_ROWS = (1 << 20) - 1  # of a sheet, below its header
MAX_COLUMNS = 1 << 14
MAX_TEXT = (1 << 15) - 1  # characters of a cell
MAX_EXACT = 1 << 53  # spreadsheets hold numbers as doubles

_OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_numbers": False,
    "strings_to_urls": False,
    "default_date_format": "yyyy-mm-dd hh:mm:ss",
}


def write_workbook(result: QueryResult, path: Path) -> None:
    """Write a workbook of one sheet, whose first row has the columns' names; times are in UTC.

    Vectors, arrays and documents are JSON; numbers that a spreadsheet cannot hold exactly are text.

    Raises:
        FacetError: the file cannot be written, or a sheet cannot hold the rows.
    """
    try:
        with path.open("wb") as file, closing(xlsxwriter.Workbook(file, _OPTIONS)) as workbook:
            _write_rows(workbook, result)
    except (OSError, XlsxWriterException) as err:
        raise FacetError(f"{path} cannot be written: {getattr(err, 'strerror', None) or err}") from err
    except FacetError:
        path.unlink(missing_ok=True)
        raise


def _write_rows(workbook: xlsxwriter.Workbook, result: QueryResult) -> None:
    if len(result.columns) > MAX_COLUMNS:
        raise FacetError(f"the query has {len(result.columns)} columns, a sheet holds {MAX_COLUMNS}; select fewer")
    sheet = workbook.add_worksheet("rows")
    sheet.freeze_panes(1, 0)
    sheet.write_row(0, 0, result.columns, workbook.add_format({"bold": True}))
    for count, row in enumerate(result, 1):
        if count > MAX_SHEET_ROWS:
            raise FacetError(
                f"the query has more than {MAX_SHEET_ROWS:,} rows, which a sheet holds; use -o FILE.csv or .parquet"
            )
        for place, value in enumerate(row):
            if value is not None:
                sheet.write(count, place, _cell(value, result.columns[place]))


def _cell(value: object, column: str) -> bool | float | str | date:
    if isinstance(value, bool):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo is not None else value
    if isinstance(value, int | float | Decimal):
        plain = number(value) if isinstance(value, Decimal) else value
        return plain if math.isfinite(plain) and abs(plain) <= MAX_EXACT else str(json_value(value))
    plain_text = value if isinstance(value, date | str) else _text(value)
    if isinstance(plain_text, str) and len(plain_text) > MAX_TEXT:
        raise FacetError(
            f"a value of the column {column} has {len(plain_text):,} characters, a cell holds {MAX_TEXT:,}; use "
            "-o FILE.csv or .parquet, or leave the column out"
        )
    return plain_text


def _text(value: object) -> str:
    plain = json_value(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
