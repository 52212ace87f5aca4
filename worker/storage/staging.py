"""A folder of files named by their content: where members of archives wait to be decoded.

A copy that is being written has a name of its own and is locked (``flock``) until it is whole; the lock ends with the
process, and what a killed one left is removed by the next that writes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Readable(Protocol):
        """Anything that bytes are read from."""

        def read(self, size: int, /) -> bytes:
            """Return at most ``size`` bytes, none at the end."""


COPY_CHUNK_BYTES = 1 << 20
PARTIAL_PREFIX = ".partial-"


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file's bytes add up to."""

    sha256: str
    byte_size: int


def digest(head: bytes, rest: Readable) -> Digest:
    """Read a stream to its end.

    Args:
        head: bytes that were read from it before.
        rest: what follows them.
    """
    total, size = hashlib.sha256(head), len(head)
    while chunk := rest.read(COPY_CHUNK_BYTES):
        total.update(chunk)
        size += len(chunk)
    return Digest(total.hexdigest(), size)


class Staging:
    """The folder. Names come from content alone: no name out of an archive is ever used for a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, head: bytes, rest: Readable, extension: str) -> tuple[Path, Digest]:
        """Copy a stream into the folder, or find that it is there already.

        Raises:
            RetryableError: the folder cannot be written, for lack of space or permissions.
        """
        with self._partial() as out:
            content = _copy(head, rest, out)
            final = self._folder / content.sha256[:2] / f"{content.sha256}.{extension}"
            _move(Path(str(out.name)), final)
        return final, content

    @contextmanager
    def temporary_copy(self, head: bytes, rest: Readable) -> Iterator[Path]:
        """Copy a stream to a file that is there as long as the context.

        Raises:
            RetryableError: the folder cannot be written.
        """
        with self._partial() as out:
            _copy(head, rest, out)
            yield Path(str(out.name))

    @contextmanager
    def _partial(self) -> Iterator[FileIO]:
        """Open an empty file, locked, under a name that goes with the context.

        It has no buffer: what could not be written would be written again when the file is closed, and that error would
        take the place of the first.
        """
        out = self._new()
        try:
            yield out
        finally:
            with suppress(OSError):  # it is unlocked then, and goes with the next that is written
                Path(str(out.name)).unlink(missing_ok=True)
            with suppress(OSError):
                out.close()

    def _new(self) -> FileIO:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            remove_partials(self._folder)
            while True:
                descriptor, name = tempfile.mkstemp(prefix=PARTIAL_PREFIX, dir=self._folder)
                os.close(descriptor)
                out = FileIO(name, "r+b")
                fcntl.flock(out, fcntl.LOCK_EX)
                if _is_there(out):
                    return out
                out.close()  # another process took it for an abandoned one before it was locked
        except OSError as err:
            raise unwritable(self._folder, err) from err


def remove_partials(folder: Path) -> None:
    """Remove what processes that were killed left half written."""
    for path in folder.glob(f"{PARTIAL_PREFIX}*"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def unwritable(path: Path, err: OSError) -> RetryableError:
    """Return the error for a disk that takes nothing: it says nothing of what should have been written."""
    return RetryableError(
        f"{path} cannot be written ({err.strerror}); free space or fix permissions, then run this again"
    )


class _Tee:
    """Writes what is read; errors of writing are the disk's, those of reading the archive's."""

    def __init__(self, head: bytes, rest: Readable, out: FileIO) -> None:
        self._rest = rest
        self._out = out
        self._write(head)

    def read(self, size: int, /) -> bytes:
        chunk = self._rest.read(size)
        self._write(chunk)
        return chunk

    def _write(self, chunk: bytes) -> None:
        left = memoryview(chunk)
        try:
            while left:
                left = left[self._out.write(left) :]
        except OSError as err:
            raise unwritable(Path(str(self._out.name)), err) from err


def _copy(head: bytes, rest: Readable, out: FileIO) -> Digest:
    content = digest(head, _Tee(head, rest, out))
    try:  # network file systems say only on closing that the disk is full
        os.close(os.dup(out.fileno()))
    except OSError as err:
        raise unwritable(Path(str(out.name)), err) from err
    return content


def _is_there(file: FileIO) -> bool:
    try:
        return os.path.samestat(Path(str(file.name)).stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _move(path: Path, final: Path) -> None:
    try:
        final.parent.mkdir(exist_ok=True)
        path.replace(final)
    except OSError as err:
        raise unwritable(final, err) from err
