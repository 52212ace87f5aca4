"""The chart of an answer, where there is an obvious one: bars of a few names, or a line over time."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

from worker.pictures.exports.cells import cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.web.queries.answers import QueryAnswer

MAX_BARS = 30
MIN_POINTS, MAX_POINTS = 3, 1000
WIDTH, HEIGHT = 1000.0, 240.0  # of a line, in units of its drawing
NUMBERS = frozenset({"int2", "int4", "int8", "float4", "float8", "numeric"})
TIME_TYPES = frozenset({"date", "timestamp", "timestamptz"})
TIME_NAMES = frozenset(
    {"year", "month", "day", "minute", "hour", "second", "at_seconds", "start_seconds", "from_seconds"}
)
NO_MEASURE = frozenset({*TIME_NAMES, "to_seconds", "end_seconds", "x1", "y1", "x2", "y2", "latitude", "longitude"})
"""Numbers that place a row, and measure nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueBar:
    """A named number."""

    name: str
    value: str
    share: float
    """Of the largest one, in percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Numbers of a few names."""

    measure: str
    names: str
    bars: tuple[ValueBar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLine:
    """A number over time."""

    measure: str
    time: str
    points: str
    """Of a polyline in a drawing of WIDTH x HEIGHT."""
    first: str
    last: str
    least: str
    most: str


Chart = Bars | TimeLine


def chart_of(found: QueryAnswer) -> Chart | None:
    """Return the chart of an answer; None where none is obvious."""
    if found.is_cut or len(found.rows) < 2:
        return None
    measure = next((place for place in range(len(found.columns)) if _is_measure(found, place)), None)
    if measure is None or not all(row[measure] is not None and isfinite(row[measure]) for row in found.rows):
        return None
    return _line(found, measure) or _bars(found, measure)


def _is_measure(found: QueryAnswer, place: int) -> bool:
    name, kind = found.columns[place], found.types[place]
    return kind in NUMBERS and not name.endswith(("_id", "_no")) and name not in NO_MEASURE


def _line(found: QueryAnswer, measure: int) -> TimeLine | None:
    times = [
        place for place, kind in enumerate(found.types) if kind in TIME_TYPES or found.columns[place] in TIME_NAMES
    ]
    if len(times) != 1 or not MIN_POINTS <= len(found.rows) <= MAX_POINTS or _names(found):
        return None
    moments = [_moment(row[times[0]]) for row in found.rows]
    known = [one for one in moments if one is not None]
    if len(known) < len(moments) or sorted(set(known)) != known:
        return None
    values = [float(row[measure]) for row in found.rows]
    low, high = min(0.0, *values), max(values)
    points = zip(_scaled(known, known[0], known[-1], WIDTH), _scaled(values, low, high, HEIGHT), strict=True)
    return TimeLine(
        measure=found.columns[measure],
        time=found.columns[times[0]],
        points=" ".join(f"{x:.1f},{HEIGHT - y:.1f}" for x, y in points),
        first=cell(found.rows[0][times[0]]),
        last=cell(found.rows[-1][times[0]]),
        least=cell(low),
        most=cell(high),
    )


def _names(found: QueryAnswer) -> list[int]:
    """Return the places of columns that name a row: text that is no time."""
    return [
        place
        for place, kind in enumerate(found.types)
        if kind in {"text", "varchar", "bool"} and found.columns[place] not in TIME_NAMES
    ]


def _moment(value: Any) -> float | None:
    """Return a time as a number; a year may be text."""
    if hasattr(value, "toordinal"):
        seconds = value.timestamp() if hasattr(value, "timestamp") else value.toordinal() * 86400.0
        return float(seconds)
    if isinstance(value, int | float | Decimal):
        return float(value)
    return float(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else None


def _scaled(values: Sequence[float], low: float, high: float, length: float) -> list[float]:
    return [length * (value - low) / ((high - low) or 1.0) for value in values]


def _bars(found: QueryAnswer, measure: int) -> Bars | None:
    names = [place for place in _names(found) if place < measure] or [
        place for place, name in enumerate(found.columns) if name.endswith("_id") and place < measure
    ][:1]
    values = [float(row[measure]) for row in found.rows]
    if not names or len(found.rows) > MAX_BARS or min(values) < 0 or not max(values):
        return None
    labels = [" · ".join(cell(row[place]) or "(none)" for place in names) for row in found.rows]
    if len(set(labels)) < len(labels):
        return None
    return Bars(
        measure=found.columns[measure],
        names=", ".join(found.columns[place] for place in names),
        bars=tuple(
            ValueBar(name=label, value=cell(row[measure]), share=round(100 * value / max(values), 2))
            for label, row, value in zip(labels, found.rows, values, strict=True)
        ),
    )
