"""The embedded PostgreSQL, from a wheel: started with the first program that needs it, stopped with the last.

Every program that uses the server holds a shared lock on a file beside its data. The one that leaves last can take the
lock for itself alone, and stops the server. The kernel drops the locks of a program that dies, so nobody's crash stops
the server under another; if the last one is killed, the server runs on until the next one leaves. The server runs in a
session of its own, so Ctrl-C does not reach it.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import shlex
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
from sqlalchemy import URL

from db.engine import DRIVER
from db.errors import DatabaseUnreachable
from db.schema.roles import READER
from db.server.pgwheel import PostgresWheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

logger = logging.getLogger(__name__)

DATABASE = "facet"
SUPERUSER = "postgres"
START_SECONDS = 120  # longest start: replaying the log of a server that was killed while it copied faces
SOCKET_PATH_BYTES = 100  # longest path of a socket; systems allow 104 (macOS) or 108 (Linux), with a closing zero

SOCKET_LINE = 4  # of the file postmaster.pid, counted from 0

SETTINGS = {
    "listen_addresses": "''",  # the socket is the only way in, and its folder belongs to the owner alone
    "unix_socket_permissions": "0700",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "max_wal_size": "2GB",  # bulk copies would otherwise force a checkpoint every 1 GB
    "jit": "off",  # compiling costs more than it saves on queries of this size
}

# The builtin locale covers Unicode's letters and is the same on every machine; a collation of the system is neither.
_CREATE_DATABASE = (
    f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' "
    "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"
)


class EmbeddedPostgres:
    """The server whose data lie in a folder; several programs may each have one for the same folder.

    Use it as a context manager, or call ``start`` and ``leave``; a program that ends leaves automatically.

    Args:
        folder: where the server keeps its data; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().resolve()
        self._data = self._folder / "data"
        self._socket = self._data if _is_short(self._data) else self._running_socket() or self._data
        self._in_use: int | None = None
        self._process = 0

    @property
    def url(self) -> str:
        """Address of the database, as the user who owns everything."""
        return self._url(SUPERUSER)

    @property
    def reader_url(self) -> str:
        """Address of the database, as the user who may only read the views."""
        return self._url(READER)

    @property
    def log_file(self) -> Path:
        """The log of the server."""
        return self._folder / "postgres.log"

    def start(self) -> str:
        """Start the server unless it runs, create the database unless it exists, and return its address.

        Raises:
            DatabaseUnreachable: the server does not start; the message ends with its log's last line.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._join()
                if not _is_short(self._data):
                    self._socket = self._running_socket() or self._data
                if not self._answers():
                    self._start_server()
                self._prepare_database()
        except (OSError, psycopg.Error) as err:
            self._part()
            raise DatabaseUnreachable(
                f"the embedded PostgreSQL in {self._folder} failed: {str(err).splitlines()[0]}; see {self.log_file}, "
                "or set FACET_DATABASE_URL to a server of your own"
            ) from err
        return self.url

    def leave(self) -> bool:
        """Leave the server, and stop it when no other program uses it; harmless when repeated.

        Returns:
            True when the server was stopped.
        """
        if self._in_use is None or self._process != os.getpid():  # a forked child holds no lock of its own
            return False
        try:
            with self._alone():
                fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self.stop()
        except (BlockingIOError, FileNotFoundError):  # others use it; or its folder was deleted under it
            return False
        finally:
            self._part()

    def stop(self) -> bool:
        """Stop the server, even while other programs use it; open transactions are undone.

        Returns:
            False when it was not running.
        """
        if not self._answers():
            return False
        self._wheel().pg_ctl(self._data, "stop", "-m", "fast")
        if self._socket != self._data:
            with suppress(OSError):
                self._socket.rmdir()
        logger.info("PostgreSQL stopped", extra={"action": "embedded_stop", "folder": str(self._folder)})
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def _url(self, user: str) -> str:
        url = URL.create(DRIVER, username=user, database=DATABASE, query={"host": str(self._socket)})
        return url.render_as_string(hide_password=False)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock under which programs start and stop the server."""
        with (self._folder / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _join(self) -> None:
        if self._in_use is None or self._process != os.getpid():
            self._in_use = os.open(self._folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._process = os.getpid()
            fcntl.flock(self._in_use, fcntl.LOCK_SH)
            atexit.register(self.leave)

    def _part(self) -> None:
        if self._in_use is not None:
            os.close(self._in_use)
            self._in_use = None
            atexit.unregister(self.leave)

    def _wheel(self) -> PostgresWheel:
        return PostgresWheel.find(START_SECONDS)

    def _start_server(self) -> None:
        wheel = self._wheel()
        wheel.init(self._data, superuser=SUPERUSER)
        if not _is_short(self._socket):
            # In a folder that all users share: under a name that no other user can take first.
            self._socket = Path(tempfile.mkdtemp(prefix="facet-"))
        wheel.make_folder(self._socket)
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        wheel.start(self._data, self.log_file, f"-k {shlex.quote(str(self._socket))} {options}")
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {START_SECONDS} seconds")
            time.sleep(0.1)
        logger.info("PostgreSQL started", extra={"action": "embedded_start", "folder": str(self._folder)})

    def _running_socket(self) -> Path | None:
        """Return the folder of the running server's socket, which the server wrote beside its data, if we own it."""
        try:
            folder = Path((self._data / "postmaster.pid").read_text().splitlines()[SOCKET_LINE])
        except (OSError, IndexError):
            return None
        return folder if _is_ours(folder, self._data) else None

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(host=str(self._socket), user=SUPERUSER, dbname=database, autocommit=True)

    def _answers(self) -> bool:
        """Whether the server accepts connections."""
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _prepare_database(self) -> None:
        with self._connect("postgres") as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                connection.execute(_CREATE_DATABASE)
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (READER,)).fetchone():
                connection.execute(f"CREATE ROLE {READER} LOGIN")


def _is_short(folder: Path) -> bool:
    """Return whether a socket in a folder has a path that systems allow."""
    return len(os.fsencode(folder / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES


def _is_ours(folder: Path, data: Path) -> bool:
    """Return whether the owner of the data also owns a folder, and is the only user who may write there."""
    try:
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == data.stat().st_uid and not found.st_mode & 0o022
    except OSError:
        return False
