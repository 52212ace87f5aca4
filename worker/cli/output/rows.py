r"""Rows that fit their terminal: a grid, or one record a block where no grid fits, as psql's ``\x auto`` does.

A vector is shown as its length, a path relative to the current folder, and long text is shortened in the middle.
Text is shortened only as far as needed; numbers, times and short words never are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from worker.pictures.exports.cells import cell
from worker.visible import visible

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

ColumnKind = Literal["number", "fixed", "text", "path", "prose"]

MARK = "..."  # stands for what is left out; every terminal has these characters
MIN_WIDTHS: dict[ColumnKind, int] = {"number": 1_000, "fixed": 1_000, "text": 12, "path": 20, "prose": 18}
"""Characters that a column keeps however narrow the terminal is; narrower content keeps all of its own."""
BOXED, OPEN = 3, 2  # characters between two columns of a grid with lines around its cells, and of one without
MAX_FOLDS = 3  # lines of a block over which a long text is folded before it is shortened
GAP = "  "  # between name and value in a block
NUMERIC = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?( %)?|-?inf|nan", re.IGNORECASE)
PATH = re.compile(r"/|[a-z0-9]+://")


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    kind: ColumnKind
    cells: tuple[str, ...]

    @property
    def content(self) -> int:
        """Width of the widest cell."""
        return max(map(cell_len, self.cells), default=0)

    @property
    def narrowest_name(self) -> int:
        """Width of the longest part of the name: it may be broken behind ``_`` and ``/`` and at spaces."""
        return max(map(cell_len, _parts(self.name)), default=0)

    def least(self) -> int:
        """Return the width below which the column does not go."""
        return max(min(self.content, MIN_WIDTHS[self.kind]), self.narrowest_name)


class Rows:
    """Rows under a title, laid out for the width of the console that prints them."""

    def __init__(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], prose: Collection[str] = ()
    ) -> None:
        """Take the rows.

        Args:
            title: line above them; empty for none.
            columns: their names.
            rows: values as a database gives them.
            prose: columns of sentences, which are folded between words and never shortened.
        """
        self.title = visible(title)
        given = list(rows)
        self._columns = [_column(name, [row[i] for row in given], name in prose) for i, name in enumerate(columns)]
        self._count = len(given)

    def fits(self, width: int) -> bool:
        """Return whether the rows are a grid at this width."""
        return _fit(self._columns, width - _outside(OPEN, self._columns)) is not None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Lay the rows out for the width at hand."""
        if self.title:
            yield Text(self.title, style="italic")
        boxed, opened = (_fit(self._columns, options.max_width - _outside(gap, self._columns)) for gap in (BOXED, OPEN))
        if not self._count:
            yield Text("(no rows)")
        elif boxed is not None:
            yield self._grid(Table(header_style="bold"), boxed)
        elif opened is not None:
            plain = Table(header_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
            yield self._grid(plain, opened)
        else:
            yield from self._blocks(console, options.max_width)

    def _grid(self, drawn: Table, widths: Sequence[int]) -> Table:
        for column, width in zip(self._columns, widths, strict=True):
            heading = Text("\n".join(_broken(column.name, width)))
            side: Literal["left", "right"] = "right" if column.kind == "number" else "left"
            drawn.add_column(heading, justify=side, width=width, no_wrap=column.kind != "prose", overflow="fold")
        shown = [
            [Text(one if column.kind == "prose" else shorten(one, width, column.kind)) for one in column.cells]
            for column, width in zip(self._columns, widths, strict=True)
        ]
        for row in range(self._count):
            drawn.add_row(*(cells[row] for cells in shown))
        return drawn

    def _blocks(self, console: Console, width: int) -> Iterator[Text]:
        names = max(cell_len(column.name) for column in self._columns)
        room = max(width - names - len(GAP), MIN_WIDTHS["text"])
        for row in range(self._count):
            yield Text(f"-- {row + 1} ".ljust(width, "-"), style="bold")
            for column in self._columns:
                name = column.name
                for line in Text(_folded(column.cells[row], room, column.kind)).wrap(console, room) or [Text()]:
                    yield Text(f"{set_cell_size(name, names)}{GAP}{line.plain}".rstrip())
                    name = ""


def _column(name: str, values: Sequence[object], is_prose: bool) -> _Column:  # noqa: FBT001 - a fact of it, no switch
    kind = "prose" if is_prose else _kind(values)
    shown = (_below_here(cell(value)) if kind == "path" else cell(value) for value in values)
    return _Column(visible(name), kind, tuple(map(visible, shown)))


def _outside(gap: int, columns: Sequence[_Column]) -> int:
    """Return how much of the width of a grid is between and beside its columns."""
    return gap * len(columns) + (1 if gap == BOXED else -gap)


def _kind(values: Sequence[object]) -> ColumnKind:
    """Return how a column may be narrowed, by its values."""
    if any(isinstance(value, bool | date) for value in values):
        return "fixed"
    texts = [str(value) for value in values if value not in {None, ""}] if _hashable(values) else []
    if texts and all(NUMERIC.fullmatch(one) for one in texts):
        return "number"
    return "path" if texts and all(PATH.match(one) for one in texts) else "text"


def _hashable(values: Sequence[object]) -> bool:
    return not any(isinstance(value, list | dict) or hasattr(value, "tolist") for value in values)


def _fit(columns: Sequence[_Column], room: int) -> list[int] | None:
    """Return the widths of a grid's columns; None where they cannot be as narrow as this together."""
    widths = [max(column.content, cell_len(column.name)) for column in columns]
    if sum(widths) <= room:
        return widths
    least = [column.least() for column in columns]
    if sum(least) > room:
        return None
    widths = [min(max(column.content, column.narrowest_name), room) for column in columns]
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        widths[widest] -= 1
    return _with_wider_names(columns, widths, room)


def _with_wider_names(columns: Sequence[_Column], widths: list[int], room: int) -> list[int]:
    """Spend room that is left on names that would be broken."""
    for i, column in enumerate(columns):
        widths[i] += max(0, min(cell_len(column.name) - widths[i], room - sum(widths)))
    return widths


def _parts(name: str) -> list[str]:
    return re.findall(r"[^_/ ]*[_/]+|[^_/ ]+", name)


def _broken(name: str, width: int) -> list[str]:
    """Break a name into lines, behind ``_`` and ``/`` and at spaces."""
    lines = [""]
    for word in name.split(" "):
        for number, part in enumerate(_parts(word)):
            space = " " if number == 0 and lines[-1] else ""
            if lines[-1] and cell_len(lines[-1] + space + part) > width:
                lines.append(part)
            else:
                lines[-1] += space + part
    return lines


def shorten(shown: str, width: int, kind: ColumnKind = "text") -> str:
    """Return a text of at most this width: of a path its end, of other text beginning and end."""
    if cell_len(shown) <= width:
        return shown
    if kind == "path":
        folders = shown.split("/")
        ends = (f"{MARK}/{'/'.join(folders[first:])}" for first in range(1, len(folders)))
        whole = next((end for end in ends if cell_len(end) <= width), None)
        if whole is not None:
            return _with_first_folders(folders, whole, width)
        shown = folders[-1] or shown
    room = max(width - len(MARK), 0)
    end = _ending(shown, room // 2)
    return _beginning(shown, room - cell_len(end)) + MARK + end


def _with_first_folders(folders: Sequence[str], end: str, width: int) -> str:
    """Put as many first folders before a shortened path as fit."""
    starts = ("/".join((*folders[:count], end)) for count in range(len(folders), 0, -1))
    return next((path for path in starts if cell_len(path) <= width), end)


def _beginning(shown: str, width: int) -> str:
    while cell_len(shown) > width:
        shown = shown[: min(len(shown) - 1, width)]
    return shown


def _ending(shown: str, width: int) -> str:
    while cell_len(shown) > width:
        shown = shown[max(1, len(shown) - width) :]
    return shown


def _folded(shown: str, width: int, kind: ColumnKind) -> str:
    if kind == "prose":
        return shown
    return shorten(shown, width if kind == "path" or shown[:1] in {"{", "["} else width * MAX_FOLDS, kind)


def _below_here(shown: str) -> str:
    """Return a path relative to the current folder, if it is in there."""
    if not shown.startswith("/"):
        return shown
    try:
        here = f"{Path.cwd()}/"
    except OSError:  # the folder is gone
        return shown
    return shown.removeprefix(here) or shown
