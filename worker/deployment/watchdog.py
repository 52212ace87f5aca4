"""The watch over a worker that is alive and does nothing.

After a connection to Redis broke, a Celery worker may go on answering pings and never take a message again. A worker
whose processes are all idle takes a message at once; if some lie there for a while and it took none, it is deaf, and
ends with an error so that whatever started it starts it anew. Where units are due and no message tells of them (it was
lost, and no beat runs), the watch rings.
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

LOOKS = 6  # in the time after which a worker counts as deaf
GRACE_SECONDS = 60.0  # for a worker that was told to end: twice its soft shutdown


@dataclass(slots=True)
class Patience:
    """Tells a worker that rests from one that is deaf."""

    seconds: float
    _since: float | None = None

    def is_over(self, now: float, *, idle: bool, messages: int) -> bool:
        """Take note of a look; True when messages have lain beside an idle worker at every look for too long."""
        if not idle or not messages:
            self._since = None
        elif self._since is None:
            self._since = now
        return self._since is not None and now - self._since >= self.seconds


class Watch:
    """A thread of the parent process that looks at the queues while the worker runs.

    Args:
        seconds: after which a worker counts as deaf.
        taken: how many messages the worker has taken since its start.
        busy: whether one of its processes has a message in its hands.
        messages: how many lie in its queues; raises FacetError where the broker is away.
        ring: sends messages for units that are due; raises FacetError where a service is away.
    """

    def __init__(
        self,
        seconds: float,
        *,
        taken: Callable[[], int],
        busy: Callable[[], bool],
        messages: Callable[[], int],
        ring: Callable[[], object],
    ) -> None:
        self._patience = Patience(seconds)
        self._taken, self._busy, self._messages, self._ring = taken, busy, messages, ring
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.deaf = False

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
        while not self._ended.wait(self._patience.seconds / LOOKS):
            taken = self._taken()
            idle = taken == before and not self._busy()
            before, quiet = taken, quiet + 1 if idle else 0
            try:
                messages = self._messages()
                over = self._patience.is_over(time.monotonic(), idle=idle, messages=messages)
                if not messages and quiet and quiet % LOOKS == 0:
                    self._ring()
            except FacetError:  # a broker or database that is away: Celery connects again by itself
                self._patience.is_over(time.monotonic(), idle=False, messages=0)
                continue
            if over:
                self._give_up()
                return

    def _give_up(self) -> None:
        self.deaf = True
        facts = {"action": "worker_deaf", "seconds": self._patience.seconds}
        logger.error("this worker is idle, takes none of the messages that wait, and ends", extra=facts)
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._ended.wait(GRACE_SECONDS):
            os._exit(1)
