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

from sqlalchemy import text

from worker.waiting import SKIP_SECONDS, Search

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.errors import MediaAway
    from worker.ledger import LeasedUnit

logger = logging.getLogger(__name__)

_LEAVE = text("""
    UPDATE unit SET state = 'pending', owner = NULL, lease_until = NULL, attempts = attempts - 1,
        last_error = CASE
            WHEN NOT coalesce(starts_with(last_error, cast(:said AS text)), false) THEN cast(:said AS text) || :host
            WHEN :host = ANY (string_to_array(substr(last_error, length(cast(:said AS text)) + 1), ', '))
                THEN last_error
            ELSE last_error || ', ' || :host END
    WHERE unit_id = :unit_id AND token = :token AND state = 'leased'""")


class Absences:
    """Places that this process lately could not read; for several threads."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._told: set[str] = set()
        self.search = Search()
        """How far this process has looked for units that lie elsewhere."""
        self._lock = threading.Lock()

    def note(self, unit_id: int, away: MediaAway) -> None:
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


def leave_unit(session: Session, unit: LeasedUnit, away: MediaAway) -> None:
    """Give a unit back without counting the attempt, and write down which hosts lack its file."""
    host = socket.gethostname()
    said = f"away: {away.place} cannot be read on "
    parameters = {"unit_id": unit.unit_id, "token": unit.token, "said": said, "host": host}
    session.execute(_LEAVE, parameters)
