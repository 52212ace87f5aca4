"""Keeps the embedded server running between commands, and stops it once it was idle for long enough.

A program that uses the server starts the keeper, this module run by itself, and hands it the locked descriptor of
``keeper.lock``. It runs in a session of its own, so Ctrl-C does not reach it. A server is in use while ``users.lock``
is held, or it has connections, or had new ones since the last look: psql and notebooks hold no lock.

The keeper is two processes. Each notices the end of the other and starts a new one in its place, so that none can be
killed and leave a server behind. SIGTERM stops the server as soon as it is unused.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psutil
import psycopg

from db.server.locks import ServerLocks
from db.server.postmaster import Postmaster

if TYPE_CHECKING:
    from types import FrameType

POLL_SECONDS = 2.0
CONNECT_SECONDS = 10
STOP_SECONDS = 120.0  # longest stop: writing what the last checkpoint lacks; after it the server is stopped at once

# The session that asks is in the database postgres, so it does not count.
_SESSIONS = """
SELECT
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
    (SELECT coalesce(sum(sessions), 0)::bigint FROM pg_stat_database WHERE datname <> 'postgres')
"""


def start_keeper(folder: Path, idle_seconds: float) -> bool:
    """Start a keeper unless one is alive.

    Args:
        folder: where the embedded server lies.
        idle_seconds: how long the server runs on without use.

    Returns:
        True when one was started.
    """
    lock = ServerLocks(folder).keep()
    if lock is None:
        return False
    module = Keeper.__module__  # an installation has another prefix
    root = Path(__file__).resolve().parents[module.count(".")]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(folder), str(idle_seconds), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            start_new_session=True,
            cwd="/",
            env=os.environ | {"PYTHONPATH": path},
        )
    except OSError:  # no memory or no process left: the server then stops with its last program
        return False
    finally:
        os.close(lock)
    process.returncode = 0  # it outlives this program, which never waits for it
    return True


class Keeper:
    """The keeper of one server.

    Args:
        folder: where the embedded server lies.
        idle_seconds: how long the server runs on without use.
        lock: descriptor with the lock of the keeper.
    """

    def __init__(self, folder: Path, idle_seconds: float, lock: int) -> None:
        self._folder = folder
        self._identity = _identity(folder)
        self._locks = ServerLocks(folder)
        self._idle_seconds = idle_seconds
        self._lock = lock
        self._used_at = time.monotonic()
        self._sessions = -1
        self._server: psutil.Process | None = None
        self._socket = folder / "data"

    def run(self) -> NoReturn:
        """Keep the server, as one of two processes, until it was idle for long enough or is gone."""
        signal.signal(signal.SIGTERM, self._hurry)
        while True:
            first = os.getpid()
            partner = os.fork()
            if partner == 0:
                while os.getppid() == first:
                    time.sleep(POLL_SECONDS)
                self._used_at = time.monotonic()
                continue
            self._lead(partner)

    def _hurry(self, _signal: int, _frame: FrameType | None) -> None:
        self._idle_seconds = 0.0

    def _lead(self, partner: int) -> None:
        """Watch the server; return when the partner died."""
        while os.waitpid(partner, os.WNOHANG) == (0, 0):
            if self._is_erased():
                self._end(partner)
            if self._is_in_use():
                self._used_at = time.monotonic()
            elif time.monotonic() - self._used_at >= self._idle_seconds or self._listens() or not self._is_running():
                with suppress(FileNotFoundError), self._locks.alone():
                    if not self._is_in_use():
                        self._end(partner)
            time.sleep(POLL_SECONDS)

    def _is_erased(self) -> bool:
        try:
            return _identity(self._folder) != self._identity
        except OSError:  # unreadable for now
            return False

    def _listens(self) -> bool:
        """Whether the server has a port: then the program that opened it died, and no other program needs the port."""
        found = Postmaster.read(self._folder / "data")
        return found is not None and bool(found.address)

    def _is_in_use(self) -> bool:
        """Whether a program holds the lock of users, or a connection, or had one since the last look."""
        found = Postmaster.read(self._folder / "data")
        if found is not None and (self._server is None or self._server.pid != found.pid):
            with suppress(psutil.NoSuchProcess):
                self._server, self._socket = psutil.Process(found.pid), found.socket
        return self._locks.is_used() or (found is not None and self._has_sessions(found))

    def _has_sessions(self, server: Postmaster) -> bool:
        try:
            with psycopg.connect(
                host=str(server.socket),
                port=server.port,
                user="postgres",
                dbname="postgres",
                connect_timeout=CONNECT_SECONDS,
                autocommit=True,
            ) as connection:
                connected, sessions = connection.execute(_SESSIONS).fetchone() or (0, 0)
        except psycopg.OperationalError:
            return self._is_running()  # too many connections, or it recovers; a server that was killed is not in use
        is_new = sessions != self._sessions
        self._sessions = sessions
        return bool(connected) or is_new

    def _is_running(self) -> bool:
        return self._server is not None and self._server.is_running() and self._server.status() != "zombie"

    def _end(self, partner: int) -> NoReturn:
        """Stop the server, and both processes."""
        with suppress(psutil.NoSuchProcess):
            self._stop_server()
        os.kill(partner, signal.SIGKILL)
        os.waitpid(partner, 0)
        os.close(self._lock)
        sys.exit()

    def _stop_server(self) -> None:
        """Stop the server as ``pg_ctl stop -m fast`` does, and without a checkpoint where its data were erased."""
        if self._server is None or not self._is_running():
            return
        server = Postmaster.read(self._folder / "data")
        is_ours = server is not None and server.pid == self._server.pid
        self._server.send_signal(signal.SIGINT if is_ours else signal.SIGQUIT)
        deadline = time.monotonic() + STOP_SECONDS
        while self._is_running():
            if time.monotonic() > deadline:
                self._server.send_signal(signal.SIGQUIT)
                return
            time.sleep(0.05)
        if self._socket != self._folder / "data":
            with suppress(OSError):
                self._socket.rmdir()


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return device and number of a folder, None where there is none."""
    try:
        found = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def main() -> None:
    """Keep the server of the arguments: folder, seconds, descriptor of the lock."""
    folder, idle_seconds, lock = sys.argv[1:]
    Keeper(Path(folder), float(idle_seconds), int(lock)).run()


if __name__ == "__main__":
    main()
