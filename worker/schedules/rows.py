"""The rows of schedules: added, removed, claimed for a run and ended. The database's clock decides what is due."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.errors import UsageError
from worker.schedules.times import Times
from worker.schedules.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from db.schema.schedule_tables import ScheduleKind

    Clock = Callable[[Session], datetime]

MAX_RUN_ATTEMPTS = 5
"""Attempts at one run; then the schedule waits for its next time."""
FIRST_RUN_PAUSE_SECONDS = 60.0
"""Before a run that failed or was interrupted is tried again; doubles with every attempt."""
BY_PROGRAM = "facet"

_COLUMNS = """
    schedule_id, kind, options, cron, every_seconds, window_from, window_to, days, time_zone, enabled, is_default,
    next_at, attempts, is_open, last_due_at, last_started_at, last_ended_at, last_success_at, last_job_id,
    job_open, concluded_at, paused_at, last_release_id, last_result, held_reason, created_at, created_by"""
_ALL = text(f"SELECT {_COLUMNS} FROM schedule ORDER BY schedule_id")  # noqa: S608 - a constant
_ONE = text(f"SELECT {_COLUMNS} FROM schedule WHERE schedule_id = :id")  # noqa: S608 - a constant
_LOCKED = text(f"SELECT {_COLUMNS} FROM schedule WHERE schedule_id = :id FOR UPDATE")  # noqa: S608 - a constant
_DUE = text("""
    SELECT schedule_id, next_at FROM schedule WHERE enabled AND next_at <= :now AND kind = ANY(:kinds)
    ORDER BY next_at, schedule_id""")
_INSERT = text("""
    INSERT INTO schedule (kind, options, cron, every_seconds, window_from, window_to, days, time_zone, next_at,
                          is_default, created_by)
    VALUES (:kind, cast(:options AS jsonb), :cron, :every_seconds, :window_from, :window_to, :days, :time_zone,
            :next_at, :is_default, :created_by)
    RETURNING schedule_id""")
_DELETE = text("DELETE FROM schedule WHERE schedule_id = :id")
_DELETE_DEFAULTS = text("DELETE FROM schedule WHERE kind = :kind AND is_default RETURNING schedule_id")
_CLAIM = text("""
    UPDATE schedule SET attempts = attempts + 1, next_at = :retry_at,
                        last_started_at = CASE WHEN kind = 'reprocess' THEN last_started_at ELSE :now END,
                        last_due_at = CASE WHEN attempts = 0 AND NOT job_open AND window_from IS NULL
                                           THEN least(next_at, :now) ELSE last_due_at END
    WHERE schedule_id = :id""")
_GIVE_UP = text("UPDATE schedule SET attempts = 0, next_at = :next_at WHERE schedule_id = :id")
_END = text("""
    UPDATE schedule SET attempts = 0, next_at = :next_at, last_result = :result,
                        last_ended_at = CASE WHEN :over THEN :now ELSE last_ended_at END,
                        last_success_at = CASE WHEN :over AND :ok THEN :now ELSE last_success_at END
    WHERE schedule_id = :id""")
_FAIL = text("UPDATE schedule SET last_ended_at = :now, last_result = :result WHERE schedule_id = :id")
_SET_DEFAULT = text("""
    UPDATE schedule SET enabled = :seconds > 0,
                        every_seconds = CASE WHEN :seconds > 0 THEN :seconds ELSE every_seconds END,
                        next_at = CASE WHEN :seconds > 0 AND (every_seconds <> :seconds OR NOT enabled)
                                       THEN coalesce(last_due_at, :now) + make_interval(secs => :seconds)
                                       ELSE next_at END
    WHERE kind = 'regroup' AND is_default
    RETURNING schedule_id""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A row of the table of schedules."""

    schedule_id: int
    kind: ScheduleKind
    options: Mapping[str, object] = field(default_factory=dict)
    """Of a reprocessing."""
    times: Times
    enabled: bool = True
    is_default: bool = False
    next_at: datetime
    attempts: int = 0
    """Attempts at the run that is due."""
    is_open: bool = False
    """Whether its window was open when it was last looked at."""
    last_due_at: datetime | None = None
    last_started_at: datetime | None = None
    last_ended_at: datetime | None = None
    last_success_at: datetime | None = None
    last_job_id: int | None = None
    job_open: bool = False
    """Whether what follows its latest job is still to come."""
    concluded_at: datetime | None = None
    """When that was done for a job before."""
    paused_at: datetime | None = None
    """When its window paused that job."""
    last_release_id: int | None = None
    last_result: str | None = None
    held_reason: str | None = None
    created_at: datetime
    created_by: str

    def following(self, now: datetime) -> datetime:
        """Return the next time of its times; however many were missed, they are caught up once."""
        regular = self.times.next_after(self.last_due_at or now)
        return regular if regular > now else self.times.next_after(now)

    def describe(self) -> str:
        """Return number and kind."""
        return f"schedule {self.schedule_id} ({self.kind})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run, or a look at one that takes long, ended."""

    result: str
    """As a sentence."""
    again_seconds: float | None = None
    """When it is due again; None for its next time."""
    rest_seconds: float = 0.0
    """Time for which it is not due again, however short its period."""
    is_over: bool = True
    """Whether the run ended; a look at a job that is at work ends none."""
    is_good: bool = True
    """Whether it ended well."""


def read_now(session: Session) -> datetime:
    """Return the time by the database's clock; clocks of hosts may differ."""
    now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def read_schedules(session: Session) -> list[Schedule]:
    """Return all schedules by number."""
    return [_schedule(row) for row in session.execute(_ALL)]


def read_schedule(session: Session, schedule_id: int) -> Schedule:
    """Return one schedule.

    Raises:
        UsageError: there is none of this number.
    """
    row = session.execute(_ONE, {"id": schedule_id}).first()
    if row is None:
        raise UsageError(f"there is no schedule {schedule_id}; see `facet schedule list`")
    return _schedule(row)


def read_due(session: Session, kinds: Collection[ScheduleKind], now: datetime) -> list[int]:
    """Return the numbers of the due schedules of some kinds, the longest due first."""
    return list(read_due_since(session, kinds, now))


def read_due_since(session: Session, kinds: Collection[ScheduleKind], now: datetime) -> dict[int, datetime]:
    """Return since when the due schedules of some kinds are due, by number, the longest due first."""
    rows = session.execute(_DUE, {"now": now, "kinds": list(kinds)})
    return {int(row.schedule_id): row.next_at for row in rows}


def add_schedule(
    session: Session,
    kind: ScheduleKind,
    times: Times,
    options: Mapping[str, object],
    created_by: str,
    clock: Clock = read_now,
) -> tuple[int, list[int]]:
    """Insert a schedule; return its number, and those of the default schedules whose place it takes."""
    replaced = [int(number) for number in session.scalars(_DELETE_DEFAULTS, {"kind": kind})]
    now = clock(session)
    next_at = now if times.opening(now) is not None else times.next_after(now)
    values = {"options": json.dumps(options), "next_at": next_at, "by": created_by}
    return _insert(session, kind, times, values), replaced


def _insert(session: Session, kind: ScheduleKind, times: Times, values: Mapping[str, object]) -> int:
    window = times.window
    row = {
        "kind": kind,
        "options": values["options"],
        "cron": times.cron,
        "every_seconds": times.every_seconds,
        "window_from": None if window is None else window.opens,
        "window_to": None if window is None else window.closes,
        "days": None if window is None else list(window.days),
        "time_zone": times.zone,
        "next_at": values["next_at"],
        "is_default": values["by"] == BY_PROGRAM,
        "created_by": values["by"],
    }
    return int(session.execute(_INSERT, row).scalar_one())


def remove_schedule(session: Session, schedule_id: int) -> Schedule:
    """Delete a schedule and return it; what it started goes on.

    Raises:
        UsageError: there is none of this number.
    """
    found = read_schedule(session, schedule_id)
    session.execute(_DELETE, {"id": schedule_id})
    return found


def set_regroup_period(session: Session, hours: float) -> None:
    """Set the period of the default schedule that regroups people; 0 switches it off."""
    now, seconds = read_now(session), math.ceil(3600 * hours)
    found = session.execute(_SET_DEFAULT, {"seconds": seconds, "now": now}).first()
    if found is None and seconds > 0:
        times = Times(every_seconds=seconds)
        _insert(session, "regroup", times, {"options": "{}", "next_at": times.next_after(now), "by": BY_PROGRAM})


def claim(session: Session, schedule_id: int, now: datetime, *, forced: bool = False) -> Schedule | None:
    """Begin a run of a schedule and return its row as it was; None where it is not due, or is given up for now.

    Until the run ends, the schedule is due again after a pause: a run whose process died is begun again.
    """
    row = session.execute(_LOCKED, {"id": schedule_id}).first()
    if row is None:
        return None
    found = _schedule(row)
    if not forced and (not found.enabled or found.next_at > now):
        return None
    if not forced and found.attempts >= MAX_RUN_ATTEMPTS:
        session.execute(_GIVE_UP, {"id": schedule_id, "next_at": found.following(now)})
        return None
    pause = FIRST_RUN_PAUSE_SECONDS * 2**found.attempts
    retry_at = min(now + timedelta(seconds=pause), found.times.next_after(now))
    session.execute(_CLAIM, {"id": schedule_id, "now": now, "retry_at": retry_at})
    return found


def end_run(session: Session, schedule_id: int, outcome: RunOutcome, now: datetime) -> None:
    """Record the end of a run of a schedule, unless it was removed meanwhile."""
    row = session.execute(_LOCKED, {"id": schedule_id}).first()
    if row is None:
        return
    if outcome.again_seconds is None:
        next_at = max(_schedule(row).following(now), now + timedelta(seconds=outcome.rest_seconds))
    else:
        next_at = now + timedelta(seconds=outcome.again_seconds)
    values = {"id": schedule_id, "now": now, "next_at": next_at, "over": outcome.is_over, "ok": outcome.is_good}
    session.execute(_END, values | {"result": outcome.result})


def fail_run(session: Session, schedule_id: int, reason: str, now: datetime) -> None:
    """Record that a run failed; it is tried again."""
    session.execute(_FAIL, {"id": schedule_id, "now": now, "result": f"failed: {reason}"})


def _schedule(row: Row[tuple[object, ...]]) -> Schedule:
    values: dict[str, Any] = dict(row._mapping)  # noqa: SLF001 - the documented way to read a Row by name
    opens, closes, days = (values.pop(name) for name in ("window_from", "window_to", "days"))
    window = None if opens is None else Window(opens=opens, closes=closes, days=tuple(days))
    cron, every, zone = (values.pop(name) for name in ("cron", "every_seconds", "time_zone"))
    return Schedule(times=Times(cron=cron, every_seconds=every, window=window, zone=zone), **values)
