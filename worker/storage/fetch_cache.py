"""Copies of fetched files, named by content in the staging folder, within a budget of bytes.

Processes of one home share the folder. A copy is locked (``flock``) while it is read, so that no process removes it;
the lock ends with its process. A partial copy of a killed process is removed by the next process that needs room.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from worker.errors import MediaChanged, MediaRejected, RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

COPY_SUFFIX = ".remote"
FETCHING_PREFIX = ".fetching-"
ROOM_POLL_SECONDS = 0.2
MAX_WAIT_SECONDS = 600.0  # for room that other readers occupy


@dataclass(frozen=True, slots=True)
class Transfer:
    """A remote file on its way to this host."""

    byte_size: int
    """As the store states it."""
    chunks: Iterable[bytes]


@dataclass(frozen=True, slots=True)
class CachedCopy:
    """A local copy of a remote file."""

    path: Path
    sha256: str


class FetchCache:
    """Copies of remote files in the staging folder.

    Args:
        folder: the staging folder.
        budget_bytes: that copies may take, those being fetched included.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self._folder = folder
        self._budget = budget_bytes

    @contextmanager
    def open_copy(self, fetch: Callable[[], Transfer], sha256: str | None = None) -> Iterator[CachedCopy]:
        """Yield a copy, locked as long as the context; fetch it if there is none.

        Args:
            fetch: starts the transfer.
            sha256: expected hash; None where it is not known yet.

        Raises:
            MediaRejected: ``too_large`` for the budget, ``changed`` since it was submitted, or raised by ``fetch``.
            RetryableError: the disk is full or not writable.
        """
        with self._striped(sha256):  # only one of several readers fetches a video
            held = self._hold(sha256) if sha256 else None
            if held is None:
                held, sha256 = self._fetch(fetch, sha256)
        with held:
            yield CachedCopy(Path(held.name), str(sha256))

    def names(self) -> list[str]:
        """Return the hashes of all copies."""
        return [path.name.removesuffix(COPY_SUFFIX) for path in self._folder.glob(f"*/*{COPY_SUFFIX}")]

    def remove(self, hashes: Collection[str]) -> None:
        """Remove copies that are not being read."""
        for sha256 in hashes:
            _remove_unread(self._path(sha256))

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / f"{sha256}{COPY_SUFFIX}"

    def _hold(self, sha256: str) -> IO[bytes] | None:
        """Open and lock a copy; None where there is none."""
        path = self._path(sha256)
        with suppress(FileNotFoundError):
            file = path.open("rb")
            fcntl.flock(file, fcntl.LOCK_SH)
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                os.utime(path)  # copies are removed in the order of these times
                return file
            file.close()
        return None

    def _fetch(self, fetch: Callable[[], Transfer], expected: str | None) -> tuple[IO[bytes], str]:
        transfer = fetch()
        try:
            partial = self._reserve(transfer.byte_size)
            try:
                found = _fill(partial, transfer.chunks, expected)
                final = self._path(found)
                final.parent.mkdir(exist_ok=True)
                Path(partial.name).replace(final)
            except BaseException:
                Path(partial.name).unlink(missing_ok=True)
                raise
            finally:
                partial.close()
        except OSError as err:
            message = f"{self._folder} cannot take a file of {transfer.byte_size} bytes ({err.strerror}); free space"
            raise RetryableError(message) from err
        held = self._hold(found)
        return (
            (held, found) if held else self._fetch(fetch, expected)
        )  # another process removed it meanwhile to make room

    def _reserve(self, byte_size: int) -> IO[bytes]:
        """Make room, then create a locked file of that size."""
        if byte_size > self._budget:
            message = f"{byte_size} bytes, at most {self._budget} are fetched (FACET_CACHE_BYTES)"
            raise MediaRejected("too_large", message)
        self._folder.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + MAX_WAIT_SECONDS
        while True:
            with self._locked("room"):
                if self._make_room(byte_size):
                    path = self._folder / f"{FETCHING_PREFIX}{os.getpid()}-{time.monotonic_ns()}"
                    return _claim(path, byte_size)
            if time.monotonic() > until:
                raise RetryableError(f"no room for {byte_size} bytes in {self._folder}; raise FACET_CACHE_BYTES")
            time.sleep(ROOM_POLL_SECONDS)

    def _make_room(self, byte_size: int) -> bool:
        """Remove copies that are not being read, the oldest first, until so many bytes fit."""
        for leftover in self._folder.glob(f"{FETCHING_PREFIX}*"):
            _remove_unread(leftover)
        copies = [*self._folder.glob(f"*/*{COPY_SUFFIX}"), *self._folder.glob(f"{FETCHING_PREFIX}*")]
        facts = []
        for path in copies:
            with suppress(FileNotFoundError):
                facts.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        used = sum(size for _, size, _ in facts)
        for _, size, path in sorted(facts):
            if used + byte_size <= self._budget:
                break
            if _remove_unread(path):
                used -= size
        return used + byte_size <= self._budget

    @contextmanager
    def _striped(self, sha256: str | None) -> Iterator[None]:
        if sha256 is None:
            yield
            return
        with self._locked(f"fetch-{sha256[:2]}"):
            yield

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / f".lock-{name}").open("ab")
        except OSError as err:
            raise RetryableError(f"{self._folder} cannot be written ({err.strerror}); fix permissions") from err
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _claim(path: Path, byte_size: int) -> IO[bytes]:
    """Create a locked file of that size; if the disk refuses, no file is left."""
    file = path.open("xb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(byte_size)
    except OSError:
        file.close()
        path.unlink(missing_ok=True)
        raise
    return file


def _fill(partial: IO[bytes], chunks: Iterable[bytes], expected: str | None) -> str:
    """Write all bytes and return their hash.

    Raises:
        MediaChanged: the hash is not the expected one.
    """
    total = hashlib.sha256()
    for chunk in chunks:
        total.update(chunk)
        partial.write(chunk)
    partial.flush()
    if expected not in {None, total.hexdigest()}:
        raise MediaChanged("the file holds other bytes than when it was submitted")
    return total.hexdigest()


def _remove_unread(path: Path) -> bool:
    """Remove a file unless it is locked; return whether it is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
