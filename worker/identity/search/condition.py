"""A user's SQL condition over the views ``appearances`` and ``media``, as ``--where`` takes it.

It runs as the queries of `facet sql` do: read-only, under the role that may read the views and nothing else.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from db.errors import QueryError
from db.reader.run_query import run_query

if TYPE_CHECKING:
    from collections.abc import Iterator

MEDIA_COLUMNS = ", ".join(
    f"m.{column}" for column in (
        "sha256", "uri", "kind", "width", "height", "duration_seconds", "frames_per_second", "status", "reason",
        "submitted_at", "finished_at", "format", "byte_size", "frame_count", "sampling", "sample_interval_seconds",
    )
)  # fmt: skip
"""Columns of ``media`` that ``appearances`` lacks."""
_MATCHING = f"""
SELECT appearance_id FROM (
    SELECT a.*, {MEDIA_COLUMNS} FROM appearances AS a JOIN media AS m USING (media_id)
    WHERE %(person)s::bigint IS NULL OR a.person_id = %(person)s::bigint
) AS searched WHERE (
{{where}}
)
"""  # noqa: S608 - constant names


def read_matching(url: str, where: str, person_id: int | None = None, timeout_seconds: float = 300.0) -> list[int]:
    """Return the numbers of the appearances that pass a condition, of one person where one is named.

    Args:
        url: address of the database, as the reader or as a user who may become the reader.
        where: SQL condition.
        person_id: the person.
        timeout_seconds: longest time of the query.

    Raises:
        QueryError: the condition is none over the views, or takes too long.
    """
    query = _MATCHING.format(where=condition_text(where))
    with (
        filter_explained(where),
        run_query(url, query, parameters={"person": person_id}, timeout_seconds=timeout_seconds) as result,
    ):
        return [int(row[0]) for row in result]


@contextmanager
def filter_explained(where: str | None) -> Iterator[None]:
    """Add to an error in a user's condition what was expected."""
    try:
        yield
    except QueryError as err:
        if where is None:
            raise
        message = " ".join(str(err).split())
        raise QueryError(
            f"{message}; expected a condition over the columns of appearances and media (docs/sql.md), "
            "such as: kind = 'video' AND start_seconds > 60"
        ) from err


def condition_text(where: str | None) -> str:
    """Return a user's condition as part of a query with parameters, with each percent sign doubled."""
    return "true" if where is None else where.replace("%", "%%")
