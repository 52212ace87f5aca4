"""A job that is being submitted: its options and its counts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from worker.ingest.selection import FileSelection
from worker.ledger.submission.fair_queue import FairQueue

if TYPE_CHECKING:
    from worker.ledger.releases import ReleaseIds
    from worker.types import Prober


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Options of a job."""

    name: str
    release: ReleaseIds
    frames_per_second: float | None
    """Sampling; None for every frame."""
    unit_seconds: float
    """Length of the ranges into which a video is cut."""
    priority: int = 0
    """Units of higher priority come first; jobs of equal priority share the workers fairly."""
    keep_days: int | None = None
    """Days after which the job's files are erased, unless another job keeps them longer; None for never."""

    selection: FileSelection = field(default_factory=FileSelection)
    """Which of the named files are read."""

    @property
    def sampling(self) -> str:
        """Sampling as the table has it: ``2/s`` or ``every``."""
        return "every" if self.frames_per_second is None else f"{self.frames_per_second:g}/s"

    def fair_queue(self) -> FairQueue:
        """Return the fair queue of its units."""
        return FairQueue(self.release.release_id, self.priority, self.frames_per_second, self.unit_seconds)


@dataclass(slots=True)
class SubmitCounts:
    """Counts of a submission."""

    job_id: int
    files: int = 0
    refused: int = 0
    known: int = 0
    """Files whose bytes were submitted before, in this job or another."""
    units: int = 0
    """New units of work."""


@dataclass(frozen=True, slots=True)
class Writing:
    """A job that is being written."""

    submission: Submission
    decoder: Prober
    counts: SubmitCounts
    queue: FairQueue

    def copy(self) -> Writing:
        """Return a copy whose counts and fair queue advance separately."""
        return replace(self, counts=replace(self.counts), queue=replace(self.queue))

    def keep(self, other: Writing) -> None:
        """Take over counts and fair queue of a copy, in place: the caller of `submit` holds these counts."""
        for own, copied in ((self.counts, other.counts), (self.queue, other.queue)):
            for each in fields(own):
                setattr(own, each.name, getattr(copied, each.name))
