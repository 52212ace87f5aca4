"""Fair queue: the order of units of equal priority, in which jobs progress side by side.

Every unit carries a turn, its virtual start time: the count of frames of its job before it, from the virtual time of
the other jobs at submission (start-time fair queueing). Workers take the lowest turn: ten images behind a hundred
thousand wait for ten of those, and a job of videos gets as many frames analysed as a job of images. Leasing costs
nothing extra, since the turn is computed when the unit is written.

Source: P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.types import ASSUMED_FPS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.types import MediaKind


# The virtual time. Suspects do not count: one that waits for a long time would hold it back. Nor do finish units: they
# have the turn of a range that was leased already. Units of paused jobs count: resumed, they go on at their place.
_CLOCK = text("""
    SELECT least(
        (SELECT turn FROM unit
         WHERE state = 'pending' AND attempts = 0 AND release_id = :release_id AND priority = :priority
           AND stage = 'analyse' AND NOT shelved
         ORDER BY turn LIMIT 1),
        (SELECT turn FROM unit
         WHERE shelved AND release_id = :release_id AND priority = :priority AND stage = 'analyse'
         ORDER BY turn LIMIT 1))""")

# Units that would not come earlier are counted and not written.
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

_UNSHELVE = text("UPDATE unit SET shelved = false WHERE analysis_id = :analysis_id AND shelved")

_WAITS = text("""
    SELECT EXISTS (SELECT FROM unit WHERE unit_id = :unit_id AND state = 'pending' AND attempts = 0)""")


@dataclass(slots=True)
class FairQueue:
    """Assigns turns to the units of one job that is being submitted."""

    release_id: int
    priority: int
    frames_per_second: float | None
    """Sampling of videos; None for every frame."""
    unit_seconds: float
    """Length of the ranges into which videos are cut."""
    _next: int = 0
    _last_unit: int | None = None

    @property
    def next(self) -> int:
        """The turn of the next unit."""
        return self._next

    def catch_up(self, session: Session) -> None:
        """Advance to the current virtual time: a job that submits slowly earns no credit."""
        parameters = {"priority": self.priority, "release_id": self.release_id}
        clock = session.execute(_CLOCK, parameters).scalar() or 0
        waits = session.execute(_WAITS, {"unit_id": self._last_unit}).scalar_one()
        self._next = max(self._next, clock) if waits else clock

    def note(self, unit_id: int) -> None:
        """Record the last unit that was written."""
        self._last_unit = unit_id

    def assign(self, units: int, kind: MediaKind) -> list[int]:
        """Return the turns of a new file's units, and advance behind them."""
        frames = self._frames(kind)
        turns = [self._next + number * frames for number in range(units)]
        self._next += units * frames
        return turns

    def expedite(self, session: Session, analysis_id: int, kind: MediaKind) -> None:
        """Move fresh units of another job forward to this job's turn; they wait for a paused job alone no more.

        The caller has locked the rows of those that move.
        """
        session.execute(_UNSHELVE, {"analysis_id": analysis_id})
        frames = self._frames(kind)
        parameters = {"priority": self.priority, "analysis_id": analysis_id, "turn": self._next, "frames": frames}
        expedited = session.scalars(_EXPEDITE, parameters).all()
        self._next += frames * len(expedited)
        self._last_unit = max(expedited, default=self._last_unit)

    def _frames(self, kind: MediaKind) -> int:
        """Return the number of frames of a unit; the last range of a video counts as a full one."""
        return 1 if kind == "image" else max(1, round(self.unit_seconds * (self.frames_per_second or ASSUMED_FPS)))
