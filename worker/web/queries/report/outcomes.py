"""Reads what of a job or file was analysed, what was not and why, and which faces were dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from worker.types import MediaKind
    from worker.web.queries.report.scope import ReportScope

MAX_NAMED_FAILURES = 500  # files that a report lists by name

_JOB = text("SELECT job_id, name, kind, submitted_at, finished_at, paused, submission FROM jobs WHERE job_id = :id")
_FILES = """
    SELECT f.media_id, f.uri, f.kind, f.status, f.reason FROM files AS f
    WHERE f.job_id = :subject AND f.item_no <= :last AND NOT f.is_duplicate"""
_LATEST_ITEM = text("SELECT item_no FROM files WHERE job_id = :id ORDER BY item_no DESC LIMIT 1")
_OF = {
    "job": _FILES,
    "media": "SELECT media_id, uri, kind, status, reason FROM media WHERE media_id = :subject",
    "person": """
        SELECT media_id, uri, kind, status, reason FROM media
        WHERE media_id IN (SELECT media_id FROM appearances WHERE person_id = :subject)""",
}
_COUNTS = """
    SELECT f.kind, f.status, count(*) AS files, coalesce(sum(m.duration_seconds), 0) AS seconds,
           coalesce(sum(m.frame_count), 0) AS frames, coalesce(sum(m.face_count), 0) AS faces
    FROM ({files}) AS f LEFT JOIN media AS m USING (media_id) GROUP BY f.kind, f.status ORDER BY files DESC"""
_REASONS = """
    SELECT split_part(reason, ':', 1) AS reason, count(*) AS files FROM ({files}) AS f
    WHERE status IN ('rejected', 'quarantined') GROUP BY 1 ORDER BY files DESC, reason"""
_FAILURES = """
    SELECT uri, status, reason FROM ({files}) AS f WHERE status <> 'done' ORDER BY status, uri LIMIT :rows"""
_DROPPED = """
    SELECT dropped_reason AS reason, count(*) AS faces FROM faces
    WHERE {condition} AND dropped_reason IS NOT NULL GROUP BY dropped_reason ORDER BY faces DESC, reason"""


@dataclass(frozen=True, slots=True)
class ReportedJob:
    """The job of a report."""

    job_id: int
    name: str
    kind: str
    submitted_at: datetime
    finished_at: datetime | None
    paused: bool
    submission: str


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """Files of one kind with one outcome."""

    kind: MediaKind | None
    status: str
    files: int
    seconds: float
    """Duration of the videos."""
    frames: int
    """Frames that were analysed."""
    faces: int
    """Faces that were found, dropped ones included."""


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """Files or faces with one reason."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that was not analysed."""

    uri: str
    status: str
    reason: str | None


def read_job(connection: Connection, job_id: int) -> ReportedJob | None:
    """Return a job; None where there is none of this number."""
    row = connection.execute(_JOB, {"id": job_id}).one_or_none()
    return None if row is None else ReportedJob(*row)


def read_outcomes(connection: Connection, scope: ReportScope) -> list[OutcomeCount]:
    """Count the files of a subject by kind and outcome."""
    rows = connection.execute(text(_COUNTS.format(files=_OF[scope.kind])), scope.values)
    return [OutcomeCount(*row) for row in rows]


def count_left_out(connection: Connection, scope: ReportScope) -> int:
    """Return how many later files of a job a report leaves out."""
    if scope.kind != "job":
        return 0
    latest = connection.scalar(_LATEST_ITEM, {"id": scope.number}) or 0
    return max(0, latest - scope.values["last"])


def read_reasons(connection: Connection, scope: ReportScope) -> list[ReasonCount]:
    """Count the files that were not analysed by reason."""
    rows = connection.execute(text(_REASONS.format(files=_OF[scope.kind])), scope.values)
    return [ReasonCount(*row) for row in rows]


def read_failures(connection: Connection, scope: ReportScope) -> list[Failure]:
    """Return files that were not analysed, those that wait included."""
    query = text(_FAILURES.format(files=_OF[scope.kind]))
    return [Failure(*row) for row in connection.execute(query, scope.values | {"rows": MAX_NAMED_FAILURES})]


def read_dropped_reasons(connection: Connection, scope: ReportScope) -> list[ReasonCount]:
    """Count the dropped faces of a job or file by reason; of a person there are none."""
    rows = connection.execute(text(_DROPPED.format(condition=scope.condition)), scope.values)
    return [ReasonCount(*row) for row in rows]
