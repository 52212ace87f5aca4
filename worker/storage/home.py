"""The home folder: created when missing, and locked by one analysis at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.errors import FacetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIN_FREE_BYTES = 64 << 20  # with less, a database does not start, and nothing can be stored


def make_home(home: Path) -> None:
    """Create the folder, for its owner alone: results about faces are personal data.

    Raises:
        FacetError: it cannot be created or written to.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as err:
        raise FacetError(f"{home} cannot be created: {err.strerror}; set FACET_HOME to a folder of yours") from err
    if not os.access(home, os.W_OK):
        raise FacetError(f"{home} cannot be written to; set FACET_HOME to a folder of yours")


def full_disk(home: Path) -> str | None:
    """Return in a sentence that the disk of the home folder is full; None if it has room."""
    free = shutil.disk_usage(home).free
    if free >= MIN_FREE_BYTES:
        return None
    wanted = f"{MIN_FREE_BYTES / 1e6:.0f} or more"
    return f"the disk is full: {free / 1e6:.0f} MB are free under {home}, expected {wanted}; free space"


@contextmanager
def hold_home(home: Path) -> Iterator[None]:
    """Lock the home folder against other analyses; the kernel releases the lock when the process ends.

    Raises:
        UsageError: another analysis holds the lock.
        FacetError: the folder cannot be used, or its disk is full.
    """
    make_home(home)
    if (full := full_disk(home)) is not None:
        raise FacetError(full)
    path = home / "analyze.lock"
    try:
        lock = path.open("a+")
    except OSError as err:
        raise FacetError(f"{path} cannot be opened: {err.strerror}; set FACET_HOME to a folder of yours") from err
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise UsageError(
                f"another `facet analyze` (process {holder}) works in {home}; wait for it or set another FACET_HOME"
            ) from err
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
