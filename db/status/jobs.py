"""Queries of ``facet status``: jobs, units, pace and failures. Functions take a session and never commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.base import MAX_BIGINT

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Result
    from sqlalchemy.orm import Session

_LATEST = text("SELECT job_id FROM job WHERE job_id < :before ORDER BY job_id DESC LIMIT :limit")

# One job at a time, each by its number: a job of ten files is looked up, one of a million is counted from indexes.
_JOB = text("""
SELECT job_id, name, submitted, done, rejected, quarantined, cancelled, pending, submitted_at, finished_at, submission,
       kind, release, paused
FROM jobs
WHERE job_id = :job_id
""")

# The others read one job, or all: then there is no condition at all, since with one like "or no job was given"
# PostgreSQL would read every row.
_OF_JOB = """AND u.unit_id IN (
    SELECT b.unit_id FROM unit AS b WHERE b.job_id = :job_id
    UNION ALL SELECT p.unit_id FROM job_item AS i JOIN unit AS p USING (analysis_id) WHERE i.job_id = :job_id)"""

_UNITS = """
SELECT state, count(*) AS units
FROM unit AS u
WHERE true {of_job}
GROUP BY state
ORDER BY state
"""

_PACE = """
SELECT count(*) AS units, coalesce(sum(frame_count), 0) AS frames, coalesce(sum(face_count), 0) AS faces,
       least(:seconds, greatest(1, coalesce(extract(epoch FROM now() - min(started_at)), :seconds)))::float8 AS seconds
FROM unit AS u
WHERE finished_at > now() - make_interval(secs => :seconds) {of_job}
"""

# Failed items, found by two indexes that hold nothing else: of analyses, and of refused items.
FAILED = """
    SELECT i.job_id, i.item_no, i.uri, i.media_id, a.state, a.reason, a.finished_at
    FROM analysis AS a JOIN job_item AS i USING (analysis_id) WHERE a.state IN ('rejected', 'quarantined')
    UNION ALL
    SELECT i.job_id, i.item_no, i.uri, i.media_id, 'rejected',
           coalesce(i.reason, m.reason, 'unknown: the reason was not kept'), j.submitted_at
    FROM job_item AS i JOIN job AS j USING (job_id) JOIN media_file AS m USING (media_id) WHERE i.analysis_id IS NULL
"""

_FAILURES = text(f"""
SELECT job_id, uri, state, reason, finished_at
FROM ({FAILED}) AS failed
WHERE cast(:job_id AS bigint) IS NULL OR job_id = :job_id
ORDER BY finished_at DESC, job_id DESC, item_no
LIMIT :limit
""")  # noqa: S608 - a constant


_TROUBLED = """
SELECT u.unit_id,
       coalesce(m.uri, u.way || ' of ' || u.face_count || ' faces from number ' || u.first_id) AS uri,
       CASE WHEN u.state = 'pending' THEN 'failing'
            WHEN u.lease_until < now() THEN 'abandoned'
            ELSE 'slow' END AS trouble,
       u.attempts, u.owner,
       CASE WHEN u.state = 'leased' THEN cast(extract(epoch FROM now() - u.started_at) AS float8) END AS leased_seconds,
       u.last_error
FROM unit AS u
LEFT JOIN analysis AS a USING (analysis_id)
LEFT JOIN media_file AS m USING (media_id)
WHERE u.state IN ('pending', 'leased') AND u.attempts > 0 AND (
    u.state = 'pending'
    OR u.state = 'leased' AND (u.lease_until < now() OR u.started_at < now() - make_interval(secs => :slow_seconds))
) {of_job}
ORDER BY leased_seconds DESC NULLS LAST, u.unit_id
LIMIT :limit
"""


_GAPS = text("""
SELECT reason, cast(sum(face_count) AS bigint) AS faces, count(DISTINCT analysis_id) AS files
FROM reprocess_gap WHERE job_id = :job_id GROUP BY reason ORDER BY faces DESC, reason
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """A job, in files or in faces to reprocess; submitted = done + rejected + quarantined + cancelled + pending."""

    job_id: int
    name: str
    submitted: int
    done: int
    rejected: int
    quarantined: int
    cancelled: int
    pending: int
    submitted_at: datetime
    finished_at: datetime | None
    submission: str
    """open (files are still being read), ended or broken."""
    kind: str = "submission"
    """submission or reprocess, which counts faces."""
    release: str | None = None
    """The release that analyses its files, or whose lack it fills in."""
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Units, frames and faces that ended in the last seconds."""

    seconds: float
    """Length of that time; less where the first of these units began later."""
    units: int
    frames: int
    faces: int

    @property
    def units_per_second(self) -> float:
        """Mean over that time."""
        return self.units / self.seconds

    @property
    def frames_per_second(self) -> float:
        """Mean over that time."""
        return self.frames / self.seconds

    @property
    def faces_per_second(self) -> float:
        """Mean over that time."""
        return self.faces / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedFile:
    """A file of a job that was rejected or quarantined."""

    job_id: int
    uri: str
    state: str
    reason: str
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Faces that a reprocess job cannot fill in, for one reason."""

    reason: str
    faces: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubledUnit:
    """A unit that needs attention."""

    unit_id: int
    uri: str
    """Of its file; of a batch its way and faces."""
    trouble: str
    """slow (leased for long), abandoned (its lease expired) or failing (tried before, waits for another attempt)."""
    attempts: int
    owner: str | None
    leased_seconds: float | None
    """Time since the current attempt began; None while no worker holds it."""
    last_error: str | None


def read_jobs(session: Session, *, job_id: int | None = None, limit: int = 20) -> list[JobCounts]:
    """Return jobs with their sums, newest first.

    Args:
        session: an open session.
        job_id: only this one.
        limit: most rows.
    """
    wanted = [job_id] if job_id is not None else list_job_ids(session, limit=limit)
    found = [session.execute(_JOB, {"job_id": one}).mappings().all() for one in wanted]
    return [JobCounts(**row) for rows in found for row in rows]


def list_job_ids(session: Session, *, before: int | None = None, limit: int = 20) -> list[int]:
    """Return the numbers of jobs, newest first.

    Args:
        session: an open session.
        before: only numbers below this one.
        limit: most numbers.
    """
    bounds = {"before": MAX_BIGINT if before is None else before, "limit": limit}
    return list(session.scalars(_LATEST, bounds))


def count_units(session: Session, *, job_id: int | None = None) -> dict[str, int]:
    """Return the count of units by state; states without units are left out.

    Args:
        session: an open session.
        job_id: only units of this job's files.
    """
    return {row.state: row.units for row in _ask(session, _UNITS, job_id)}


def read_pace(session: Session, *, job_id: int | None = None, seconds: float = 60.0) -> Pace:
    """Return the units, frames and faces analysed lately.

    Args:
        session: an open session.
        job_id: only units of this job's files.
        seconds: how far to look back.
    """
    row = _ask(session, _PACE, job_id, seconds=seconds)
    return Pace(**row.mappings().one())


def read_failures(session: Session, *, job_id: int | None = None, limit: int = 20) -> list[FailedFile]:
    """Return files that were rejected or quarantined, the latest first.

    Args:
        session: an open session.
        job_id: only files of this job.
        limit: most rows.
    """
    rows = session.execute(_FAILURES, {"job_id": job_id, "limit": limit})
    return [FailedFile(**row) for row in rows.mappings()]


def read_gaps(session: Session, *, job_id: int) -> list[Gap]:
    """Return the faces that a reprocess job cannot fill in, the most frequent reason first.

    Args:
        session: an open session.
        job_id: the job.
    """
    return [Gap(**row) for row in session.execute(_GAPS, {"job_id": job_id}).mappings()]


def read_troubled_units(
    session: Session, *, job_id: int | None = None, slow_seconds: float = 300.0, limit: int = 20
) -> list[TroubledUnit]:
    """Return units that are slow, abandoned or failing, the longest-held first.

    Args:
        session: an open session.
        job_id: only units of this job's files.
        slow_seconds: how long one attempt may take before it counts as slow.
        limit: most rows.
    """
    rows = _ask(session, _TROUBLED, job_id, slow_seconds=slow_seconds, limit=limit)
    return [TroubledUnit(**row) for row in rows.mappings()]


def _ask(session: Session, statement: str, job_id: int | None, **values: float) -> Result[tuple[Any, ...]]:
    of_job = {} if job_id is None else {"job_id": job_id}
    return session.execute(text(statement.format(of_job=_OF_JOB if of_job else "")), of_job | values)
