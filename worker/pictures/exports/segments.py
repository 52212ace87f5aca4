"""Reads the appearances that are exported, file by file, with the views alone and in one query."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from db.errors import QueryError
from db.reader.run_query import run_query
from worker.types import UNKNOWN
from worker.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.types import MediaKind

MIN_SECONDS = 0.001  # of an appearance that one frame shows: formats that count milliseconds refuse an empty one

# A face is in view up to the next sampled frame, or to the end of the video.
_QUERY = """
SELECT
    m.media_id, m.uri, m.kind, m.width, m.height, m.duration_seconds, m.orientation,
    a.appearance_id, a.person_id, p.name, a.start_seconds,
    greatest(a.end_seconds, (
        SELECT max(f.at_seconds + f.hold_seconds) FROM faces AS f WHERE f.appearance_id = a.appearance_id
    )) AS until_seconds,
    a.age, a.gender, a.emotion, a.face_count, a.screen_seconds, a.quality,
    b.x1, b.y1, b.x2, b.y2, b.frame_width, b.frame_height, b.at_seconds
FROM appearances AS a
JOIN media AS m USING (media_id)
LEFT JOIN people AS p ON p.person_id = a.person_id
LEFT JOIN faces AS b ON b.face_id = a.best_face_id
WHERE (%(media)s::bigint IS NULL OR m.media_id = %(media)s)
    AND (%(person)s::bigint IS NULL OR a.person_id = %(person)s)
    {conditions}
ORDER BY m.media_id, a.start_seconds, a.ordinal
"""
_JOB = "AND m.media_id IN (SELECT i.media_id FROM files AS i WHERE i.job_id = %(job)s)"
_WHERE = "AND a.appearance_id IN (SELECT appearance_id FROM appearances JOIN media USING (media_id) WHERE ({where}\n))"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSelection:
    """Which appearances are exported; without a condition all are."""

    media_id: int | None = None
    job_id: int | None = None
    person_id: int | None = None
    where: str | None = None
    """SQL condition over the columns of appearances and media."""


@dataclass(frozen=True, slots=True)
class ShareBox:
    """The best face of an appearance, in shares of its upright frame."""

    left: float
    top: float
    width: float
    height: float
    at_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One appearance."""

    appearance_id: int
    person_id: int | None
    name: str | None
    """As its user typed it: it may hold markup and control characters."""
    start_seconds: float
    end_seconds: float
    """Later than the start; for an image both are 0."""
    age: float | None
    gender: str | None
    emotion: str | None
    face_count: int
    quality: float | None
    box: ShareBox | None

    @property
    def label(self) -> str:
        """Name or number of the person, on one line without control characters."""
        if self.person_id is None:
            return "nobody yet"
        return visible(self.name) if self.name else f"person {self.person_id}"

    @property
    def facts(self) -> str:
        """Age, gender and emotion, as far as they are known, separated by commas."""
        known = [] if self.age is None else [f"{self.age:.0f} y"]
        return ", ".join(known + [word for word in (self.gender, self.emotion) if word not in {None, UNKNOWN}])

    @property
    def text(self) -> str:
        """Label and facts on one line."""
        return f"{self.label} ({self.facts})" if self.facts else self.label


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSegments:
    """A file with its appearances, in order of time; they may overlap."""

    media_id: int
    uri: str
    kind: MediaKind
    width: int
    height: int
    duration_seconds: float | None
    segments: tuple[Segment, ...]
    orientation: int | None = None
    """EXIF orientation of its first frame; None for a file that was analysed before orientations were stored."""


@contextmanager
def read_segments(
    url: str, selection: SegmentSelection, timeout_seconds: float = 300.0
) -> Iterator[Iterator[MediaSegments]]:
    """Read the selected appearances as the reader, with one file in memory at a time.

    Args:
        url: address of the database.
        selection: which appearances.
        timeout_seconds: longest time that the database may work.

    Raises:
        QueryError: the condition is wrong.
    """
    conditions = [] if selection.job_id is None else [_JOB]
    if selection.where is not None:
        conditions.append(_WHERE.format(where=selection.where.replace("%", "%%")))
    query = _QUERY.format(conditions=" ".join(conditions))
    given = {"media": selection.media_id, "person": selection.person_id, "job": selection.job_id}
    with _explained(selection.where), run_query(url, query, parameters=given, timeout_seconds=timeout_seconds) as rows:
        named = (dict(zip(rows.columns, row, strict=True)) for row in rows)
        yield (_file(list(group)) for _, group in groupby(named, key=lambda row: row["media_id"]))


@contextmanager
def _explained(where: str | None) -> Iterator[None]:
    try:
        yield
    except QueryError as err:
        if where is None:
            raise
        raise QueryError(
            f"{' '.join(str(err).split())}; expected a condition over the columns of appearances and media "
            "(docs/sql.md), such as: kind = 'video' AND start_seconds > 60"
        ) from err


def _file(rows: list[dict[str, object]]) -> MediaSegments:
    first: Mapping[str, object] = rows[0]
    columns = ("media_id", "uri", "kind", "width", "height", "duration_seconds", "orientation")
    facts = {name: first[name] for name in columns}
    is_image = first["kind"] == "image"
    return MediaSegments(**facts, segments=tuple(_segment(row, is_image=is_image) for row in rows))  # type: ignore[arg-type]


def _segment(row: Mapping[str, object], *, is_image: bool) -> Segment:
    columns = (
        "appearance_id",
        "person_id",
        "name",
        "start_seconds",
        "age",
        "gender",
        "emotion",
        "face_count",
        "quality",
    )
    facts = {name: row[name] for name in columns}
    start, until = float(str(row["start_seconds"])), float(str(row["until_seconds"]))
    end = start if is_image else max(until, start + MIN_SECONDS)
    return Segment(**facts, end_seconds=end, box=_box(row))  # type: ignore[arg-type]


def _box(row: Mapping[str, object]) -> ShareBox | None:
    """Return the part of the face that lies in its frame."""
    if row["x1"] is None or not row["frame_width"] or not row["frame_height"]:
        return None
    x1, y1, x2, y2 = (float(str(row[name])) for name in ("x1", "y1", "x2", "y2"))
    width, height = float(str(row["frame_width"])), float(str(row["frame_height"]))
    left, right = (min(max(x / width, 0), 1) for x in (x1, x2))
    top, bottom = (min(max(y / height, 0), 1) for y in (y1, y2))
    return ShareBox(left, top, right - left, bottom - top, float(str(row["at_seconds"])))
