"""Checks that a local file still holds the bytes that were hashed when it was submitted.

A stamp consists of size, times of modification and of change, and inode. Equal stamps mean equal bytes. Different
stamps mean only that the file has to be hashed again: copying, another mount and a change of mode alter them, too.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass, field

from worker.errors import MediaChanged

HASH_CHUNK_BYTES = 1 << 20
# Age of a change after which the next one gets another time: FAT counts two seconds, some servers one.
SETTLED_NS = 2_000_000_000
MAX_VERIFIED = 4096


def stamp_of(found: os.stat_result) -> str:
    """Return the stamp of a file."""
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def settled_stamp(before: os.stat_result, after: os.stat_result) -> str | None:
    """Return the stamp of a file that was read between two calls of ``stat``; None if a change may be undetectable."""
    latest = max(before.st_mtime_ns, before.st_ctime_ns)
    same = stamp_of(before) == stamp_of(after)
    return stamp_of(before) if same and latest + SETTLED_NS < time.time_ns() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The content of a file when it was submitted."""

    sha256: str
    byte_size: int | None = None
    stamp: str | None = None
    """None if a change may be undetectable: the file is hashed again."""
    is_image: bool = False
    """Whether it is hashed in any case: images are small, and their bytes were just read."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Hashes of large files by stamp, computed by this process; safe for several threads."""

    _hashes: dict[tuple[int, str], str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hash(self, descriptor: int) -> str:
        """Return the SHA-256 of an open file; an unchanged file is read once, however many threads ask."""
        with self._lock:
            before = os.fstat(descriptor)
            known = self._hashes.get((before.st_dev, stamp_of(before)))
            if known is not None:
                return known
            sha256 = hash_file(descriptor)
            if (stamp := settled_stamp(before, os.fstat(descriptor))) is not None:
                if len(self._hashes) >= MAX_VERIFIED:
                    self._hashes.clear()
                self._hashes[before.st_dev, stamp] = sha256
            return sha256


class ContentCheck:
    """Compare an open file with its expected content, before and after it is decoded.

    Args:
        descriptor: of the file.
        expected: its content; None where that is not known.
        verified: hashes that this process computed.
    """

    def __init__(self, descriptor: int, expected: Expected | None, verified: Verified) -> None:
        self._descriptor = descriptor
        self._expected = expected
        self._verified = verified
        self._before = os.fstat(descriptor)

    def begin(self) -> None:
        """Compare before the first byte is decoded.

        Raises:
            MediaChanged: the file holds other bytes.
        """
        expected = self._expected
        if expected is None:
            return
        if expected.byte_size not in {None, self._before.st_size}:
            raise self._changed(f"{self._before.st_size} bytes, {expected.byte_size} were submitted")
        if not expected.is_image and stamp_of(self._before) != expected.stamp:
            self._compare(self._verified.hash(self._descriptor), expected)

    def end(self) -> None:
        """Compare after the last byte was decoded.

        Raises:
            MediaChanged: the file holds other bytes, or held them meanwhile.
        """
        expected = self._expected
        if expected is None:
            return
        if expected.is_image or stamp_of(os.fstat(self._descriptor)) != stamp_of(self._before):
            self._compare(hash_file(self._descriptor), expected)

    def _compare(self, sha256: str, expected: Expected) -> None:
        if sha256 != expected.sha256:
            raise self._changed("other bytes")

    def _changed(self, found: str) -> MediaChanged:
        return MediaChanged(f"the file holds {found}, expected those that were submitted; submit it again")


def hash_file(descriptor: int) -> str:
    """Return the SHA-256 of an open file, without moving its position."""
    total, position = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, HASH_CHUNK_BYTES, position):
        total.update(chunk)
        position += len(chunk)
    return total.hexdigest()
