"""Reads one file: its facts, where it lies, who is in it, and which of its faces were dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from worker.types import MediaKind

MAX_APPEARANCES = 20_000  # of a file that are read at once: a day of video
MAX_JOBS = 20  # that a page names

_FACTS = text("""
    SELECT media_id, uri, kind, format, width, height, duration_seconds, frames_per_second, status, reason,
           submitted_at, finished_at, byte_size, frame_count, face_count, sampling, sample_interval_seconds, notes,
           taken_at, camera, latitude, longitude, title
    FROM media WHERE media_id = :id""")
_SOURCE = text("""
    SELECT m.media_id, m.uri, m.kind, m.format, m.sha256, m.byte_size, f.location
    FROM media AS m JOIN files AS f USING (media_id)
    WHERE m.media_id = :id AND m.kind IS NOT NULL AND f.location IS NOT NULL LIMIT 1""")
_APPEARANCES = text("""
    SELECT appearance_id, person_id, start_seconds, end_seconds, screen_seconds, face_count, quality, best_face_id,
           age, age_low, age_high, gender, gender_confidence, ethnicity, ethnicity_confidence, emotion,
           emotion_confidence
    FROM appearances WHERE media_id = :id ORDER BY start_seconds, ordinal LIMIT :rows""")
_NAMES = text("SELECT person_id, name FROM people WHERE person_id = ANY (:ids) AND name IS NOT NULL")
_DROPPED = text("""
    SELECT dropped_reason AS reason, count(*) AS faces, min(at_seconds) AS first_seconds
    FROM faces WHERE media_id = :id AND dropped_reason IS NOT NULL
    GROUP BY dropped_reason ORDER BY faces DESC, reason""")
_JOBS = text("SELECT DISTINCT job_id FROM files WHERE media_id = :id ORDER BY job_id DESC LIMIT :rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFacts:
    """A row of the view ``media``."""

    media_id: int
    uri: str
    kind: MediaKind | None
    format: str | None
    width: int | None
    height: int | None
    duration_seconds: float | None
    frames_per_second: float | None
    status: str
    reason: str | None
    submitted_at: datetime
    finished_at: datetime | None
    byte_size: int | None
    frame_count: int | None
    face_count: int | None
    sampling: str | None
    sample_interval_seconds: float | None
    notes: tuple[str, ...]
    taken_at: datetime | None
    camera: str | None
    latitude: float | None
    longitude: float | None
    title: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSource:
    """Where the bytes of a file lie, and which bytes they should be."""

    media_id: int
    uri: str
    kind: MediaKind
    format: str | None
    sha256: str
    byte_size: int | None
    location: str
    """Path or URL; the copy of a member of an archive in the staging folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenAppearance:
    """A person in view in one file."""

    appearance_id: int
    person_id: int | None
    name: str | None
    start_seconds: float
    end_seconds: float
    screen_seconds: float
    face_count: int
    quality: float | None
    best_face_id: int | None
    age: float | None
    age_low: float | None
    age_high: float | None
    gender: str | None
    gender_confidence: float | None
    ethnicity: str | None
    ethnicity_confidence: float | None
    emotion: str | None
    emotion_confidence: float | None

    @property
    def label(self) -> str:
        """Name or number of the person."""
        return "nobody yet" if self.person_id is None else visible(self.name or f"person {self.person_id}")

    @property
    def facts(self) -> str:
        """Age, gender and emotion, as far as they are known, separated by commas."""
        known = [] if self.age is None else [f"{self.age:.0f} y"]
        return ", ".join(known + [word for word in (self.gender, self.emotion) if word and word != "unknown"])


@dataclass(frozen=True, slots=True)
class DroppedCount:
    """Faces of a file that were dropped for one reason."""

    reason: str
    faces: int
    first_seconds: float


def read_facts(connection: Connection, media_id: int) -> MediaFacts | None:
    """Return the facts of a file; None where there is none of this number."""
    row = connection.execute(_FACTS, {"id": media_id}).mappings().one_or_none()
    return None if row is None else MediaFacts(**{**row, "notes": tuple(row["notes"] or ())})


def read_source(connection: Connection, media_id: int) -> MediaSource | None:
    """Return where a file lies; None where it was refused, or no job names it any more."""
    row = connection.execute(_SOURCE, {"id": media_id}).mappings().one_or_none()
    return None if row is None else MediaSource(**row)


def read_seen(connection: Connection, media_id: int) -> list[SeenAppearance]:
    """Return the appearances of a file in order of first sight."""
    rows = connection.execute(_APPEARANCES, {"id": media_id, "rows": MAX_APPEARANCES}).mappings().all()
    names = read_names(connection, [row["person_id"] for row in rows if row["person_id"] is not None])
    return [SeenAppearance(**row, name=names.get(row["person_id"])) for row in rows]


def read_names(connection: Connection, people: Sequence[int]) -> dict[int, str]:
    """Return the names of those people who have one."""
    if not people:
        return {}
    rows = connection.execute(_NAMES, {"ids": sorted(set(people))})
    return {row.person_id: row.name for row in rows}


def count_dropped(connection: Connection, media_id: int) -> list[DroppedCount]:
    """Return the reasons for which faces of a file were dropped, the commonest first."""
    return [DroppedCount(*row) for row in connection.execute(_DROPPED, {"id": media_id})]


def read_jobs(connection: Connection, media_id: int) -> list[int]:
    """Return the latest jobs that submitted a file."""
    return list(connection.scalars(_JOBS, {"id": media_id, "rows": MAX_JOBS}))
