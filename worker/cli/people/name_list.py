"""Lists of names in CSV: a column that names a person, and a column of names."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PEOPLE = ("person_id", "person", "appearance_id")
EXPECTED = "expected a header with `name` and one of `person_id`, `person`, `appearance_id`; `reason` may follow"


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRow:
    """A line of the list."""

    line: int
    key: str
    """Number or name of the person, or number of the appearance."""
    is_appearance: bool
    name: str
    reason: str | None = None


def read_name_list(path: Path) -> list[NameRow]:
    """Return the lines that have a name; a list of two columns without a header is one of numbers and names.

    The separator is the comma, the semicolon or the tabulator, whichever the first line has most of.

    Raises:
        UsageError: the file cannot be read, is no UTF-8, or lacks a column.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as err:
        raise UsageError(f"{path} cannot be read: {err.strerror}; expected a CSV file of names") from err
    except UnicodeDecodeError as err:
        raise UsageError(f"{path} holds bytes that are no UTF-8; store it as CSV UTF-8") from err
    if not any(line.strip() for line in lines):
        raise UsageError(f"{path} is empty; {EXPECTED}")
    reader = csv.reader(lines, delimiter=max(",;\t", key=lines[0].count))
    rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    header = [cell.strip().lower() for cell in rows[0][1]]
    if len(header) == 2 and header[0].isdecimal():
        header = ["person", "name"]
    else:
        rows = rows[1:]
    return [row for line, cells in rows if (row := _row(path, header, line, cells)) is not None]


def _row(path: Path, header: Sequence[str], line: int, cells: Sequence[str]) -> NameRow | None:
    """Return a line; None where it has no name."""
    keys = [column for column in PEOPLE if column in header]
    if "name" not in header or len(keys) != 1:
        raise UsageError(f"{path} has the columns {', '.join(header)}; {EXPECTED}")
    if len(cells) > len(header):
        raise UsageError(
            f'{path} line {line} has {len(cells)} cells, expected {len(header)}; put " around names with a comma'
        )
    values = dict(zip(header, (cell.strip() for cell in cells), strict=False))
    key, name = values.get(keys[0], ""), values.get("name", "")
    if not name:
        return None
    is_appearance = keys[0] == "appearance_id"
    if not key or (keys[0] != "person" and not (key.isascii() and key.isdecimal())):
        raise UsageError(f"{path} line {line} has {keys[0]} {key!r}, expected a number")
    return NameRow(line=line, key=key, is_appearance=is_appearance, name=name, reason=values.get("reason") or None)
