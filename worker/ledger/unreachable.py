"""Files that are not on this host: whether one was deleted or its mount is away, and what to do about that.

A unit whose file lies on what this host lacks goes back untouched, with a word in its row, and this process takes
nothing from that place for a while. Another host that has it takes the unit; where none does, the word stays, and
`facet status` and `facet doctor` show it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

from worker.ledger.waiting import SKIP_SECONDS, WindowSearch

if TYPE_CHECKING:
    from worker.errors import MediaUnreachable

logger = logging.getLogger(__name__)


class UnreachablePlaces:
    """Places that this process lately could not read; for several threads."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._told: set[str] = set()
        self.search = WindowSearch()
        """How far this process has looked for units that lie elsewhere."""
        self._lock = threading.Lock()

    def note(self, unit_id: int, away: MediaUnreachable) -> None:
        """Keep away from a place for a while, and say so once."""
        with self._lock:
            self._until[away.place] = time.monotonic() + SKIP_SECONDS
            first = away.place not in self._told
            self._told.add(away.place)
        if first:
            facts = {"action": "left", "unit_id": unit_id, "place": away.place, "host": socket.gethostname()}
            logger.warning("unit %s and others are left to another host: %s", unit_id, away, extra=facts)

    def places(self) -> list[str]:
        """Give the places from which nothing is to be taken now."""
        with self._lock:
            now = time.monotonic()
            self._until = {place: until for place, until in self._until.items() if until > now}
            return list(self._until)
