"""Ranges of bytes of a file, as browsers ask for them (RFC 9110, section 14)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Self

PIECE_BYTES = 1 << 18  # that are read at once
MAX_DIGITS = 19  # of a place in a file

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a file."""

    start: int
    length: int

    def header(self, size: int) -> str:
        """Return the value of ``Content-Range``."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class RangeNotSatisfiable(Exception):
    """No byte of the file lies in the range."""


def read_range(header: str | None, size: int) -> ByteRange | None:
    """Return the part that a header asks for; None for the whole file.

    Several ranges, other units and malformed headers are ignored, as the standard permits.

    Args:
        header: value of ``Range``.
        size: of the file in bytes.

    Raises:
        RangeNotSatisfiable: the file ends before the range begins.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or max(map(len, found.groups())) > MAX_DIGITS or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        if not length:
            raise RangeNotSatisfiable
        return ByteRange(size - length, length)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise RangeNotSatisfiable
    end = min(int(last), size - 1) if last else size - 1
    return ByteRange(start, end - start + 1)


class OpenedBytes:
    """The bytes of an open file, read in pieces; the file is closed at the end, or with the last reference to it.

    Args:
        descriptor: of the file, which belongs to this object from now on.
        part: that is read.
    """

    def __init__(self, descriptor: int, part: ByteRange) -> None:
        self._descriptor: int | None = descriptor
        self._next, self._left = part.start, part.length

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        chunk = b""
        if self._descriptor is not None and self._left:
            chunk = os.pread(self._descriptor, min(PIECE_BYTES, self._left), self._next)
        if not chunk:
            self.close()
            raise StopIteration
        self._next += len(chunk)
        self._left -= len(chunk)
        return chunk

    def narrow(self, part: ByteRange) -> None:
        """Read another part of the file, from its start."""
        self._next, self._left = part.start, part.length

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:  # a browser that leaves ends the response without a word
        self.close()
