"""A job that is being written: what it asks for, and what its submission came to."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from worker.ledger.submission.fair_queue import FairQueue

if TYPE_CHECKING:
    from worker.types import Prober


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a job asks for."""

    name: str
    release_id: int
    frames_per_second: float | None
    """Sampling; None for every frame."""
    unit_seconds: float
    """Length of the ranges into which a video is cut."""
    priority: int = 0
    """Units of a higher one come first; those of equal ones take turns."""
    keep_days: int | None = None
    """Days after which the job's files are erased, unless another job keeps them longer; None for never."""

    @property
    def sampling(self) -> str:
        """The word for it in the table: ``2/s`` or ``every``."""
        return "every" if self.frames_per_second is None else f"{self.frames_per_second:g}/s"

    def fair_queue(self) -> FairQueue:
        """Begin to give out the turns of its units."""
        return FairQueue(self.release_id, self.priority, self.frames_per_second, self.unit_seconds)


@dataclass(slots=True)
class SubmitCounts:
    """What a submission came to."""

    job_id: int
    files: int = 0
    refused: int = 0
    known: int = 0
    """Files whose bytes were analysed or submitted before, in this job or another."""
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
        """Give a job whose counts and turns go forward by themselves."""
        return replace(self, counts=replace(self.counts), queue=replace(self.queue))

    def keep(self, other: Writing) -> None:
        """Take over the counts and turns of a copy; others hold on to these counts."""
        for mine, its in ((self.counts, other.counts), (self.queue, other.queue)):
            for field in fields(mine):
                setattr(mine, field.name, getattr(its, field.name))
