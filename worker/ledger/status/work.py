"""The work of a job in frames, and the other jobs that have work left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.types import ASSUMED_FPS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


# A range without an end is the last one of its video; without a known duration it counts as a full one. Joining the
# faces of a file takes hardly any time.
_WORK = text("""
    SELECT coalesce(sum(w.frames), 0)::float8 AS frames,
           coalesce(sum(w.frames) FILTER (WHERE u.state NOT IN ('pending', 'leased')), 0)::float8 AS ended
    FROM (SELECT DISTINCT analysis_id FROM job_item WHERE job_id = :job_id) AS mine
    JOIN analysis AS a USING (analysis_id) JOIN media_file AS m USING (media_id) JOIN unit AS u USING (analysis_id)
    CROSS JOIN LATERAL (SELECT CASE
        WHEN u.stage = 'finish' THEN 0
        WHEN m.kind = 'image' THEN 1
        ELSE greatest(1, (coalesce(u.end_seconds, m.duration_seconds, coalesce(u.start_seconds, 0) + :unit_seconds)
                          - coalesce(u.start_seconds, 0))
                         * CASE a.sampling WHEN 'every' THEN :fps ELSE split_part(a.sampling, '/', 1)::float8 END)
        END AS frames) AS w""")
_OTHERS = text("""
    SELECT j.job_id, j.name, j.paused_at IS NOT NULL AS is_paused, count(DISTINCT i.analysis_id) AS files
    FROM job AS j JOIN job_item AS i USING (job_id) JOIN analysis AS a USING (analysis_id)
    WHERE j.job_id <> :job_id AND j.kind = 'submission' AND j.cancelled_at IS NULL AND a.state = 'pending'
      AND NOT EXISTS (SELECT FROM job_item AS mine
                      WHERE mine.analysis_id = i.analysis_id AND mine.job_id = :job_id)
    GROUP BY j.job_id ORDER BY j.job_id""")


@dataclass(frozen=True, slots=True)
class Work:
    """The work of a job in frames; those of videos are estimated from their length."""

    frames: float
    ended: float
    """Of units that ended, in whatever way."""


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job with files that no other job will analyse for it."""

    job_id: int
    name: str
    is_paused: bool
    files: int


def read_work(session: Session, job_id: int, unit_seconds: float) -> Work:
    """Read how much work a job is, and how much of it has ended."""
    parameters = {"job_id": job_id, "unit_seconds": unit_seconds, "fps": ASSUMED_FPS}
    return Work(**session.execute(_WORK, parameters).mappings().one())


def read_other_jobs(session: Session, job_id: int) -> list[OpenJob]:
    """Read the jobs that have files left which are not of this job."""
    return [OpenJob(**row) for row in session.execute(_OTHERS, {"job_id": job_id}).mappings()]
