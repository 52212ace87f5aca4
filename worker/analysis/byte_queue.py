"""A queue between decode and detect that is bounded in bytes, not in frames."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ByteQueue(Generic[Item]):
    """A first-in, first-out queue; ``put`` waits while it holds ``max_bytes``, but one item always fits."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item, size: int) -> bool:
        """Append an item of ``size`` bytes, waiting for room; returns False when the queue was closed instead."""
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

    def get(self, timeout_seconds: float) -> Item | None:
        """Remove and return the oldest item; None when none came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout_seconds):
                return None
            item, size = self._items.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Empty the queue, wake the threads that wait in ``put``, and refuse further items."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()
