"""The scheduler of beat: it sends reconciliations every half minute, and messages for schedules that are due.

A schedule is a row, and the clock of the database decides when it is due. A message only wakes a worker, which looks
for due rows itself: several beats, and messages that are lost or doubled, do no harm.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from celery.beat import Scheduler
from sqlalchemy.exc import DBAPIError

from worker.deployment.broker import REDIS_ERRORS, broker_reason, count_messages
from worker.deployment.task_options import QUEUES, SCHEDULES
from worker.errors import FacetError, RetryableError
from worker.schedules.reprocessing import turn_windows
from worker.schedules.rows import read_due_since, read_now, set_regroup_period
from worker.schedules.runs import is_running
from worker.storage.database import database_failure, open_database

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from celery import Celery

    from db.schema.schedule_tables import ScheduleKind
    from worker.config import Settings
    from worker.storage.database import Database

MAX_WAITING = {"reconcile": 2}
"""Maximum of waiting messages by entry; one more would change nothing and is not sent."""
MAX_SCHEDULE_MESSAGES = 32
SCHEDULE_POLL_SECONDS = 10.0  # between two looks for due schedules
WOKEN: tuple[ScheduleKind, ...] = ("regroup", "reprocess")  # retention is part of every reconciliation
RESEND_SECONDS = 60.0  # before another message is sent for a schedule that is still due

logger = logging.getLogger(__name__)


class RowScheduler(Scheduler):  # type: ignore[misc]  # Celery publishes no types
    """Beat's schedule: the entries of the application, and beside them what `beat_poll` of its settings finds due."""

    def __init__(self, app: Any, *args: Any, **options: Any) -> None:
        self._poll_at = 0.0
        super().__init__(app, *args, **options)

    def setup_schedule(self) -> None:
        """Read the entries from the settings."""
        self.merge_inplace(self.app.conf.beat_schedule)

    def tick(self, *args: Any, **options: Any) -> float:
        """Send the messages of one due entry and, now and then, of due schedules; return the seconds until the next."""
        delay = float(super().tick(*args, **options))
        if time.monotonic() >= self._poll_at:
            self.app.conf.beat_poll()
            self._poll_at = time.monotonic() + SCHEDULE_POLL_SECONDS
        return max(0.0, min(delay, self._poll_at - time.monotonic()))

    def is_due(self, entry: Any) -> Any:
        """Return whether an entry is due; one whose time lies in the future (the clock was set back) is due now."""
        if entry.last_run_at > entry.default_now():
            entry.last_run_at = entry.default_now() - entry.schedule.run_every
        return entry.is_due()

    def apply_async(self, entry: Any, *args: Any, **options: Any) -> Any:
        """Send the message of an entry, unless enough of its messages wait already."""
        maximum = MAX_WAITING.get(entry.name)
        if maximum is not None and has_waiting(self.app, maximum):
            return None
        return super().apply_async(entry, *args, **options)


def has_waiting(app: Celery, maximum: int) -> bool:
    """Return whether so many messages wait for upkeep; while the broker is away, none seem to."""
    try:
        return count_messages(str(app.conf.broker_url), [QUEUES["upkeep"]]) >= maximum
    except RetryableError:
        return False  # sending fails the same way and reports it


class SchedulePoll:
    """Opens and closes windows, looks for due schedules and sends messages for them.

    Args:
        app: sends the messages.
        config: of the deployment.
    """

    def __init__(self, app: Celery, config: Settings) -> None:
        self._app = app
        self._config = config
        self._opened = ExitStack()
        self._database: Database | None = None
        self._sent: dict[tuple[int, datetime], float] = {}
        """By schedule and the time since which it is due, time of the monotonic clock of the last message."""
        self._failing = False

    def __call__(self) -> None:
        """Send a message for each schedule that is due and not being run; a failure is logged, and ends nothing."""
        try:
            self._send(self._find_due(self._open()))
        except (FacetError, DBAPIError) as err:
            self._report(database_failure(err) if isinstance(err, DBAPIError) else err)
        except REDIS_ERRORS as err:
            self._report(RetryableError(broker_reason(err)))
        else:
            self._failing = False

    def close(self) -> None:
        """Close the database."""
        self._opened.close()
        self._database = None

    def _open(self) -> Database:
        """Return the database; it is opened when it first answers, so that beat may start before it."""
        if self._database is None:
            database = self._opened.enter_context(open_database(self._config))
            if self._config.regroup_hours is not None:
                with database.sessions.begin() as session:
                    set_regroup_period(session, self._config.regroup_hours)
            self._database = database
        return self._database

    def _find_due(self, database: Database) -> dict[int, datetime]:
        """Open and close windows; return the due schedules that no process runs, and since when they are due."""
        turn_windows(database.sessions)
        with database.sessions() as session:
            due = read_due_since(session, WOKEN, read_now(session))
            return {number: since for number, since in due.items() if not is_running(session, number)}

    def _send(self, due: Mapping[int, datetime]) -> None:
        """Send a message for each schedule that has become due, and again for one that stays due."""
        now = time.monotonic()
        self._sent = {one: at for one, at in self._sent.items() if due.get(one[0]) == one[1]}
        for one in due.items():
            if now < self._sent.get(one, -RESEND_SECONDS) + RESEND_SECONDS:
                continue
            if not has_waiting(self._app, MAX_SCHEDULE_MESSAGES):
                self._app.send_task(SCHEDULES)
            self._sent[one] = now

    def _report(self, err: Exception) -> None:
        """Log the first failure of a row of them."""
        if not self._failing:
            logger.warning("beat does not see which schedules are due: %s", err, extra={"action": "beat_blind"})
        self._failing = True
