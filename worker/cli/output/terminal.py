"""Output that commands share: messages, tables, JSON and progress bars."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from worker.cli.output.rows import Rows
from worker.errors import UsageError
from worker.pictures.exports.cells import heading
from worker.pictures.exports.json_text import to_json
from worker.visible import visible

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from _typeshed import DataclassInstance
    from rich.progress import Task

SENTENCES = ("when", "last result", "held reason")  # headings of columns that are never shortened
PIPED_WIDTH = 200  # columns of a table that goes into a file, or a pipe that no terminal is seen behind

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is.

    Where it is no terminal, it has COLUMNS; else those of the terminal that a pipe (``| head``) probably ends in;
    else 200.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS", "").isdigit() else _width_behind(stream)
    return Console(width=width, stderr=stderr, highlight=False, markup=False, emoji=False)


def _width_behind(stream: TextIO) -> int:
    """Return the columns of standard error's terminal for a pipe, PIPED_WIDTH for all else."""
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
        return (os.get_terminal_size(sys.stderr.fileno()).columns if is_pipe else 0) or PIPED_WIDTH
    except (OSError, ValueError):  # no file, or no terminal
        return PIPED_WIDTH


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


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], prose: Collection[str] = ()) -> Rows:
    """Lay out rows for the width of the terminal; columns of sentences (``prose``) are folded, others shortened."""
    return Rows(title, columns, rows, prose)


def print_rows(title: str, kind: type[DataclassInstance], rows: Sequence[DataclassInstance], *, as_json: bool) -> None:
    """Print values of one dataclass, a column for each field, as a table or as JSON."""
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        console().print(rows_of(title, kind, rows))


def rows_of(title: str, kind: type[DataclassInstance], rows: Sequence[DataclassInstance]) -> Rows:
    """Lay out values of one dataclass, a column for each field."""
    names = [field.name for field in fields(kind)]
    cells = [[getattr(row, name) for name in names] for row in rows]
    return table(title, [heading(name) for name in names], cells, prose=SENTENCES)


def typed(*words: str) -> str:
    """Return a command as a user can type it here: with its home, and the program's path where the name does not do."""
    called = Path(sys.argv[0])
    found = shutil.which("facet")
    is_found = found is not None and called.exists() and Path(found).samefile(called)
    program = "facet" if is_found or called.name != "facet" else _below_here(called)
    home = os.environ.get("FACET_HOME")
    at_home = [f"FACET_HOME={shlex.quote(_below_here(Path(home)))}"] if home else []
    return " ".join([*at_home, shlex.quote(program), *map(_quoted, words)])


def _below_here(path: Path) -> str:
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the current folder was deleted
        return str(path)
    return str(path.absolute().relative_to(here) if path.absolute().is_relative_to(here) else path)


def _quoted(word: str) -> str:
    """Quote a word for a shell, with the quotes that SQL does not use where that is possible."""
    plain = word == shlex.quote(word)
    return word if plain else f'"{word}"' if not set(word) & set('"$`\\!') else shlex.quote(word)


class RateColumn(ProgressColumn):
    """The pace of the last half minute."""

    def render(self, task: Task) -> Text:
        """Return it per second, nothing as long as it is unknown."""
        return Text("" if task.speed is None else f"{task.speed:,.{int(task.speed < 10)}f}/s")


def progress_bar() -> Progress:
    """Return a progress bar on standard error; it draws nothing where that is no terminal."""
    shown = console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        RateColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=shown,
        disable=not shown.is_terminal,
        transient=True,
    )
