"""Scheduled reprocessing: a job fills in what a release lacks while a window is open, then its comparison or switch.

Beat opens and closes windows (`turn_windows`): it resumes and pauses the job. A worker looks at the schedule now and
then (`Reprocessing.look`): it starts a job for a release that had none in this window, and takes the step behind a
job that has ended. The job itself is the ledger's, like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

from sqlalchemy import text

from worker.ledger.submission.cancel import cancel_job
from worker.ledger.submission.pausing import pause_job, resume_job
from worker.ledger.submission.shelving import shelve
from worker.schedules.rows import RunOutcome, read_now, read_schedule

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from worker.schedules.rows import Clock, Schedule

Then = Literal["diff", "activate"]
JobState = Literal["at work", "paused", "held back", "ended", "cancelled", "broken"]
"""A job that is held back was paused by its window."""

LOOK_SECONDS = 60.0
"""Between two looks at a job that is at work."""
WINDOW_SHELVE_SECONDS = 1.0
"""Of a look at windows, for units of jobs that were paused or resumed; upkeep does the rest."""
IDLE_SECONDS = 300.0
"""Between two looks for a new release while a window is open."""

_TURNING = text("""
    SELECT schedule_id FROM schedule WHERE kind = 'reprocess' AND enabled AND window_from IS NOT NULL
    ORDER BY schedule_id""")
_LOCK = text("SELECT FROM schedule WHERE schedule_id = :id FOR UPDATE SKIP LOCKED")
_OPEN = text("""
    UPDATE schedule SET is_open = true, paused_at = NULL, last_due_at = :opening, next_at = :now, attempts = 0
    WHERE schedule_id = :id""")
_CLOSE = text("""
    UPDATE schedule SET is_open = false, attempts = 0,
                        paused_at = CASE WHEN :paused THEN (SELECT paused_at FROM job WHERE job_id = last_job_id) END,
                        next_at = CASE WHEN :paused THEN :opening ELSE next_at END,
                        last_result = CASE WHEN :paused THEN :result ELSE last_result END
    WHERE schedule_id = :id""")
_STARTED = text("""
    UPDATE schedule SET job_open = true, paused_at = NULL, last_job_id = :job_id, last_release_id = :release_id,
                        last_started_at = :now,
                        held_reason = CASE WHEN last_release_id = :release_id THEN held_reason END
    WHERE schedule_id = :id""")
_CONCLUDED = text("""
    UPDATE schedule SET job_open = false, paused_at = NULL, concluded_at = :now, held_reason = :held
    WHERE schedule_id = :id""")
_NO_RELEASE = text("UPDATE schedule SET held_reason = NULL WHERE schedule_id = :id AND held_reason IS NOT NULL")
# The view knows when a job has ended; its row, how.
_JOB = text("""
    SELECT j.finished_at IS NOT NULL AS has_ended, o.cancelled_at, o.paused_at, o.submission
    FROM jobs AS j JOIN job AS o USING (job_id) WHERE job_id = :job_id""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReprocessOptions:
    """The options of a reprocessing, as its row keeps them."""

    release: str = "candidate"
    """Name, number or alias; looked up whenever a job is started."""
    heads: tuple[str, ...] | None = None
    """None for all."""
    then: Then | None = None
    priority: int = 0
    speed: Literal["low", "normal", "full"] = "full"

    @classmethod
    def of(cls, found: Schedule) -> Self:
        """Return the options of a schedule."""
        kept = dict(found.options)
        heads = kept.pop("heads", None)
        return cls(heads=None if heads is None else tuple(heads), **kept)  # type: ignore[arg-type]  # written by as_json

    def as_json(self) -> dict[str, object]:
        """Return the value that the row keeps."""
        heads = None if self.heads is None else list(self.heads)
        return {
            "release": self.release,
            "heads": heads,
            "then": self.then,
            "priority": self.priority,
            "speed": self.speed,
        }


class ScheduledRelease(Protocol):
    """A release that is to be reprocessed."""

    @property
    def release_id(self) -> int:
        """Return its number."""
        ...

    @property
    def name(self) -> str:
        """Return its name."""
        ...


class ReprocessTools(Protocol):
    """The operations on releases, and on the jobs that fill in what they lack, that scheduled reprocessing needs."""

    def find_release(self, session: Session, wanted: str) -> ScheduledRelease | None:
        """Return the release of a name, a number or an alias; None where no release has it."""
        ...

    def start(self, session: Session, release: ScheduledRelease, options: ReprocessOptions, name: str) -> int:
        """Write a job that fills in what a release lacks, and return its number."""
        ...

    def compare(self, release_id: int, job_id: int) -> str:
        """Write the report of what a release changes, and return a sentence with its place."""
        ...

    def switch(self, release_id: int, reason: str) -> str | None:
        """Activate a release if the gate lets it through; return its refusal, or None."""
        ...


def turn_windows(sessions: sessionmaker[Session], clock: Clock = read_now) -> None:
    """Open and close the windows of all schedules whose time has come, and resume and pause their jobs."""
    with sessions() as session:
        numbers = [int(number) for number in session.scalars(_TURNING)]
    for number in numbers:
        with sessions.begin() as session:
            if session.execute(_LOCK, {"id": number}).first() is not None:
                _turn(session, read_schedule(session, number), clock(session))
    shelve(sessions, seconds=WINDOW_SHELVE_SECONDS)


def _turn(session: Session, found: Schedule, now: datetime) -> None:
    opening = found.times.opening(now)
    if (opening is not None) == found.is_open:
        return
    state = _read_state(session, found)
    if opening is not None:
        if state == "held back" and found.last_job_id is not None:
            resume_job(session, found.last_job_id)
        session.execute(_OPEN, {"id": found.schedule_id, "now": now, "opening": opening})
        return
    paused = state == "at work" and found.last_job_id is not None and pause_job(session, found.last_job_id)
    following = found.times.next_after(now)
    result = f"job {found.last_job_id} is paused until {following:%Y-%m-%d %H:%M} UTC, when the window opens"
    session.execute(_CLOSE, {"id": found.schedule_id, "paused": paused, "opening": following, "result": result})


def _read_state(session: Session, found: Schedule) -> JobState | None:
    """Return the state of the job that a schedule is at; None where it is at none."""
    if not found.job_open:
        return None
    row = session.execute(_JOB, {"job_id": found.last_job_id}).first()
    if row is None or row.cancelled_at is not None:
        return "cancelled"
    if row.has_ended:
        return "broken" if row.submission == "broken" else "ended"
    if row.paused_at is None:
        return "at work"
    return "held back" if row.paused_at == found.paused_at else "paused"


@dataclass(frozen=True, slots=True)
class Reprocessing:
    """Starts jobs of schedules and takes the steps that follow them.

    Args:
        sessions: of the database.
        tools: of releases and their jobs.
        clock: of the database.
        forced: a job is started though the window is closed.
    """

    sessions: sessionmaker[Session]
    tools: ReprocessTools
    clock: Clock = read_now
    forced: bool = False

    def look(self, found: Schedule) -> RunOutcome:
        """Take the next step of a schedule.

        Raises:
            FacetError: the step failed; it is taken again at the next look.
        """
        with self.sessions() as session:
            state = _read_state(session, found)
            now = self.clock(session)
        if state is None:
            return self._start(found, now)
        if state in _ENDS:
            return self._conclude(found, state, now)
        if (wanted := self._superseding(found)) is not None:
            return self._supersede(found, wanted)
        if self.forced and state != "at work":
            state = self._resume(found)
        again = LOOK_SECONDS if state != "held back" else None
        result = f"job {found.last_job_id} is {state}" if again else found.last_result or ""
        return RunOutcome(result=result, again_seconds=again, is_over=False)

    def _superseding(self, found: Schedule) -> ScheduledRelease | None:
        """Return the release that has the alias of the schedule now, if another one had it when the job was started."""
        with self.sessions() as session:
            release = self.tools.find_release(session, ReprocessOptions.of(found).release)
        return None if release is None or release.release_id == found.last_release_id else release

    def _supersede(self, found: Schedule, release: ScheduledRelease) -> RunOutcome:
        """Cancel the job of a release that lost the alias; a later look starts one for the new release."""
        cancel_job(self.sessions, found.last_job_id or 0)
        with self.sessions.begin() as session:
            session.execute(_CONCLUDED, {"id": found.schedule_id, "held": None, "now": self.clock(session)})
        wanted = ReprocessOptions.of(found).release
        result = f"job {found.last_job_id} was cancelled, because {wanted} is release {release.name} now"
        return RunOutcome(result=result, again_seconds=0.0)

    def _resume(self, found: Schedule) -> JobState:
        with self.sessions.begin() as session:
            resume_job(session, found.last_job_id or 0)
        shelve(self.sessions, found.last_job_id)
        return "at work"

    def _start(self, found: Schedule, now: datetime) -> RunOutcome:
        opening = found.times.opening(now)
        if found.times.window is not None and opening is None and not self.forced:
            return RunOutcome(result=found.last_result or "waits for its window", is_over=False)
        options = ReprocessOptions.of(found)
        again = None if opening is None else IDLE_SECONDS
        with self.sessions.begin() as session:
            release = self.tools.find_release(session, options.release)
            if release is None:
                session.execute(_NO_RELEASE, {"id": found.schedule_id})
                return RunOutcome(result=f"no release is called {options.release}", again_seconds=again)
            if not self.forced and _had_its_turn(found, release, opening):
                return RunOutcome(result=found.last_result or "", again_seconds=again, is_over=False)
            name = f"{release.name} by {found.describe()}"
            job_id = self.tools.start(session, release, options, name)
            started = {"job_id": job_id, "release_id": release.release_id, "now": now, "id": found.schedule_id}
            session.execute(_STARTED, started)
        result = f"job {job_id} fills in what release {release.name} lacks"
        return RunOutcome(result=result, again_seconds=LOOK_SECONDS, is_over=False)

    def _conclude(self, found: Schedule, state: JobState, now: datetime) -> RunOutcome:
        """Take the step that follows a job."""
        options, words, held = ReprocessOptions.of(found), [f"job {found.last_job_id} has {_ENDS[state]}"], None
        if state == "ended" and options.then is not None:
            held = self._follow(found, options, words)
        with self.sessions.begin() as session:
            session.execute(_CONCLUDED, {"id": found.schedule_id, "held": held, "now": self.clock(session)})
        again = IDLE_SECONDS if found.times.opening(now) is not None else None
        return RunOutcome(result="; ".join(words), again_seconds=again, is_good=state != "broken")

    def _follow(self, found: Schedule, options: ReprocessOptions, words: list[str]) -> str | None:
        """Compare, and switch where that is asked; return why the switch is held."""
        release_id, job_id = found.last_release_id or 0, found.last_job_id or 0
        with self.sessions() as session:
            release = self.tools.find_release(session, options.release)
        if release is None or release.release_id != release_id:
            words.append(f"its release is no longer {options.release}")
            return None
        words.append(self.tools.compare(release_id, job_id))
        if options.then == "diff":
            return None
        refusal = self.tools.switch(release_id, f"{found.describe()} after job {job_id}")
        words.append("the release is active" if refusal is None else f"the release is held: {refusal}")
        return refusal


_ENDS: Mapping[JobState, str] = {
    "ended": "ended",
    "cancelled": "ended, because it was cancelled",
    "broken": "ended, although the release still lacks rows: its batches fill in nothing",
}


def _had_its_turn(found: Schedule, release: ScheduledRelease, opening: datetime | None) -> bool:
    """Return whether a job for this release was concluded in the window that is open."""
    if opening is None or found.concluded_at is None:
        return False
    return found.last_release_id == release.release_id and found.concluded_at >= opening
