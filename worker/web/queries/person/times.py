"""Where and when a person is in view: file by file, with the stretches of each video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row

FILES_A_PAGE = 30  # files
MAX_STRETCHES = 500  # of a file that are drawn

# One row an appearance, of the first files behind a number: the border is the file, so that none is cut.
_STRETCHES = text("""
    SELECT a.media_id, m.uri, m.kind, m.duration_seconds, m.taken_at, a.start_seconds, a.end_seconds, a.screen_seconds,
           a.best_face_id, a.appearance_id
    FROM (SELECT DISTINCT media_id FROM appearances WHERE person_id = :person AND media_id > :after
          ORDER BY media_id LIMIT :limit) f
    JOIN appearances a ON a.media_id = f.media_id AND a.person_id = :person
    JOIN media m ON m.media_id = f.media_id
    ORDER BY a.media_id, a.start_seconds, a.appearance_id""")


@dataclass(frozen=True, slots=True)
class Stretch:
    """One appearance on a time line."""

    appearance_id: int
    best_face_id: int | None
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTimes:
    """A file with a person in it."""

    media_id: int
    uri: str
    kind: str
    taken_at: datetime | None
    duration_seconds: float
    """Of the time line: at least up to the end of the last stretch."""
    screen_seconds: float
    count: int
    stretches: tuple[Stretch, ...]
    """The first `MAX_STRETCHES`."""


@dataclass(frozen=True, slots=True)
class TimesPage:
    """Some files of a person."""

    files: tuple[FileTimes, ...]
    after: int | None
    """File behind which the next page begins; None on the last one."""


def read_times(connection: Connection, person_id: int, after: int = 0, *, limit: int = FILES_A_PAGE) -> TimesPage:
    """Return the files of a person, in the order in which they were submitted first."""
    bounds = {"person": person_id, "after": after, "limit": limit + 1}
    files: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(_STRETCHES, bounds):
        files.setdefault(row.media_id, []).append(row)
    found = [_file(rows) for rows in files.values()]
    return TimesPage(tuple(found[:limit]), found[limit - 1].media_id if len(found) > limit else None)


def _file(rows: Sequence[Row[Any]]) -> FileTimes:
    first = rows[0]
    end = max(row.end_seconds for row in rows)
    return FileTimes(
        media_id=first.media_id,
        uri=first.uri,
        kind=first.kind,
        taken_at=first.taken_at,
        duration_seconds=max(first.duration_seconds or 0.0, end, 0.001),
        screen_seconds=sum(row.screen_seconds or 0.0 for row in rows),
        count=len(rows),
        stretches=tuple(
            Stretch(row.appearance_id, row.best_face_id, row.start_seconds, row.end_seconds)
            for row in rows[:MAX_STRETCHES]
        ),
    )
