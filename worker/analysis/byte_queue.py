"""A queue between decode and detect that is bounded in bytes, not in frames."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ByteQueue(Generic[T]):
    """First in, first out; ``put`` waits while more than ``max_bytes`` lie in it, but one item always fits."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, size: int) -> bool:
        """Append an item of ``size`` bytes, waiting for room; False when the queue was closed instead."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._items or size == 0 or self._bytes + size <= self._max_bytes
            )
            if self._closed:
                return False
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def get(self, timeout_seconds: float) -> T | None:
        """Take the oldest item, or None when none came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout_seconds):
                return None
            item, size = self._items.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Wake everybody who waits to put; nothing can be put any more."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()
