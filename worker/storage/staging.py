"""A folder of files named by their content, in which members of archives wait to be decoded.

A partial copy has a name of its own and is locked (``flock``) until it is whole. The lock ends with the process; the
partial copies of killed processes are removed by the next process that writes.
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
        """A source of bytes."""

        def read(self, size: int, /) -> bytes:
            """Return at most ``size`` bytes, none at the end."""


COPY_CHUNK_BYTES = 1 << 20
PARTIAL_PREFIX = ".partial-"


@dataclass(frozen=True, slots=True)
class Digest:
    """Hash and length of a file."""

    sha256: str
    byte_size: int


def digest(head: bytes, rest: Readable) -> Digest:
    """Hash a stream to its end.

    Args:
        head: bytes that were read from it before.
        rest: the bytes after them.
    """
    total, size = hashlib.sha256(head), len(head)
    while chunk := rest.read(COPY_CHUNK_BYTES):
        total.update(chunk)
        size += len(chunk)
    return Digest(total.hexdigest(), size)


class Staging:
    """Add files to the folder. Their names come from their content: no name in an archive names a file on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, head: bytes, rest: Readable, extension: str) -> tuple[Path, Digest]:
        """Copy a stream into the folder; a copy that exists already is replaced by the same bytes.

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
        """Copy a stream to a file that exists as long as the context.

        Raises:
            RetryableError: the folder cannot be written.
        """
        with self._partial() as out:
            _copy(head, rest, out)
            yield Path(str(out.name))

    @contextmanager
    def _partial(self) -> Iterator[FileIO]:
        """Open an empty, locked file, which is removed with the context.

        It has no buffer: closing the file would write the buffered bytes again, and that error would replace the first.
        """
        out = self._new()
        try:
            yield out
        finally:
            with suppress(OSError):  # it is unlocked by then, and the next writer removes it
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
                out.close()  # another process removed it as abandoned before it was locked
        except OSError as err:
            raise unwritable(self._folder, err) from err


def remove_partials(folder: Path) -> None:
    """Remove the partial copies of killed processes."""
    for path in folder.glob(f"{PARTIAL_PREFIX}*"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def unwritable(path: Path, err: OSError) -> RetryableError:
    """Return the error for a disk that cannot be written; the file that was copied is not at fault."""
    return RetryableError(
        f"{path} cannot be written ({err.strerror}); free space or fix permissions, then run this again"
    )


class _Tee:
    """Write the bytes that are read; a writing error concerns the disk, a reading error the archive."""

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
    try:  # network file systems report a full disk only on closing
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
