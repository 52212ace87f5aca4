"""Limits on what a visitor may send: bytes of a form, and uploads a minute."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING

from worker.web.access.visitor import VisitRefused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Message, Receive

MAX_FORM_BYTES = 1 << 20
MAX_FORM_FIELDS = 2000  # of a form: the largest has a checkbox for each of some hundred people
MAX_VISITORS = 10_000  # whose uploads are counted; beyond, the oldest counts are forgotten


def limited(request: Request, max_bytes: int) -> Receive:
    """Return a function that reads the body of a request, up to a size.

    Raises:
        VisitRefused: the request states a larger size; also while reading.
    """
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated) > max_bytes:
        raise too_large(max_bytes)
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > max_bytes:
            raise too_large(max_bytes)
        return message

    return receive


def too_large(max_bytes: int) -> VisitRefused:
    """Return the refusal of a body that is too large."""
    return VisitRefused(f"the upload is too large, expected at most {max_bytes / 1e6:.0f} MB; send a smaller one", 413)


class RateLimit:
    """Counts acts of each visitor in a sliding window.

    Args:
        acts: that are permitted within the window.
        seconds: length of the window.
    """

    def __init__(self, acts: int, seconds: float) -> None:
        self.acts, self.seconds = acts, seconds
        self._times: dict[str, deque[float]] = {}
        self._lock = Lock()

    def count(self, visitor: str, now: float | None = None) -> None:
        """Count an act of a visitor.

        Raises:
            VisitRefused: there were too many.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            times = self._times.pop(visitor, deque())
            self._times[visitor] = times  # the latest comes last
            while len(self._times) > MAX_VISITORS:
                del self._times[next(iter(self._times))]
            while times and times[0] <= now - self.seconds:
                times.popleft()
            if len(times) >= self.acts:
                wait = self.seconds - (now - times[0])
                raise VisitRefused(
                    f"{self.acts} uploads in {self.seconds:.0f} s are the limit; wait {wait:.0f} s, then repeat", 429
                )
            times.append(now)
