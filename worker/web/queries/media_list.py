"""Reads pages of the list of files: by number, or by place in a job; nothing is counted and no row is skipped over.

A filter looks through a bounded number of files a page. Where that finds too few, the page ends early and continues
where it stopped, so that a rare reason among a million files takes no longer than a common one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from worker.types import MediaKind

DEFAULT_ROWS = 60  # of a page
MAX_LOOKED_THROUGH = 10_000  # files that one page looks through: 50 ms
MAX_SHOWN_FACES = 6  # of a file

_PART_OF_ALL = """
    SELECT media_id AS place, media_id FROM media
    WHERE (cast(:after AS bigint) IS NULL OR media_id < :after) ORDER BY media_id DESC LIMIT :window"""
_PART_OF_JOB = """
    SELECT item_no AS place, media_id, uri, status, reason FROM files
    WHERE job_id = :job AND item_no > coalesce(cast(:after AS bigint), -1) ORDER BY item_no LIMIT :window"""
_END_OF_ALL = text(f"SELECT count(*), min(place) FROM ({_PART_OF_ALL}) AS part")  # noqa: S608 - the constants above
_END_OF_JOB = text(f"SELECT count(*), max(place) FROM ({_PART_OF_JOB}) AS part")  # noqa: S608 - the constants above
_CONDITIONS = {
    "status": "f.status = :status",
    "reason": "split_part(f.reason, ':', 1) = :reason",
    "kind": "f.kind = :kind",
    "name": "strpos(lower(f.uri), lower(:name)) > 0",
    "is_empty": "f.status = 'done' AND NOT EXISTS (SELECT FROM appearances AS a WHERE a.media_id = f.media_id)",
}
_ROWS_OF_ALL = """
    WITH part AS MATERIALIZED ({part})
    SELECT f.* FROM (
        SELECT part.place, m.media_id, m.uri, m.kind, m.status, m.reason, m.width, m.height, m.duration_seconds,
               m.submitted_at, m.taken_at, m.face_count
        FROM part JOIN media AS m USING (media_id)
    ) AS f {where} ORDER BY f.place DESC LIMIT :rows"""
_ROWS_OF_JOB = """
    WITH part AS MATERIALIZED ({part})
    SELECT f.* FROM (
        SELECT part.place, m.media_id, part.uri, m.kind, part.status, part.reason, m.width, m.height,
               m.duration_seconds, m.submitted_at, m.taken_at, m.face_count
        FROM part JOIN media AS m USING (media_id)
    ) AS f {where} ORDER BY f.place LIMIT :rows"""
# The first ones in order of time: all appearances of a long video would have to be read for the longest.
_FACES = text("""
    SELECT m.media_id, a.best_face_id, a.person_id, a.start_seconds
    FROM unnest(cast(:media AS bigint[])) AS m (media_id)
    CROSS JOIN LATERAL (
        SELECT best_face_id, person_id, start_seconds FROM appearances
        WHERE media_id = m.media_id AND best_face_id IS NOT NULL ORDER BY start_seconds LIMIT :look
    ) AS a""")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFilter:
    """Which files are listed; without a condition all are, the newest first."""

    status: str | None = None
    reason: str | None = None
    """Code of a reason, such as ``truncated``."""
    kind: MediaKind | None = None
    job_id: int | None = None
    """In the order of this job, with the state that a file has in it."""
    is_empty: bool = False
    """Whether only analysed files without any appearance are listed."""
    name: str | None = None
    """Part of the path; upper and lower case are alike."""

    def conditions(self) -> dict[str, object]:
        """Return the values of the conditions that are set, by their names."""
        every = {
            "status": self.status,
            "reason": self.reason,
            "kind": self.kind,
            "name": self.name,
            "is_empty": self.is_empty or None,
        }
        return {name: value for name, value in every.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ListedFace:
    """The best face of an appearance, shown in a list."""

    face_id: int
    person_id: int | None
    start_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedMedia:
    """A file of the list."""

    place: int
    """Number of the file, or of the item in its job: the next page begins behind it."""
    media_id: int
    uri: str
    kind: MediaKind | None
    status: str
    reason: str | None
    width: int | None
    height: int | None
    duration_seconds: float | None
    submitted_at: datetime
    taken_at: datetime | None
    face_count: int | None
    """Faces that were detected, dropped ones included."""
    faces: tuple[ListedFace, ...] = ()
    """Of different people, the first in order of time."""


@dataclass(frozen=True, slots=True)
class MediaPage:
    """A page of the list."""

    rows: tuple[ListedMedia, ...]
    after: int | None
    """Where the next page begins; None at the end."""
    is_partial: bool
    """Whether the page ended early because so many files were looked through."""


def list_media(
    connection: Connection,
    wanted: MediaFilter,
    *,
    after: int | None = None,
    rows: int = DEFAULT_ROWS,
    look_through: int = MAX_LOOKED_THROUGH,
) -> MediaPage:
    """Return a page of files.

    Args:
        connection: of the reader.
        wanted: which files.
        after: ``after`` of the page before; None for the first one.
        rows: most rows of a page.
        look_through: most files that a filter is applied to.
    """
    conditions = wanted.conditions()
    window = look_through if conditions else rows + 1
    values = {"after": after, "job": wanted.job_id, "window": window, "rows": rows + 1} | conditions
    found = _read(connection, wanted, values)
    if len(found) > rows:
        return MediaPage(_with_faces(connection, found[:rows]), found[rows - 1].place, is_partial=False)
    end = connection.execute(_END_OF_ALL if wanted.job_id is None else _END_OF_JOB, values)
    count, last = end.one()
    is_partial = count == window
    return MediaPage(_with_faces(connection, found), last if is_partial else None, is_partial)


def _read(connection: Connection, wanted: MediaFilter, values: Mapping[str, object]) -> list[ListedMedia]:
    clauses = [_CONDITIONS[name] for name in wanted.conditions()]
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    query = (
        _ROWS_OF_ALL.format(part=_PART_OF_ALL, where=where)
        if wanted.job_id is None
        else _ROWS_OF_JOB.format(part=_PART_OF_JOB, where=where)
    )
    rows = connection.execute(text(query), values).mappings()
    return [ListedMedia(**row) for row in rows]


def _with_faces(connection: Connection, found: list[ListedMedia]) -> tuple[ListedMedia, ...]:
    ids = [row.media_id for row in found]
    faces: dict[int, dict[int, ListedFace]] = {media_id: {} for media_id in ids}
    for row in connection.execute(_FACES, {"media": ids, "look": 2 * MAX_SHOWN_FACES}):
        face = ListedFace(row.best_face_id, row.person_id, row.start_seconds)
        who = -face.face_id if face.person_id is None else face.person_id
        if len(faces[row.media_id]) < MAX_SHOWN_FACES:
            faces[row.media_id].setdefault(who, face)
    return tuple(replace(row, faces=tuple(faces[row.media_id].values())) for row in found)
