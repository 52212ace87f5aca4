"""Releases that this host fetched from the release store, as folders that can be loaded.

Processes of one home share the folder. A release is locked (``flock``) while it is loaded, so that no process removes
it meanwhile; the lock ends with its process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from worker.errors import RetryableError, UsageError
from worker.storage.release_store import PARTIAL_SUFFIX, check_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.storage.release_store import ReleaseStore

MAX_CACHED = 4  # releases on this host's disk; a worker process has at most two loaded
LOCK_SUFFIX = ".lock"


@dataclass(frozen=True, slots=True)
class ReleaseCache:
    """The latest releases that were fetched."""

    folder: Path
    store: ReleaseStore

    @contextmanager
    def open(self, fingerprint: str) -> Iterator[Path]:
        """Yield the folder of a release, checked byte by byte; it is fetched if it is missing or damaged.

        Raises:
            FacetError: the store does not hold the release, or holds a damaged one.
            RetryableError: the store is unreachable, or the disk is full.
        """
        path = self.folder / fingerprint
        with self._locked(fingerprint, fcntl.LOCK_EX) as lock:  # only one of several processes fetches it
            if not _is_whole(path, fingerprint):
                shutil.rmtree(path, ignore_errors=True)
                self._remove_partial(fingerprint)
                self.store.download(fingerprint, path)
            os.utime(path)  # releases are removed in the order of these times
            fcntl.flock(lock, fcntl.LOCK_SH)
            self._evict(keep=fingerprint)
            yield path

    def remove(self, fingerprint: str) -> None:
        """Remove a release, unless it is being loaded."""
        with suppress(BlockingIOError), self._locked(fingerprint, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(self.folder / fingerprint, ignore_errors=True)
            self._remove_partial(fingerprint)

    def _evict(self, *, keep: str) -> None:
        """Remove the releases that were not used for longest, until MAX_CACHED are left."""
        times = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                if path.is_dir() and not path.name.startswith("."):
                    times.append((path.stat().st_mtime_ns, path.name))
        for _, name in sorted(times)[: max(0, len(times) - MAX_CACHED)]:
            if name != keep:
                self.remove(name)

    def _remove_partial(self, fingerprint: str) -> None:
        """Remove what killed processes left of a release; the caller holds its lock."""
        for path in self.folder.glob(f".{fingerprint}-*{PARTIAL_SUFFIX}"):
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _locked(self, fingerprint: str, mode: int) -> Iterator[IO[bytes]]:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.folder / f".{fingerprint}{LOCK_SUFFIX}").open("ab")
        except OSError as err:
            raise RetryableError(f"{self.folder} cannot be written ({err.strerror}); fix permissions") from err
        with lock:
            fcntl.flock(lock, mode)
            yield lock


def _is_whole(path: Path, fingerprint: str) -> bool:
    try:
        return check_folder(path).fingerprint == fingerprint
    except UsageError:
        return False
