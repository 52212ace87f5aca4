"""The locks beside the data of the embedded server. The kernel drops those of a process that dies.

``start.lock`` is held to start or stop the server, ``users.lock`` is shared by all programs that use it, and
``keeper.lock`` belongs to the keeper (db/server/keeper.py).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class ServerLocks:
    """The locks of one folder.

    Args:
        folder: where the embedded server lies; exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def alone(self, *, create: bool = False) -> Iterator[None]:
        """Hold the lock under which programs start and stop the server.

        Args:
            create: make the file where it is missing. Only a start does: a file made by one that leaves would be in the
                way of an erasure of the folder.

        Raises:
            FileNotFoundError: the folder was erased.
        """
        descriptor = self._open("start.lock", create=create)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def use(self) -> int:
        """Return a descriptor that marks this process as a user of the server until it is closed."""
        descriptor = self._open("users.lock", create=True)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return descriptor

    def is_used(self) -> bool:
        """Return whether any program uses the server; call it under ``alone``, or the answer is old at once."""
        return not self._is_free("users.lock")

    def is_kept(self) -> bool:
        """Return whether a keeper is alive."""
        return not self._is_free("keeper.lock")

    def keep(self) -> int | None:
        """Return a descriptor with the lock of the keeper, or None where a keeper is alive."""
        descriptor = self._open("keeper.lock", create=True)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _open(self, name: str, *, create: bool) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)

    def _is_free(self, name: str) -> bool:
        try:
            descriptor = self._open(name, create=False)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True
