"""A folder of files named by their content: where members of archives wait to be decoded."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO, Protocol

    class Readable(Protocol):
        """Anything that bytes are read from."""

        def read(self, size: int, /) -> bytes:
            """Return at most ``size`` bytes, none at the end."""


CHUNK_BYTES = 1 << 20


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
    while chunk := rest.read(CHUNK_BYTES):
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
            RetryableError: the folder cannot be written, for want of room or rights.
        """
        path = self._temporary()
        try:
            with path.open("wb") as out:
                content = digest(head, _Tee(head, rest, out))
            final = self._folder / content.sha256[:2] / f"{content.sha256}.{extension}"
            _move(path, final)
        finally:
            path.unlink(missing_ok=True)
        return final, content

    @contextmanager
    def lent(self, head: bytes, rest: Readable) -> Iterator[Path]:
        """Copy a stream to a file that is there as long as the context.

        Raises:
            RetryableError: the folder cannot be written.
        """
        path = self._temporary()
        try:
            with path.open("wb") as out:
                digest(head, _Tee(head, rest, out))
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _temporary(self) -> Path:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".partial-", dir=self._folder)
        except OSError as err:
            raise _unwritable(self._folder, err) from err
        os.close(descriptor)
        return Path(name)


class _Tee:
    """Writes what is read; errors of writing are the disk's, those of reading the archive's."""

    def __init__(self, head: bytes, rest: Readable, out: BinaryIO) -> None:
        self._rest = rest
        self._out = out
        self._write(head)

    def read(self, size: int, /) -> bytes:
        chunk = self._rest.read(size)
        self._write(chunk)
        return chunk

    def _write(self, chunk: bytes) -> None:
        try:
            self._out.write(chunk)
            self._out.flush()
        except OSError as err:
            raise _unwritable(Path(self._out.name), err) from err


def _move(path: Path, final: Path) -> None:
    try:
        final.parent.mkdir(exist_ok=True)
        path.replace(final)
    except OSError as err:
        raise _unwritable(final, err) from err


def _unwritable(path: Path, err: OSError) -> RetryableError:
    return RetryableError(f"{path} cannot be written ({err.strerror}); make room or give rights, then run this again")
