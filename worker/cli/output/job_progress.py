"""The progress of one job: percent, frames, rate and time left, from the first frame on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.ledger.status.work import Work, read_work

if TYPE_CHECKING:
    from rich.progress import Progress
    from sqlalchemy.orm import Session, sessionmaker

    from worker.analysis.pipeline import Totals

READ_SECONDS = 1.0  # between two looks at the ledger, which other workers change, too
READ_SHARE = 20.0  # a look that takes long is repeated after this multiple of its time


class JobProgress:
    """Shows how far a job is. Frames that this process analysed since the last look at the ledger are added to it."""

    def __init__(self, sessions: sessionmaker[Session], job_id: int, unit_seconds: float, bar: Progress) -> None:
        """Take the job, the length of its ranges, and the bar, which gets one task."""
        self._sessions, self._job_id, self._unit_seconds, self._bar = sessions, job_id, unit_seconds, bar
        self._work = self._read(0)
        self._task = bar.add_task("analysing", total=self._work.frames, facts="starting")
        bar.update(self._task, completed=self._work.ended)

    def show(self, totals: Totals) -> None:
        """Draw the state; called often."""
        # Totals begin again with each pipeline, as when units are waited for.
        if totals.frames < self._frames_read or time.monotonic() >= self._again_at:
            self._work = self._read(totals.frames)
        ahead = totals.frames - self._frames_read + totals.frames_in_flight
        done = min(self._work.ended + ahead, self._work.frames)
        facts = "starting" if not done else f"{done:,.0f} of {self._work.frames:,.0f} frames, {totals.faces:,} faces"
        self._bar.update(self._task, total=self._work.frames, completed=done, facts=facts)

    def identifying(self) -> None:
        """Show that all frames are analysed, and people are being identified."""
        self._bar.update(self._task, completed=self._work.frames, description="identifying")

    def _read(self, frames: int) -> Work:
        began = time.monotonic()
        with self._sessions.begin() as session:
            work = read_work(session, self._job_id, self._unit_seconds)
        self._frames_read = frames
        now = time.monotonic()
        self._again_at = now + max(READ_SECONDS, READ_SHARE * (now - began))
        return work
