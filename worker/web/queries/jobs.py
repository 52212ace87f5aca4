"""Jobs with their progress, as ``facet status`` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.status.health import read_reasons
from db.status.jobs import read_jobs, read_pace
from worker.ledger.status.job_status import read_status

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.status.health import Reason
    from db.status.jobs import JobCounts
    from worker.ledger.status.job_status import JobStatus

JOBS_PER_PAGE = 20
MAX_REASONS = 50
KEEP_ENDED_SECONDS = 60.0  # counts of a job that has ended change only when its files are submitted again


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """A job in the list."""

    counts: JobCounts
    faces_per_second: float | None
    """Of the last minute; None where nothing is going on."""

    @property
    def percent(self) -> float:
        """Share of its files, or faces, that have ended."""
        return percent_of(self.counts)

    @property
    def state(self) -> str:
        """As `state_of`."""
        return state_of(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetail:
    """One job."""

    status: JobStatus
    reasons: tuple[Reason, ...]
    """Why files ended rejected or quarantined, the commonest first."""

    @property
    def percent(self) -> float:
        """Share of its files, or faces, that have ended."""
        return percent_of(self.status.counts)

    @property
    def state(self) -> str:
        """As `state_of`."""
        return state_of(self.status.counts)

    @property
    def is_live(self) -> bool:
        """As `is_live`."""
        return is_live(self.status.counts)


def percent_of(counts: JobCounts) -> float:
    """Return the share that has ended, in percent; 100 of a job without files."""
    return 100.0 * (1 - counts.pending / counts.submitted) if counts.submitted else 100.0


def has_ended(counts: JobCounts) -> bool:
    """Return whether nothing of a job is left to do."""
    return not counts.pending and counts.submission != "open"


def is_live(counts: JobCounts) -> bool:
    """Return whether figures of a job may change while a visitor looks."""
    return not counts.paused and not has_ended(counts)


def state_of(counts: JobCounts) -> str:
    """Return one word or two for what a job is at."""
    if has_ended(counts):
        if counts.cancelled:
            return "cancelled"
        return "broken off" if counts.submission == "broken" else "ended"
    if counts.paused:
        return "paused"
    return "reading files" if counts.submission == "open" else "running"


def read_line(session: Session, job_id: int) -> JobLine | None:
    """Return a job for the list; None where there is none."""
    found = read_jobs(session, job_id=job_id)
    if not found:
        return None
    pace = read_pace(session, job_id=job_id) if is_live(found[0]) else None
    return JobLine(counts=found[0], faces_per_second=pace.faces_per_second if pace and pace.units else None)


def read_detail(session: Session, job_id: int) -> JobDetail | None:
    """Return one job; None where there is none."""
    found = read_status(session, job_id)
    if not found:
        return None
    counts = found[0].counts
    has_failed = counts.rejected or counts.quarantined
    reasons = read_reasons(session, job_id=job_id, limit=MAX_REASONS) if has_failed else []
    return JobDetail(status=found[0], reasons=tuple(reasons))
