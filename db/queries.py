"""What ``facet status`` shows: jobs, units, pace, and what went wrong. Functions take a session and never commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

# Each takes a job's number or null for all jobs.
_JOBS = text("""
SELECT job_id, name, submitted, done, rejected, quarantined, cancelled, pending, submitted_at, finished_at
FROM jobs
WHERE cast(:job_id AS bigint) IS NULL OR job_id = :job_id
ORDER BY job_id DESC
LIMIT :limit
""")

_UNITS = text("""
SELECT state, count(*) AS units
FROM unit
WHERE cast(:job_id AS bigint) IS NULL OR analysis_id IN (SELECT analysis_id FROM job_item WHERE job_id = :job_id)
GROUP BY state
ORDER BY state
""")

_PACE = text("""
SELECT count(*) AS units, coalesce(sum(frame_count), 0) AS frames, coalesce(sum(face_count), 0) AS faces
FROM unit
WHERE finished_at > now() - make_interval(secs => :seconds)
  AND (cast(:job_id AS bigint) IS NULL OR analysis_id IN (SELECT analysis_id FROM job_item WHERE job_id = :job_id))
""")

_FAILURES = text("""
SELECT i.job_id, i.uri,
       CASE WHEN m.reason IS NOT NULL THEN 'rejected' ELSE a.state END AS state,
       coalesce(m.reason, a.reason) AS reason,
       coalesce(a.finished_at, m.submitted_at) AS finished_at
FROM job_item AS i
JOIN media_file AS m USING (media_id)
LEFT JOIN analysis AS a USING (analysis_id)
WHERE (m.reason IS NOT NULL OR a.state IN ('rejected', 'quarantined'))
  AND (cast(:job_id AS bigint) IS NULL OR i.job_id = :job_id)
ORDER BY finished_at DESC, i.job_id DESC, i.item_no
LIMIT :limit
""")

_TROUBLED = text("""
SELECT u.unit_id, m.uri,
       CASE WHEN u.state = 'pending' THEN 'failing'
            WHEN u.lease_until < now() THEN 'abandoned'
            ELSE 'slow' END AS trouble,
       u.attempts, u.owner,
       CASE WHEN u.state = 'leased' THEN cast(extract(epoch FROM now() - u.started_at) AS float8) END AS leased_seconds,
       u.last_error
FROM unit AS u
JOIN analysis AS a USING (analysis_id)
JOIN media_file AS m USING (media_id)
WHERE u.state IN ('pending', 'leased') AND u.attempts > 0 AND (
    u.state = 'pending'
    OR u.state = 'leased' AND (u.lease_until < now() OR u.started_at < now() - make_interval(secs => :slow_seconds))
)
  AND (cast(:job_id AS bigint) IS NULL OR analysis_id IN (SELECT analysis_id FROM job_item WHERE job_id = :job_id))
ORDER BY leased_seconds DESC NULLS LAST, u.unit_id
LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """A job; submitted = done + rejected + quarantined + cancelled + pending."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What ended in the last seconds."""

    seconds: float
    """Length of the time looked at."""
    units: int
    frames: int
    faces: int

    @property
    def units_per_second(self) -> float:
        """Mean over the time looked at."""
        return self.units / self.seconds

    @property
    def frames_per_second(self) -> float:
        """Mean over the time looked at."""
        return self.frames / self.seconds

    @property
    def faces_per_second(self) -> float:
        """Mean over the time looked at."""
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
class TroubledUnit:
    """A unit that somebody should look at."""

    unit_id: int
    uri: str
    trouble: str
    """slow (leased for long), abandoned (its lease has run out) or failing (tried before, waits for another time)."""
    attempts: int
    owner: str | None
    leased_seconds: float | None
    """Time since the current attempt began; None while nobody holds it."""
    last_error: str | None


def read_jobs(session: Session, *, job_id: int | None = None, limit: int = 20) -> list[JobCounts]:
    """Return jobs with their sums, newest first.

    Args:
        session: an open session.
        job_id: only this one.
        limit: most rows.
    """
    rows = session.execute(_JOBS, {"job_id": job_id, "limit": limit})
    return [JobCounts(**row) for row in rows.mappings()]


def count_units(session: Session, *, job_id: int | None = None) -> dict[str, int]:
    """Return how many units are in each state; states without units are left out.

    Args:
        session: an open session.
        job_id: only units of this job's files.
    """
    return {row.state: row.units for row in session.execute(_UNITS, {"job_id": job_id})}


def read_pace(session: Session, *, job_id: int | None = None, seconds: float = 60.0) -> Pace:
    """Return what was analysed lately.

    Args:
        session: an open session.
        job_id: only units of this job's files.
        seconds: how far to look back.
    """
    row = session.execute(_PACE, {"job_id": job_id, "seconds": seconds})
    return Pace(seconds=seconds, **row.mappings().one())


def read_failures(session: Session, *, job_id: int | None = None, limit: int = 20) -> list[FailedFile]:
    """Return files that were rejected or quarantined, the latest first.

    Args:
        session: an open session.
        job_id: only files of this job.
        limit: most rows.
    """
    rows = session.execute(_FAILURES, {"job_id": job_id, "limit": limit})
    return [FailedFile(**row) for row in rows.mappings()]


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
    parameters = {"job_id": job_id, "slow_seconds": slow_seconds, "limit": limit}
    return [TroubledUnit(**row) for row in session.execute(_TROUBLED, parameters).mappings()]
