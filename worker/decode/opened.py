"""Reads files that the parent opened for a decode child, which may open none itself: their location is ``fd:7``.

Every function takes a plain path, too, so that the readers work without a child.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from worker.errors import MediaRejected, MediaVanished

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SCHEME = "fd:"


def location_of(descriptor: int) -> str:
    """Return the location that names an open file."""
    return f"{SCHEME}{descriptor}"


def open_media(path: str) -> int:
    """Open a file for reading and return its descriptor; pipes and devices are refused without waiting for them.

    Raises:
        MediaRejected: it may not be read, or is not a regular file.
        MediaVanished: it cannot be opened for another reason.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except PermissionError as err:
        raise MediaRejected("no_permission", "the file may not be read") from err
    except OSError as err:
        raise MediaVanished(f"the file cannot be opened ({err.strerror})") from err
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MediaRejected("special_file", "a folder, a device, a pipe or a socket")
    return descriptor


def file_status(location: str) -> os.stat_result:
    """Return the status of a file, as ``stat`` does."""
    descriptor = _descriptor(location)
    return Path(location).stat() if descriptor is None else os.fstat(descriptor)


def reader(location: str) -> BinaryIO:
    """Return a reader at the start of the file; for an open file it shares the position with other readers."""
    descriptor = _descriptor(location)
    if descriptor is None:
        return Path(location).open("rb")
    file = os.fdopen(os.dup(descriptor), "rb")
    file.seek(0)
    return file


def independent_reader(location: str) -> BinaryIO:
    """Return a reader with a position of its own."""
    descriptor = _descriptor(location)
    if descriptor is None:
        return Path(location).open("rb")
    return cast("BinaryIO", io.BufferedReader(_Positioned(os.dup(descriptor))))


class _Positioned(io.RawIOBase):
    """Reads an open file at positions of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: os.fstat(self._descriptor).st_size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def head(location: str, count: int) -> bytes:
    """Return the first bytes of a file, without moving the position of other readers."""
    descriptor = _descriptor(location)
    if descriptor is not None:
        return os.pread(descriptor, count, 0)
    with Path(location).open("rb") as file:
        return file.read(count)


def for_ffmpeg(location: str) -> tuple[str, dict[str, str]]:
    """Return the URL of a file for FFmpeg, and the options that it needs."""
    descriptor = _descriptor(location)
    if descriptor is None:
        return f"file:{location}", {"protocol_whitelist": "file"}
    os.lseek(descriptor, 0, os.SEEK_SET)
    return SCHEME, {"protocol_whitelist": "fd", "fd": str(descriptor)}


def path_of(location: str) -> str:
    """Return a path for a library that needs one; a child that may not open files cannot use it."""
    descriptor = _descriptor(location)
    return location if descriptor is None else f"/proc/self/fd/{descriptor}"


def _descriptor(location: str) -> int | None:
    number = location.removeprefix(SCHEME)
    return int(number) if number != location and number.isdecimal() else None
