"""The scheduler of beat. It keeps the times of its entries as JSON; Celery's own file would be a pickle."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celery.beat import Scheduler

from worker.deployment.broker import count_messages
from worker.errors import RetryableError

MAX_WAITING = {"reconcile": 2, "regroup": 32}
"""Maximum of waiting messages by entry; one more would change nothing and is not sent."""

logger = logging.getLogger(__name__)


class JsonScheduler(Scheduler):  # type: ignore[misc]  # Celery publishes no types
    """Beat's schedule. The times of its entries survive a restart, so that a daily entry stays daily."""

    def __init__(self, app: Any, *args: Any, schedule_filename: str, **options: Any) -> None:
        self._path = Path(schedule_filename)
        super().__init__(app, *args, **options)

    def setup_schedule(self) -> None:
        """Read the entries from the settings, and the times when they were last due from the file."""
        self.merge_inplace(self.app.conf.beat_schedule)
        for name, at in self._read().items():
            if name in self.schedule:
                self.schedule[name].last_run_at = at

    def is_due(self, entry: Any) -> Any:
        """Return whether an entry is due; one whose time lies in the future (the clock was set back) is due now."""
        if entry.last_run_at > entry.default_now():
            entry.last_run_at = entry.default_now() - entry.schedule.run_every
        return entry.is_due()

    def apply_async(self, entry: Any, *args: Any, **options: Any) -> Any:
        """Send the message of an entry, unless enough of its messages wait already."""
        return None if self._has_enough_waiting(entry) else super().apply_async(entry, *args, **options)

    def sync(self) -> None:
        """Write the file atomically."""
        known = {name: entry.last_run_at for name, entry in self.schedule.items()}
        times = {name: at.astimezone(UTC).isoformat() for name, at in known.items() if at is not None}
        partial = self._path.with_suffix(".partial")
        try:
            partial.write_text(json.dumps(times))
            partial.replace(self._path)
        except OSError as err:  # a full disk must not stop the schedule; after a restart some entries are early
            logger.warning("beat cannot write its file: %s", err.strerror, extra={"action": "beat_unwritable"})

    def _read(self) -> dict[str, datetime]:
        try:
            times = json.loads(self._path.read_text())
            return {str(name): datetime.fromisoformat(at).astimezone(UTC) for name, at in times.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as err:
            logger.warning(
                "the file of beat cannot be read, and its times start again: %s",
                err,
                extra={"action": "beat_unreadable"},
            )
            return {}

    def _has_enough_waiting(self, entry: Any) -> bool:
        maximum = MAX_WAITING.get(entry.name)
        if maximum is None:
            return False
        queue = self.app.amqp.router.route({}, entry.task)["queue"].name
        try:
            return count_messages(self.app.conf.broker_url, [queue]) >= maximum
        except RetryableError:
            return False  # sending fails the same way and reports it
