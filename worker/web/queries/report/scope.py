"""Chooses the appearances that a report is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ReportKind = Literal["job", "media", "person"]

MAX_REPORTED_FILES = 20_000  # of a job, its first ones: a report reads all faces of them
_CONDITIONS: dict[ReportKind, str] = {
    "job": "media_id IN (SELECT media_id FROM files WHERE job_id = :subject AND item_no <= :last)",
    "media": "media_id = :subject",
    "person": "person_id = :subject",
}


@dataclass(frozen=True, slots=True)
class ReportScope:
    """The subject of a report."""

    kind: ReportKind
    number: int
    """Of the job, file or person."""

    @property
    def condition(self) -> str:
        """SQL condition over the columns of ``appearances`` or ``faces``, with the parameters `values`."""
        return _CONDITIONS[self.kind]

    @property
    def values(self) -> dict[str, int]:
        """The parameters."""
        last = {"last": MAX_REPORTED_FILES} if self.kind == "job" else {}
        return {"subject": self.number} | last
