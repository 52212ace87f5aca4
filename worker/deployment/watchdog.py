"""The watchdog of a worker: ends it when it stalls, and sends wake-ups that were lost.

After a connection to Redis broke, a Celery worker may go on answering pings and never take a message again. A worker
whose processes are idle takes a message at once. If messages wait for a while and it takes none, it has stalled: the
watchdog ends it with an error, so that the service manager starts it again. Where units are due and no message tells
of them (it was lost, and no beat runs), the watchdog sends wake-ups.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from worker.errors import FacetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

logger = logging.getLogger(__name__)

LOOKS = 6  # within the time after which a worker counts as stalled
GRACE_SECONDS = 60.0  # for a worker that was asked to end: twice its soft shutdown


@dataclass(slots=True)
class StallDetector:
    """Distinguishes a worker that is idle from one that has stalled."""

    seconds: float
    """How long messages may wait beside an idle worker."""
    _since: float | None = None

    def observe(self, now: float, *, idle: bool, messages: int) -> bool:
        """Record one look; return True once messages have waited beside an idle worker at every look for too long."""
        if not idle or not messages:
            self._since = None
        elif self._since is None:
            self._since = now
        return self._since is not None and now - self._since >= self.seconds


class Watchdog:
    """A thread of the parent process that looks at the queues while the worker runs.

    Args:
        seconds: after which a worker counts as stalled.
        taken: counts the messages that the worker has taken since its start.
        busy: whether one of its processes works on a message.
        messages: counts the messages in its queues; raises FacetError where the broker is unreachable.
        wake: sends wake-ups for units that are due; raises FacetError where a service is unreachable.
    """

    def __init__(
        self,
        seconds: float,
        *,
        taken: Callable[[], int],
        busy: Callable[[], bool],
        messages: Callable[[], int],
        wake: Callable[[], object],
    ) -> None:
        self._detector = StallDetector(seconds)
        self._taken, self._busy, self._messages, self._wake = taken, busy, messages, wake
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self.stalled = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        before, quiet = self._taken(), 0
        while not self._ended.wait(self._detector.seconds / LOOKS):
            taken = self._taken()
            idle = taken == before and not self._busy()
            before, quiet = taken, quiet + 1 if idle else 0
            try:
                messages = self._messages()
                stalled = self._detector.observe(time.monotonic(), idle=idle, messages=messages)
                if not messages and quiet and quiet % LOOKS == 0:
                    self._wake()
            except FacetError:  # broker or database are unreachable: Celery connects again by itself
                self._detector.observe(time.monotonic(), idle=False, messages=0)
                continue
            if stalled:
                self._end_worker()
                return

    def _end_worker(self) -> None:
        self.stalled = True
        facts = {"action": "worker_stalled", "seconds": self._detector.seconds}
        logger.error("this worker is idle, takes none of the messages that wait, and ends", extra=facts)
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._ended.wait(GRACE_SECONDS):
            os._exit(1)
