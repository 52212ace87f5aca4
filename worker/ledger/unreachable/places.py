"""Places that this host cannot read, such as an unmounted share.

A unit whose file lies there is returned untouched, its row names the host, and this process takes no unit from that
place for a while. A host that can read the place takes the unit; until then `facet status` and `facet doctor` show it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

from worker.ledger.unreachable.waiting import PLACE_SKIP_SECONDS, WindowSearch

if TYPE_CHECKING:
    from worker.errors import MediaUnreachable

logger = logging.getLogger(__name__)


class UnreachablePlaces:
    """Places that this process recently could not read; thread-safe."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._logged: set[str] = set()
        self.search = WindowSearch()
        """State of this process's search for units that lie elsewhere."""
        self._lock = threading.Lock()

    def note(self, unit_id: int, error: MediaUnreachable) -> None:
        """Avoid a place for PLACE_SKIP_SECONDS; log it the first time."""
        with self._lock:
            self._until[error.place] = time.monotonic() + PLACE_SKIP_SECONDS
            first = error.place not in self._logged
            self._logged.add(error.place)
        if first:
            facts = {"action": "left", "unit_id": unit_id, "place": error.place, "host": socket.gethostname()}
            logger.warning("unit %s and others are left to another host: %s", unit_id, error, extra=facts)

    def places(self) -> list[str]:
        """Return the places from which no unit is to be taken now."""
        with self._lock:
            now = time.monotonic()
            self._until = {place: until for place, until in self._until.items() if until > now}
            return list(self._until)
