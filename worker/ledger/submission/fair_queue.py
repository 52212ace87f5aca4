"""Turns: the order of the units of equal priority, such that jobs go forward side by side.

Every unit carries the count of frames of its job that come before it, from the turn at which the others were when it
was submitted (start-time fair queueing). Workers take the lowest turn: ten photos behind a hundred thousand wait for
ten of those, and a job of films gets as many frames looked at as a job of photos. Deciding costs nothing when a unit
is leased, since it was done when the unit was written.

Source: P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.types import MediaKind

VIDEO_FPS = 25.0  # frames of a second of film when every one is wanted: films say theirs only when they are read

# Suspects do not count: one that waits for a long time would hold the clock back. Nor does the finish stage: it has the
# turn of a range that was taken already.
_CLOCK = text("""
    SELECT turn FROM unit
    WHERE state = 'pending' AND attempts = 0 AND release_id = :release_id AND priority = :priority
      AND stage = 'analyse'
    ORDER BY turn LIMIT 1""")

# Units that would come no earlier are counted and not written.
_EXPEDITE = text("""
    WITH here AS (
        SELECT unit_id, priority, turn AS own, :turn + (row_number() OVER (ORDER BY ordinal) - 1) * :frames AS turn
        FROM unit
        WHERE analysis_id = :analysis_id AND state = 'pending' AND attempts = 0 AND priority <= :priority),
    expedited AS (
        UPDATE unit SET priority = :priority, turn = here.turn
        FROM here
        WHERE unit.unit_id = here.unit_id AND unit.state = 'pending' AND unit.attempts = 0
          AND (here.priority < :priority OR here.turn < here.own))
    SELECT unit_id FROM here""")

_WAITS = text("""
    SELECT EXISTS (SELECT FROM unit WHERE unit_id = :unit_id AND state = 'pending' AND attempts = 0)""")


@dataclass(slots=True)
class FairQueue:
    """Gives out the turns of one job that is being submitted."""

    release_id: int
    priority: int
    frames_per_second: float | None
    """Sampling of films; None for every frame."""
    unit_seconds: float
    """Length of the ranges into which films are cut."""
    _next: int = 0
    _last_unit: int | None = None

    @property
    def next(self) -> int:
        """The turn of the next unit."""
        return self._next

    def catch_up(self, session: Session) -> None:
        """Go on where the others are, or behind what waits of this job: slow submission neither saves up nor owes."""
        parameters = {"priority": self.priority, "release_id": self.release_id}
        clock = session.execute(_CLOCK, parameters).scalar() or 0
        waits = session.execute(_WAITS, {"unit_id": self._last_unit}).scalar_one()
        self._next = max(self._next, clock) if waits else clock

    def note(self, unit_id: int) -> None:
        """Take note of the last unit that was written."""
        self._last_unit = unit_id

    def assign(self, units: int, kind: MediaKind) -> list[int]:
        """Give the turns of a new file's units."""
        frames = self._frames(kind)
        turns = [self._next + number * frames for number in range(units)]
        self._next += units * frames
        return turns

    def expedite(self, session: Session, analysis_id: int, kind: MediaKind) -> None:
        """Let units that another job submitted, and that nobody began, come when this job would have them.

        The caller holds the rows of those that come earlier by it.
        """
        frames = self._frames(kind)
        parameters = {"priority": self.priority, "analysis_id": analysis_id, "turn": self._next, "frames": frames}
        expedited = session.scalars(_EXPEDITE, parameters).all()
        self._next += frames * len(expedited)
        self._last_unit = max(expedited, default=self._last_unit)

    def _frames(self, kind: MediaKind) -> int:
        """Say how many frames a unit is; the last range of a film counts as a full one."""
        return 1 if kind == "image" else max(1, round(self.unit_seconds * (self.frames_per_second or VIDEO_FPS)))
