"""The embedded server on a port of this host, for programs that cannot open its socket: the reader alone, by password.

Without a port, everything is trusted that comes in by the socket: its folder belongs to the owner alone. A port is open
to all users of the host, so the superuser is refused there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from typing import TYPE_CHECKING

from db.schema.roles import READER

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from db.server.pgwheel import PostgresWheel

HOST = "127.0.0.1"
PASSWORD_BYTES = 24  # 192 bits of randomness

_OWNER = "local all all trust\n"
_READER = f"host facet {READER} 127.0.0.1/32 scram-sha-256\n"
_CLOSE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL"


def settings(wheel: PostgresWheel, data: Path, port: int | None) -> dict[str, str]:
    """Return the server's settings for the network.

    Args:
        wheel: its user has to read the rules.
        data: folder of the cluster.
        port: None for no network.

    Raises:
        OSError: the port is taken.
    """
    if port is None:
        return {"listen_addresses": ""}
    require_free(port)
    rules = data / "facet_hba.conf"
    rules.write_text(_OWNER + _READER, encoding="utf-8")
    rules.chmod(0o600)
    if wheel.user is not None:
        shutil.chown(rules, wheel.user)
    return {"listen_addresses": HOST, "hba_file": str(rules), "password_encryption": "scram-sha-256"}


def admit(connection: psycopg.Connection, data: Path) -> None:
    """Admit the reader to a running server that has a port, as at its start."""
    _reload(connection, data, _OWNER + _READER)


def close(connection: psycopg.Connection, data: Path) -> None:
    """Refuse everyone who comes by the port of a running server, and end the sessions that did."""
    _reload(connection, data, _OWNER)
    connection.execute(_CLOSE)


def _reload(connection: psycopg.Connection, data: Path, rules: str) -> None:
    (data / "facet_hba.conf").write_text(rules, encoding="utf-8")
    connection.execute("SELECT pg_reload_conf()")


def require_free(port: int) -> None:
    """Refuse a port that another program has.

    Raises:
        OSError: it is taken, or this user may not take it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as err:
            raise OSError(f"port {port} cannot be taken ({err.strerror}); choose another") from err


def password(folder: Path) -> str:
    """Return the reader's password, made once, so that programs can keep it.

    Args:
        folder: where the embedded server lies.
    """
    file = folder / "reader-password"
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        made = secrets.token_urlsafe(PASSWORD_BYTES)
        with open(file, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as stream:
            stream.write(made)
        return made
