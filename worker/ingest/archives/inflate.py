"""Inflates archives within a budget, so that none can fill disk or memory."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
from typing import TYPE_CHECKING, BinaryIO

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.ingest.items import IngestOptions
    from worker.ingest.sniff import ArchiveFormat
    from worker.storage.staging import Readable

# Memory that unpacking may need (xz dictionary, zstd window): twice that of ``xz -9``.
WINDOW_BYTES = 1 << 27
ZSTD_BYTES = 1 << 10  # read at a time: four bytes may inflate to 128 KiB, so these to 32 MiB

# Raised by the readers here for damaged bytes; ``zlib.error`` comes as OSError or BadZipFile from their modules.
STREAM_ERRORS = (EOFError, OSError, lzma.LZMAError, zstandard.ZstdError)
# Reading errors of a failing disk or mount: the archive is not at fault.
DISK_ERRNOS = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO})


class ArchiveRefused(Exception):  # it carries the reason that the archive's row will show
    """An archive is not read, or not read to its end."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Budget:
    """Counts what one archive on disk inflates to, archives inside it included."""

    def __init__(self, options: IngestOptions, packed_bytes: int) -> None:
        self._options = options
        self._packed_bytes = max(packed_bytes, 1)
        self._inflated = 0
        self._entries = 0

    def inflate(self, count: int) -> None:
        """Count inflated bytes.

        Raises:
            ArchiveRefused: there are too many.
        """
        self._inflated += count
        if self._inflated > self._options.archive_bytes:
            raise ArchiveRefused("archive_bomb", f"more than {self._options.archive_bytes} bytes inflated")
        ratio = self._inflated / self._packed_bytes
        if ratio > self._options.archive_ratio and self._inflated > self._options.archive_ratio_from:
            raise ArchiveRefused("archive_bomb", f"inflates {ratio:.0f} times, at most {self._options.archive_ratio:g}")

    def entry(self, count: int = 1) -> None:
        """Count members.

        Raises:
            ArchiveRefused: there are too many.
        """
        self._entries += count
        if self._entries > self._options.archive_entries:
            raise ArchiveRefused("too_many_entries", f"more than {self._options.archive_entries} members")


class Metered:
    """A stream whose bytes are counted."""

    def __init__(self, stream: Readable, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, none at the end."""
        chunk = self._stream.read(size)
        self._budget.inflate(len(chunk))
        return chunk


def unpacked(file: BinaryIO, archive: ArchiveFormat) -> Readable:
    """Return the stream inside a compressed file; a tar is its own stream."""
    openers: dict[ArchiveFormat, Callable[[BinaryIO], Readable]] = {
        "tar": lambda raw: raw,
        "gzip": lambda raw: gzip.GzipFile(fileobj=raw, mode="rb"),
        "bzip2": lambda raw: bz2.BZ2File(raw, "rb"),
        "xz": _Xz,
        "zstd": _Zstd,
    }
    return openers[archive](file)


class _Xz:
    """An xz stream with a bound on memory, which ``lzma.LZMAFile`` lacks."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._decoder = self._new()

    def read(self, size: int, /) -> bytes:
        while True:
            if self._decoder.eof:
                following = self._decoder.unused_data.lstrip(b"\0") or self._raw.read(io.DEFAULT_BUFFER_SIZE)
                if not following.strip(b"\0"):
                    return b""
                self._decoder = self._new()
            elif self._decoder.needs_input:
                following = self._raw.read(io.DEFAULT_BUFFER_SIZE)
                if not following:
                    raise EOFError("the compressed file ends too early")
            else:
                following = b""
            chunk = self._decoder.decompress(following, size)
            if chunk:
                return chunk

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=WINDOW_BYTES)


class _Zstd:
    """A zstd stream that raises an error where it is cut off, which the library's own reader does not."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._decoder = self._new()
        self._fresh = True
        self._inflated = io.BytesIO()

    def read(self, size: int, /) -> bytes:
        while not (chunk := self._inflated.read(size)):
            packed = self._decoder.unused_data if self._decoder.eof else b""
            packed = packed or self._raw.read(ZSTD_BYTES)
            if not packed:
                if self._decoder.eof or self._fresh:
                    return b""
                raise EOFError("the compressed file ends too early")
            if self._decoder.eof:
                self._decoder = self._new()
            self._fresh = False
            self._inflated = io.BytesIO(self._decoder.decompress(packed))
        return chunk

    @staticmethod
    def _new() -> zstandard.ZstdDecompressionObj:
        return zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompressobj()
