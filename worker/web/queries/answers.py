"""Answers to questions in SQL, as the reader role and within limits, with counts by value and what a chart needs."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from db.errors import QueryError, WrongQuery
from db.reader.cancelling import named
from db.reader.narrowing import TOO_LARGE, Narrowing, narrow_query
from db.reader.run_query import run_query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_PAGE_ROWS = 1000  # of a page; a download has more
MAX_PAGE_SECONDS = 15.0  # for an answer on a page
MAX_FACET_VALUES = 20  # more than these are no choice
SHOWN_FACET_VALUES = 8
FACET_TYPES = frozenset({"text", "varchar", "bpchar", "name", "bool", "int2", "int4", "int8", "date"})
"""Types whose text in Python is their text in PostgreSQL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query that a visitor asks."""

    query: str
    only: Mapping[str, str | None]
    """By name of a column, the only value that is wanted there; None for NULL."""
    name: str
    """Of the connection, by which it can be cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetValue:
    """A value of a column, and how many of the rows have it."""

    value: str | None
    """As text; None for NULL."""
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """A column of few values."""

    column: str
    values: tuple[FacetValue, ...]
    """The commonest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAnswer:
    """Rows of an answer."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    is_cut: bool
    """Whether there are more rows."""
    seconds: float
    """That the answer took."""


def answer(url: str, asked: Asked, *, limit: int = MAX_PAGE_ROWS, seconds: float = MAX_PAGE_SECONDS) -> QueryAnswer:
    """Return the first rows of an answer.

    Args:
        url: address of the database for readers.
        asked: the query.
        limit: most rows.
        seconds: longest time.

    Raises:
        QueryError: the query is refused, wrong, too slow or was cancelled.
        DatabaseUnreachable: no connection.
    """
    began = time.monotonic()
    text = narrow_query(asked.query, Narrowing(limit=limit + 1, only=asked.only))
    try:
        with run_query(url, text, limit=limit + 1, timeout_seconds=seconds, settings=named(asked.name)) as result:
            rows = tuple(result)
            columns, types = tuple(result.columns), tuple(result.types)
    except WrongQuery as err:
        _explain(url, asked.query)
        raise WrongQuery(str(err).partition("\n")[0]) from err
    except QueryError as err:
        raise _too_large(err) from err
    return QueryAnswer(
        columns=columns,
        types=types,
        rows=rows[:limit],
        is_cut=len(rows) > limit,
        seconds=time.monotonic() - began,
    )


def _explain(url: str, query: str) -> None:
    """Raise the error of a query as it was written, with the place of the mistake; return if it has none."""
    with run_query(url, query, limit=0, timeout_seconds=MAX_PAGE_SECONDS):
        pass


def _too_large(err: QueryError) -> QueryError:
    if TOO_LARGE not in str(err):
        return err
    size = str(err).partition(TOO_LARGE)[2].partition('"')[0]
    return QueryError(f"{TOO_LARGE}{size}; expected at most 100,000: choose columns, or use `facet sql`")


def facets(found: QueryAnswer) -> tuple[Facet, ...]:
    """Return the columns of few values, each with its counts in the rows of an answer."""
    return tuple(
        facet
        for place, (column, kind) in enumerate(zip(found.columns, found.types, strict=True))
        if kind in FACET_TYPES and found.columns.count(column) == 1
        for facet in _facet(column, [row[place] for row in found.rows])
    )


def _facet(column: str, values: Sequence[object]) -> list[Facet]:
    counts = Counter(_as_text(value) for value in values)
    is_choice = 1 < len(counts) <= MAX_FACET_VALUES and len(counts) <= len(values) / 2
    if not is_choice:
        return []
    shown = counts.most_common(SHOWN_FACET_VALUES)
    return [Facet(column=column, values=tuple(FacetValue(value=value, rows=rows) for value, rows in shown))]


def _as_text(value: object) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
