"""Files that are not on this host: whether one was deleted or its mount is away, and what to do about that.

A unit whose file lies on what this host lacks goes back untouched, with a word in its row, and this process takes
nothing from that place for a while. Another host that has it takes the unit; where none does, the word stays, and
`facet status` and `facet doctor` show it.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import MediaAway, MediaRejected
from worker.waiting import SKIP_SECONDS, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from worker.ledger import LeasedUnit

logger = logging.getLogger(__name__)

STAGED = re.compile(r"/([0-9a-f]{2})/\1[0-9a-f]{62}\.\w+$")
"""End of the path of a copy in a staging folder, named by its content."""
ABOUT_THE_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG})
"""What a look at a path may answer while the disk below it is well; anything else (ESTALE, EIO, ENOTCONN) is the
disk's."""

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


def look_for(location: str, roots: Sequence[str] = ()) -> None:
    """Return when a file is there; else say whether it is gone or this host lacks what it lies on.

    It is gone when its folder is there and holds something else, or when what is left of its path lies in an allowed
    root. A folder that holds nothing may be one where nothing is mounted, so it says nothing; a copy in a staging
    folder may be on the host that made it.

    Args:
        location: absolute path.
        roots: folders that this host should have, none where that is not known.

    Raises:
        MediaAway: this host lacks it.
        MediaRejected: ``missing``, it was deleted or moved.
    """
    path = Path(location)
    try:
        path.stat()
    except OSError as err:
        if err.errno not in ABOUT_THE_FILE:
            raise disk_fails(location, err) from err
        if err.errno not in {errno.ENOENT, errno.ENOTDIR}:
            return  # the decoder says what it thinks of that
        _explain(path, roots)


def disk_fails(location: str, err: OSError) -> MediaAway:
    """Return that the disk of a file, which was there, does not give its bytes."""
    return _away(Path(location).parent, f"answers {err.strerror}", "see to the disk")


def _explain(path: Path, roots: Sequence[str]) -> None:
    if STAGED.search(str(path)):
        raise _away(path.parent.parent, f"does not hold {path.name}", "run a worker on the host that unpacked it")
    there = next(folder for folder in path.parents if folder.is_dir())
    if _is_empty(there):
        raise _away(there, "is empty, perhaps for want of a mount", "mount it here")
    if there == path.parent or any(there.is_relative_to(root) for root in roots if "://" not in root):
        raise MediaRejected("missing", f"the file was deleted or moved; {there} is there and does not hold it")
    raise _away(Path(*path.parts[: len(there.parts) + 1]), "is not there", "mount it here")


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _away(place: Path, what: str, remedy: str) -> MediaAway:
    host = socket.gethostname()
    return MediaAway(str(place), f"{place} {what} on {host}; {remedy}, or leave it to a worker that has it")
