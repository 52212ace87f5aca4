"""How far jobs are: their sums, their pace, and what is slow or stuck."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LATEST_JOBS = 10
PACE_SECONDS = 60  # the pace is taken over the units that ended in this time


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A job in numbers; submitted = done + rejected + quarantined + pending."""

    job_id: int
    name: str
    submitted: int
    done: int
    rejected: int
    quarantined: int
    pending: int
    faces: int
    units_open: int
    units_ended_lately: int
    faces_lately: int
    retrying: int
    """Units that failed before and wait for another attempt."""
    last_error: str | None

    @property
    def faces_per_second(self) -> float | None:
        """Pace of the last minute; None while nothing ended."""
        return self.faces_lately / PACE_SECONDS if self.units_ended_lately and self.pending else None

    @property
    def time_left(self) -> str | None:
        """Time until it has ended at the last minute's pace; None where that says nothing."""
        if not self.pending or not self.units_ended_lately:
            return None
        return str(timedelta(seconds=round(self.units_open * PACE_SECONDS / self.units_ended_lately)))

    @property
    def notes(self) -> list[str]:
        """What needs somebody's eye."""
        notes = []
        if self.pending and not self.units_ended_lately:
            notes.append("no unit ended in the last minute; is a worker running? (`facet worker`)")
        if self.retrying:
            notes.append(f"{self.retrying} units failed and are tried again; the last error: {self.last_error}")
        return notes

    def as_dict(self) -> dict[str, object]:
        """Give all of it for JSON."""
        derived = {"faces_per_second": self.faces_per_second, "time_left": self.time_left, "notes": self.notes}
        return asdict(self) | derived


def read_status(session: Session, job_id: int | None = None) -> list[JobStatus]:
    """Read one job, or the latest ones, newest first."""
    rows = session.execute(
        text("""
        SELECT j.job_id, j.name, j.submitted, j.done, j.rejected, j.quarantined, j.pending, u.*
        FROM jobs j CROSS JOIN LATERAL (
            SELECT coalesce(sum(face_count), 0) AS faces,
                   count(*) FILTER (WHERE state IN ('pending', 'leased')) AS units_open,
                   count(*) FILTER (WHERE finished_at > now() - make_interval(secs => :pace)) AS units_ended_lately,
                   coalesce(sum(face_count) FILTER (WHERE finished_at > now() - make_interval(secs => :pace)), 0)
                       AS faces_lately,
                   count(*) FILTER (WHERE state = 'pending' AND attempts > 0) AS retrying,
                   max(last_error) FILTER (WHERE state = 'pending' AND attempts > 0) AS last_error
            FROM unit WHERE analysis_id IN (SELECT analysis_id FROM job_item i WHERE i.job_id = j.job_id)) u
        WHERE cast(:job AS bigint) IS NULL OR j.job_id = :job
        ORDER BY j.job_id DESC LIMIT :limit"""),
        {"job": job_id, "pace": PACE_SECONDS, "limit": LATEST_JOBS},
    ).all()
    return [JobStatus(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to read a Row by name
