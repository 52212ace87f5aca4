"""Walks the files below a folder in a fixed order; links and devices are reported, but never opened."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from worker.ingest.items import RefusedFile
from worker.visible import path_text

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class WalkedPath:
    """A path that may be a regular file."""

    path: str


def walk(folder: str) -> Iterator[WalkedPath | RefusedFile]:
    """Yield the files below a folder, sorted by name, those of a subfolder in its place among the files.

    Links are refused: they could form loops or lead out of the folder.
    """
    folders = [_listing(folder)]
    while folders:
        item = next(folders[-1], None)
        if item is None:
            folders.pop()
        elif isinstance(item, RefusedFile):
            yield item
        elif item.is_symlink():
            yield RefusedFile(display(item.path), "link", "links below a folder are not followed; name their target")
        elif item.is_dir(follow_symlinks=False):
            folders.append(_listing(item.path))
        else:
            yield WalkedPath(item.path)


def _listing(folder: str) -> Iterator[os.DirEntry[str] | RefusedFile]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError as err:
        yield refused_path(folder, err)


def open_file(path: str, *, follow: bool) -> BinaryIO:
    """Open a regular file; a device that replaced it meanwhile is neither waited for nor read.

    Args:
        path: of the file.
        follow: whether the last part may be a link.

    Raises:
        OSError: it cannot be opened.
        SpecialFileError: it is not a regular file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise SpecialFileError(path)
    return file


class SpecialFileError(OSError):
    """A device, a pipe or a socket."""


def refused_path(path: str, err: OSError) -> RefusedFile:
    """Return the refusal of a path that could not be read."""
    if isinstance(err, SpecialFileError):
        return RefusedFile(display(path), "special_file", "a device, a pipe or a socket")
    if isinstance(err, PermissionError):
        return RefusedFile(display(path), "no_permission", "this user may not read it")
    return RefusedFile(display(path), "unreadable", err.strerror or str(err))


def display(path: str) -> str:
    """Return an absolute path as text that a database can hold."""
    return path_text(os.path.abspath(path))  # noqa: PTH100  # keeps links
