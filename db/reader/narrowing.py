"""A query inside another one, which chooses some of its rows and refuses rows that are too large for a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.reader.questions import quote_literal
from db.reader.sqltext import read_query, without_end

if TYPE_CHECKING:
    from collections.abc import Mapping

# Rows come by the thousand, so a program that serves many users must know how large one can be: this bounds its memory.
MAX_ROW_BYTES = 100_000
TOO_LARGE = "a row takes "  # begins the message for such a row
_SMALL = f"""CASE WHEN pg_column_size(answer.*) > {MAX_ROW_BYTES}
    THEN cast('{TOO_LARGE}' || pg_column_size(answer.*) || ' bytes' AS integer) IS NULL ELSE true END"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """Which rows of a query are read."""

    limit: int
    only: Mapping[str, str | None]
    """By name of a column, the only value that rows may have there, as text; None for NULL."""


def narrow_query(query: str, narrowing: Narrowing) -> str:
    """Return a query for some of the rows of another one; a plan (EXPLAIN) stays as it is.

    Its rows have at most ``MAX_ROW_BYTES``; a larger one ends it with an error.

    Raises:
        WrongQuery: it is no query.
    """
    if read_query(query).beginning == "explain":
        return query
    conditions = [_SMALL, *(_condition(name, value) for name, value in narrowing.only.items())]
    return (
        f"SELECT answer.* FROM (\n{without_end(query)}\n) AS answer\nWHERE {' AND '.join(conditions)}\n"  # noqa: S608 - quoted
        f"LIMIT {narrowing.limit}"
    )


def _condition(name: str, value: str | None) -> str:
    column = f'answer."{name.replace(chr(34), chr(34) * 2)}"'
    return f"{column} IS NULL" if value is None else f"{column}::text = {quote_literal(value)}"
