"""Runs of schedules: each due one is run by one process at a time, and tried again where that fails."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from worker.errors import FacetError, described
from worker.masking import masked
from worker.schedules.rows import claim, end_run, fail_run, read_due, read_now
from worker.storage.database import is_unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy.orm import Session, sessionmaker

    from db.schema.schedule_tables import ScheduleKind
    from worker.schedules.rows import Clock, RunOutcome, Schedule

    Action = Callable[[Schedule], RunOutcome]

logger = logging.getLogger(__name__)

RUN_LOCK = 0x73636865  # "sche": first half of an advisory lock; the second is the number of the schedule
LOCKED_NUMBERS = 1 << 31
"""Numbers of schedules, of which an advisory lock takes four bytes."""

# For the transaction: a pooler that gives a connection to several clients allows no lock of a session. Between two
# statements such a transaction has no snapshot, so that it keeps no dead rows.
_HOLD = text("SELECT pg_try_advisory_xact_lock(:key, :number)")


@contextmanager
def hold_run(sessions: sessionmaker[Session], schedule_id: int) -> Iterator[bool]:
    """Hold the lock of a schedule's runs; yield whether it was free. It is free again when this process dies."""
    with sessions() as session:
        yield _try(session, schedule_id)


def is_running(session: Session, schedule_id: int) -> bool:
    """Return whether a process runs a schedule; the caller's transaction should end soon, since it holds the lock."""
    return not _try(session, schedule_id)


def _try(session: Session, schedule_id: int) -> bool:
    parameters = {"key": RUN_LOCK, "number": schedule_id % LOCKED_NUMBERS}
    return bool(session.execute(_HOLD, parameters).scalar_one())


def run_due(sessions: sessionmaker[Session], actions: Mapping[ScheduleKind, Action], clock: Clock = read_now) -> int:
    """Run the due schedules of some kinds, one after the other; return how many.

    Args:
        sessions: of the database.
        actions: by kind, what a run does.
        clock: of the database.
    """
    with sessions() as session:
        due = read_due(session, actions, clock(session))
    return sum(_run_if_due(sessions, number, actions, clock) for number in due)


def _run_if_due(
    sessions: sessionmaker[Session], number: int, actions: Mapping[ScheduleKind, Action], clock: Clock
) -> bool:
    with hold_run(sessions, number) as held:
        if not held:
            return False
        with sessions.begin() as session:
            found = claim(session, number, clock(session))
        if found is None:
            return False
        try:
            _run(sessions, found, actions[found.kind], clock)
        except (FacetError, DBAPIError) as err:
            if is_unreachable(err):
                raise
            facts = {"action": "schedule_failed", "schedule_id": number, "kind": found.kind}
            logger.warning("a scheduled run failed and is tried again: %s", _reason(err), extra=facts)
    return True


def run_now(
    sessions: sessionmaker[Session], schedule_id: int, actions: Mapping[ScheduleKind, Action], clock: Clock = read_now
) -> RunOutcome:
    """Run a schedule at once, whatever its times, until it is finished.

    Raises:
        FacetError: another process runs it, it does not exist, or the run failed.
    """
    with hold_run(sessions, schedule_id) as held:
        if not held:
            raise FacetError(f"schedule {schedule_id} is being run; wait until it has ended: `facet schedule list`")
        while True:
            with sessions.begin() as session:
                found = claim(session, schedule_id, clock(session), forced=True)
            if found is None:
                raise FacetError(f"there is no schedule {schedule_id} any more; see `facet schedule list`")
            outcome = _run(sessions, found, actions[found.kind], clock)
            if outcome.again_seconds != 0:
                return outcome


def _run(sessions: sessionmaker[Session], found: Schedule, action: Action, clock: Clock) -> RunOutcome:
    try:
        outcome = action(found)
    except (FacetError, DBAPIError) as err:
        with sessions.begin() as session:
            fail_run(session, found.schedule_id, _reason(err), clock(session))
        raise
    with sessions.begin() as session:
        end_run(session, found.schedule_id, outcome, clock(session))
    return outcome


def _reason(err: Exception) -> str:
    return described(err.orig or err) if isinstance(err, DBAPIError) else masked(str(err))
