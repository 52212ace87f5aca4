"""Progress of jobs: their counts, their pace, and units that are slow, stuck or failed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from db.status.health import read_reasons
from db.status.jobs import count_units, read_failures, read_gaps, read_jobs, read_pace, read_troubled_units
from worker.ledger.status.summary import NOT_MEDIA_PREFIX, SIDECAR_PREFIX, count_refused

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.status.health import Reason
    from db.status.jobs import FailedFile, Gap, JobCounts, Pace, TroubledUnit

LATEST_JOBS = 10
SHOWN_FAILURES = 10
SUBMISSION_NOTES = {
    "open": ("its files are still being read; more may be added",),
    "broken": ("its submission broke off, so files may be missing; submit them again: none is analysed twice",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """Counts of a job, and its pace in the last minute."""

    counts: JobCounts
    units: dict[str, int]
    """Its units by state."""
    pace: Pace
    failures: list[FailedFile]
    """The latest files that ended rejected or quarantined."""
    troubled: list[TroubledUnit]
    """Units that are slow, abandoned or failing."""
    reasons: list[Reason]
    """Reasons why its files ended rejected or quarantined, the commonest first."""
    sidecars: int = 0
    """Sidecars among its rejected files; they are no failures."""
    not_media: int = 0
    """Other files among them that are no media."""
    gaps: list[Gap] = field(default_factory=list)
    """Of a reprocess job, faces that it cannot fill in, the commonest reason first."""

    def went_well(self, *, strict: bool = False) -> bool:
        """Return whether its submission ended and all of its files were analysed, sidecars aside.

        Strictly, files that are no media count, too.
        """
        passed_over = self.sidecars + (0 if strict else self.not_media)
        return self.counts.submission == "ended" and self.counts.submitted == self.counts.done + passed_over

    @property
    def units_open(self) -> int:
        """Number of units that have not ended; units that a cancelled job shares with other jobs do not count."""
        if not self.counts.pending:
            return 0
        return self.units.get("pending", 0) + self.units.get("leased", 0)

    @property
    def faces_per_second(self) -> float | None:
        """Pace of the last minute; None if no unit is open, or none ended."""
        return self.pace.faces / self.pace.seconds if self.units_open and self.pace.units else None

    @property
    def percent(self) -> float | None:
        """Share of its files, or of the faces that it reprocesses, that have ended; None where there are none."""
        counts = self.counts
        return 100 * (1 - counts.pending / counts.submitted) if counts.submitted else None

    @property
    def time_left(self) -> str | None:
        """Estimated time left at that pace; None if there is no pace."""
        if self.counts.paused or not self.units_open or not self.pace.units:
            return None
        if self.counts.kind == "reprocess" and self.pace.faces:
            return str(timedelta(seconds=round(self.counts.pending * self.pace.seconds / self.pace.faces)))
        return str(timedelta(seconds=round(self.units_open * self.pace.seconds / self.pace.units)))

    @property
    def notes(self) -> list[str]:
        """Messages about incomplete submission, failures and stalled units."""
        notes = [] if self.counts.kind == "reprocess" else list(SUBMISSION_NOTES.get(self.counts.submission, ()))
        notes += [f"{one.files:,} x {one.code}, first at {one.first_at:%Y-%m-%d %H:%M}" for one in self.reasons]
        notes += [f"{file.uri}: {file.state}: {file.reason}" for file in self.failures]
        notes += [
            f"{unit.uri}: {unit.trouble} after {unit.attempts} attempts: {unit.last_error}" for unit in self.troubled
        ]
        notes += [f"{gap.faces:,} faces cannot be filled in: {gap.reason}" for gap in self.gaps]
        if self.counts.paused:
            notes.append(f"paused; let it go on with `facet jobs resume {self.counts.job_id}`")
        elif self.units_open and not self.pace.units:
            notes.append("no unit ended in the last minute; is a worker running? (`facet worker`)")
        return notes

    def as_dict(self) -> dict[str, object]:
        """Return all values for JSON."""
        derived = {"faces_per_second": self.faces_per_second, "percent": self.percent, "time_left": self.time_left}
        lists = {
            "failures": [asdict(file) for file in self.failures],
            "troubled": [asdict(unit) for unit in self.troubled],
            "reasons": [asdict(reason) for reason in self.reasons],
            "sidecars": self.sidecars,
            "gaps": [asdict(gap) for gap in self.gaps],
        }
        return asdict(self.counts) | {"units": self.units} | lists | derived


def read_status(session: Session, job_id: int | None = None) -> list[JobStatus]:
    """Read one job, or the latest ones, newest first."""
    shown = SHOWN_FAILURES if job_id is not None else 0
    return [
        JobStatus(
            counts=counts,
            units=count_units(session, job_id=counts.job_id),
            pace=read_pace(session, job_id=counts.job_id),
            failures=_failures(session, counts, shown),
            troubled=read_troubled_units(session, job_id=counts.job_id, limit=SHOWN_FAILURES),
            reasons=_reasons(session, counts),
            sidecars=count_refused(session, counts.job_id, SIDECAR_PREFIX) if counts.rejected else 0,
            not_media=count_refused(session, counts.job_id, NOT_MEDIA_PREFIX) if counts.rejected else 0,
            gaps=read_gaps(session, job_id=counts.job_id) if counts.kind == "reprocess" else [],
        )
        for counts in read_jobs(session, job_id=job_id, limit=LATEST_JOBS)
    ]


def _failures(session: Session, counts: JobCounts, limit: int) -> list[FailedFile]:
    """Query only if the counts show some."""
    return read_failures(session, job_id=counts.job_id, limit=limit) if counts.rejected or counts.quarantined else []


def _reasons(session: Session, counts: JobCounts) -> list[Reason]:
    """Query only if the counts show some."""
    return read_reasons(session, job_id=counts.job_id) if counts.rejected or counts.quarantined else []
