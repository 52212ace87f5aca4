"""Separates deleted files from unreachable ones: a missing mount, or a copy in another host's staging folder."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import MediaRejected, MediaUnreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

# End of the path of a copy in a staging folder, named by its content.
STAGED = re.compile(r"/([0-9a-f]{2})/\1[0-9a-f]{62}\.\w+$")
# Errors of ``stat`` that concern the path; all others (ESTALE, EIO, ENOTCONN) concern the disk.
FILE_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG})


def require_present(location: str, roots: Sequence[str] = ()) -> None:
    """Check that a file exists; separate a deleted file from one that this host cannot reach.

    A file counts as deleted if its folder exists and is not empty, or if the nearest existing folder above it lies in
    an allowed root. An empty folder may be a mount point without its mount, so it proves nothing. A copy in a staging
    folder may be on the host that made it.

    Args:
        location: absolute path.
        roots: folders that this host should have; empty where that is not known.

    Raises:
        MediaUnreachable: this host cannot reach it.
        MediaRejected: ``missing``: it was deleted or moved.
    """
    path = Path(location)
    try:
        path.stat()
    except OSError as err:
        if err.errno not in FILE_ERRNOS:
            raise disk_error(location, err) from err
        if err.errno not in {errno.ENOENT, errno.ENOTDIR}:
            return  # the decoder reports it with its own reason
        _raise_cause(path, roots)


def disk_error(location: str, err: OSError) -> MediaUnreachable:
    """Return the error for a disk that fails to read a file that exists."""
    return _unreachable(Path(location).parent, f"answers {err.strerror}", "see to the disk")


def _raise_cause(path: Path, roots: Sequence[str]) -> None:
    if STAGED.search(str(path)):
        raise _unreachable(
            path.parent.parent, f"does not hold {path.name}", "run a worker on the host that unpacked it"
        )
    there = next(folder for folder in path.parents if folder.is_dir())
    if _is_empty(there):
        raise _unreachable(there, "is empty", "is it mounted? Mount it here")
    if there == path.parent or any(there.is_relative_to(root) for root in roots if "://" not in root):
        raise MediaRejected("missing", f"the file was deleted or moved; {there} is there and does not hold it")
    raise _unreachable(Path(*path.parts[: len(there.parts) + 1]), "is not there", "mount it here")


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _unreachable(place: Path, what: str, remedy: str) -> MediaUnreachable:
    host = socket.gethostname()
    return MediaUnreachable(str(place), f"{place} {what} on {host}; {remedy}, or leave it to a worker that has it")
