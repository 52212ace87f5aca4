"""When beat last sent what, kept as JSON: Celery's own file would be a pickle."""

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
"""Messages of upkeep that nobody has taken, from which on one more is not sent: it would say nothing new."""

logger = logging.getLogger(__name__)


class JsonScheduler(Scheduler):  # type: ignore[misc]  # Celery publishes no types
    """Beat's schedule, which remembers over a restart when each entry was last due: a daily one stays daily."""

    def __init__(self, app: Any, *args: Any, schedule_filename: str, **options: Any) -> None:
        self._path = Path(schedule_filename)
        super().__init__(app, *args, **options)

    def setup_schedule(self) -> None:
        """Take the entries of the settings, and from the file when they were last due."""
        self.merge_inplace(self.app.conf.beat_schedule)
        for name, at in self._read().items():
            if name in self.schedule:
                self.schedule[name].last_run_at = at

    def is_due(self, entry: Any) -> Any:
        """Return whether an entry is due; one that was sent in the future, by a clock that was set back, is due now."""
        if entry.last_run_at > entry.default_now():
            entry.last_run_at = entry.default_now() - entry.schedule.run_every
        return entry.is_due()

    def apply_async(self, entry: Any, *args: Any, **options: Any) -> Any:
        """Send an entry's message, unless enough of them lie there already."""
        return None if self._is_waited_for(entry) else super().apply_async(entry, *args, **options)

    def sync(self) -> None:
        """Write the file; whole or not at all."""
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
            logger.warning("beat starts afresh, its file cannot be read: %s", err, extra={"action": "beat_unreadable"})
            return {}

    def _is_waited_for(self, entry: Any) -> bool:
        most = MAX_WAITING.get(entry.name)
        if most is None:
            return False
        queue = self.app.amqp.router.route({}, entry.task)["queue"].name
        try:
            return count_messages(self.app.conf.broker_url, [queue]) >= most
        except RetryableError:
            return False  # sending fails the same way, and says so
