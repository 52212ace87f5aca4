"""Output that commands share: messages, tables, JSON and progress bars."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from worker.cli.output.json_text import to_json
from worker.errors import UsageError
from worker.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _typeshed import DataclassInstance

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is; tables are as wide as their content when it is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(width=width, stderr=stderr, highlight=False, markup=False, emoji=False)


def echo(message: str, *, err: bool = False) -> None:
    """Print a message on one line; control characters in it are shown as escapes."""
    typer.echo(visible(message), err=err)


def utf8(value: str) -> str:
    """Return an argument that a database can hold; for ``callback=`` of options and arguments that are no paths.

    Raises:
        UsageError: it holds bytes that are no UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError as err:
        raise UsageError(f"{visible(value)} holds bytes that are no UTF-8; expected text in UTF-8") from err
    return value


def utf8_or_none(value: str | None) -> str | None:
    """Return an optional argument that a database can hold.

    Raises:
        UsageError: it holds bytes that are no UTF-8.
    """
    return None if value is None else utf8(value)


def print_json(value: object) -> None:
    """Print a value as JSON, times in ISO 8601."""
    typer.echo(to_json(value, indent=2))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Lay out rows; numbers are aligned right, and control characters are shown as escapes."""
    drawn = Table(title=Text(visible(title)) if title else None, title_justify="left", header_style="bold")
    cells = [[cell(value) for value in row] for row in rows]
    numeric = [all(_is_number(row[i]) for row in cells) and bool(cells) for i in range(len(columns))]
    for name, right in zip(columns, numeric, strict=True):
        drawn.add_column(Text(visible(name)), justify="right" if right else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(visible(shown)) for shown in row))
    return drawn


def print_rows(title: str, kind: type[DataclassInstance], rows: Sequence[DataclassInstance], *, as_json: bool) -> None:
    """Print values of one dataclass, a column for each field, as a table or as JSON."""
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        columns = [field.name for field in fields(kind)]
        console().print(table(title, columns, [[getattr(row, name) for name in columns] for row in rows]))


def cell(value: object) -> str:
    """Return a value's text: short for numbers and vectors, times in UTC, empty for NULL."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1e6 else f"{value:g}"
    if isinstance(value, datetime):
        zone = "" if value.tzinfo is None else " UTC"
        return (value.astimezone(UTC) if zone else value).strftime("%Y-%m-%d %H:%M:%S") + zone
    if isinstance(value, dict | list):
        return to_json(value)
    return str(value)


def _is_number(shown: str) -> bool:
    try:
        float(shown or "0")
    except ValueError:
        return False
    return True


def progress_bar() -> Progress:
    """Return a progress bar on standard error; it draws nothing where that is no terminal."""
    shown = console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} units"),
        TextColumn("{task.fields[facts]}", markup=False),
        TimeElapsedColumn(),
        console=shown,
        disable=not shown.is_terminal,
        transient=True,
    )
