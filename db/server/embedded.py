"""The embedded PostgreSQL, from a wheel: started with the first program that needs it, stopped with the last.

Every program that uses the server holds a shared lock on a file beside its data. The one that leaves last can take the
lock for itself alone, and stops the server, unless a keeper (db/server/keeper.py) is to keep it for the next command.
The kernel drops the locks of a program that dies, so no crash stops the server under another program; if the last one
is killed, the server runs on until its keeper ends it, or the next program leaves. The server runs in a session of its
own, so Ctrl-C does not reach it.
"""

from __future__ import annotations

import atexit
import logging
import os
import shlex
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg import sql
from sqlalchemy import URL

from db.engine import DRIVER
from db.errors import DatabaseInUse, DatabaseUnreachable
from db.schema.roles import READER
from db.server import network
from db.server.keeper import start_keeper
from db.server.locks import ServerLocks
from db.server.pgwheel import PostgresWheel
from db.server.postmaster import PORT, Postmaster

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger(__name__)

DATABASE = "facet"
SUPERUSER = "postgres"
START_SECONDS = 120  # longest start: replaying the log of a server that was killed while it copied faces
SOCKET_PATH_BYTES = 100  # longest path of a socket; systems allow 104 (macOS) or 108 (Linux), with a closing zero

SETTINGS = {
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
        keep_seconds: how long the server runs on after the last program left.
        port: port of this host for the reader, with a password; None for the socket alone, whose folder belongs to the
            owner.
    """

    def __init__(self, folder: Path, *, keep_seconds: float = 0, port: int | None = None) -> None:
        self._folder = folder.expanduser().resolve()
        self._data = self._folder / "data"
        self._locks = ServerLocks(self._folder)
        self._keep_seconds = keep_seconds
        self._wanted_port = port
        self._socket, self._port = self._place()
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
    def network_url(self) -> str:
        """Address of the database on the port of this host, as the user who may only read the views."""
        url = URL.create(DRIVER, READER, network.password(self._folder), network.HOST, self._wanted_port, DATABASE)
        return url.render_as_string(hide_password=False)

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
            with self._locks.alone(create=True):
                self._require_port()
                self._join()
                self._socket, self._port = self._place()
                if not self._answers():
                    self._start_server()
                elif self._wanted_port is not None:
                    with self._connect("postgres") as connection:
                        network.admit(connection, self._data)
                self._prepare_database()
                if self._keep_seconds:
                    start_keeper(self._folder, self._keep_seconds)
        except (OSError, psycopg.Error) as err:
            with suppress(OSError):
                self.leave()  # a server that began to start is not left behind
            raise DatabaseUnreachable(
                f"the embedded PostgreSQL in {self._folder} failed: {str(err).splitlines()[0]}; see {self.log_file}, "
                "or set FACET_DATABASE_URL to a server of your own"
            ) from err
        return self.url

    def leave(self) -> bool:
        """Leave the server, and stop it when neither another program nor a keeper needs it; harmless when repeated.

        Returns:
            True when the server was stopped.
        """
        if self._in_use is None or self._process != os.getpid():  # a forked child holds no lock of its own
            return False
        try:
            with self._locks.alone():
                self._part()
                # One that listens on a port is not kept for programs that need none.
                is_needed = self._locks.is_used() or (self._locks.is_kept() and not self._listens())
                if is_needed and self._wanted_port is not None:
                    self._close_port()
                return not is_needed and self.stop()
        except FileNotFoundError:  # its folder was deleted under it
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
        self._wheel().stop(self._data)
        if self._socket != self._data:
            with suppress(OSError):
                self._socket.rmdir()
        logger.info("PostgreSQL stopped", extra={"action": "embedded_stop", "folder": str(self._folder)})
        return True

    def stop_unused(self) -> bool:
        """Stop the server unless programs use it; none can start to use it meanwhile.

        Returns:
            False when it was not running.

        Raises:
            DatabaseInUse: programs use it.
        """
        with suppress(FileNotFoundError), self._locks.alone():
            if self._locks.is_used() or (self._answers() and self._has_connections()):
                raise DatabaseInUse("programs use the embedded database; end them first, or stop it by force")
            return self.stop()
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def _url(self, user: str) -> str:
        place = {"host": str(self._socket), "port": str(self._port)}
        if self._socket != self._data:
            # In a common folder another user may take the name while the server is stopped.
            place |= _only_owner(self._data)
        url = URL.create(DRIVER, username=user, database=DATABASE, query=place)
        return url.render_as_string(hide_password=False)

    def _place(self) -> tuple[Path, int]:
        """Return folder and port of the server's socket: those of the running one, else those of the next one."""
        running = Postmaster.read(self._data)
        if running is not None and (running.socket == self._data or _is_ours(running.socket, self._data)):
            return running.socket, running.port
        socket = None if _can_hold_socket(self._data) else self._remembered_socket()
        return socket or self._data, self._wanted_port or PORT

    def _require_port(self) -> None:
        """Stop a server that runs without the wanted port, for it to be started with it.

        Raises:
            OSError: other programs use it.
        """
        running = Postmaster.read(self._data)
        if self._wanted_port is None or not self._answers():
            return
        if running is not None and running.address and running.port == self._wanted_port:
            return
        if self._in_use is not None or self._locks.is_used() or self._has_connections():
            raise OSError(
                f"it is in use without port {self._wanted_port}; end the programs that use it, then try again"
            )
        self.stop()

    def _listens(self) -> bool:
        """Whether the server that runs was started with a port."""
        running = Postmaster.read(self._data)
        return running is not None and bool(running.address)

    def _close_port(self) -> None:
        """Admit no one by the port any more: other programs use the server by its socket."""
        with suppress(psycopg.OperationalError), self._connect("postgres") as connection:
            network.close(connection, self._data)

    def _has_connections(self) -> bool:
        with self._connect("postgres") as connection:
            # Keepers and programs that look whether it answers are in the database postgres, for a moment.
            others = "SELECT FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname <> 'postgres'"
            return connection.execute(others).fetchone() is not None

    def _join(self) -> None:
        if self._in_use is None or self._process != os.getpid():
            self._in_use = self._locks.use()
            self._process = os.getpid()
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
        self._socket, self._port = self._new_socket(), self._wanted_port or PORT
        wheel.make_folder(self._socket)
        settings = SETTINGS | network.settings(wheel, self._data, self._wanted_port)
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        wheel.start(self._data, self.log_file, f"-k {shlex.quote(str(self._socket))} -p {self._port} {options}")
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {START_SECONDS} seconds")
            time.sleep(0.1)
        logger.info("PostgreSQL started", extra={"action": "embedded_start", "folder": str(self._folder)})

    def _new_socket(self) -> Path:
        """Return the folder for the socket: elsewhere than the data, the one of the last start, if it is still ours."""
        if _can_hold_socket(self._data):
            return self._data
        remembered = self._remembered_socket()
        if remembered is not None:
            with suppress(OSError):
                remembered.mkdir(mode=0o700)
                return remembered
            if _is_ours(remembered, self._data):
                return remembered
        # In a folder that all users share: under a name that no other user can take first.
        made = Path(tempfile.mkdtemp(prefix="facet-"))
        self._socket_file.write_text(str(made), encoding="utf-8")
        return made

    @property
    def _socket_file(self) -> Path:
        """Where the folder of the socket is noted, so that programs find the server at one address after a restart."""
        return self._folder / "socket-folder"

    def _remembered_socket(self) -> Path | None:
        try:
            return Path(self._socket_file.read_text(encoding="utf-8"))
        except OSError:
            return None

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self._socket), port=self._port, user=SUPERUSER, dbname=database, autocommit=True
        )

    def _answers(self) -> bool:
        """Whether the server accepts connections; the socket of another user is not asked."""
        if not (_can_hold_socket(self._data) if self._socket == self._data else _is_ours(self._socket, self._data)):
            return False
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
            if self._wanted_port is not None:
                connection.execute(
                    sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(
                        sql.Identifier(READER), network.password(self._folder)
                    )
                )


def _can_hold_socket(folder: Path) -> bool:
    """Return whether systems and PostgreSQL allow the path of a socket in a folder: a comma is between two folders."""
    path = os.fsencode(folder / ".s.PGSQL.5432")
    return len(path) <= SOCKET_PATH_BYTES and b"," not in path and str(folder).isprintable()


def _only_owner(data: Path) -> dict[str, str]:
    """Return the parameter by which libpq refuses a server that another user than the owner of the data runs."""
    try:
        return {"requirepeer": data.owner()}
    except (OSError, KeyError):  # no data yet, or an owner without a name
        return {}


def _is_ours(folder: Path, data: Path) -> bool:
    """Return whether the owner of the data also owns a folder, and is the only user who may write there."""
    try:
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == data.stat().st_uid and not found.st_mode & 0o022
    except OSError:
        return False
