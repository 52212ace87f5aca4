"""Whether a file was deleted, or lies on what this host lacks: a mount that is away, another host's staging folder."""

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

STAGED = re.compile(r"/([0-9a-f]{2})/\1[0-9a-f]{62}\.\w+$")
"""End of the path of a copy in a staging folder, named by its content."""
FILE_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG})
"""What a look at a path may answer while the disk below it is well; anything else (ESTALE, EIO, ENOTCONN) is the
disk's."""


def require_present(location: str, roots: Sequence[str] = ()) -> None:
    """Return when a file is there; else say whether it is gone or this host lacks what it lies on.

    It is gone when its folder is there and holds something else, or when what is left of its path lies in an allowed
    root. A folder that holds nothing may be one where nothing is mounted, so it says nothing; a copy in a staging
    folder may be on the host that made it.

    Args:
        location: absolute path.
        roots: folders that this host should have, none where that is not known.

    Raises:
        MediaUnreachable: this host lacks it.
        MediaRejected: ``missing``, it was deleted or moved.
    """
    path = Path(location)
    try:
        path.stat()
    except OSError as err:
        if err.errno not in FILE_ERRNOS:
            raise disk_error(location, err) from err
        if err.errno not in {errno.ENOENT, errno.ENOTDIR}:
            return  # the decoder says what it thinks of that
        _explain(path, roots)


def disk_error(location: str, err: OSError) -> MediaUnreachable:
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


def _away(place: Path, what: str, remedy: str) -> MediaUnreachable:
    host = socket.gethostname()
    return MediaUnreachable(str(place), f"{place} {what} on {host}; {remedy}, or leave it to a worker that has it")
