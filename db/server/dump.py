"""Dumps the schema of Facet with the wheel's ``pg_dump``, and restores it with its ``pg_restore``.

Owners and privileges stay out: ``db.schema.migrate.upgrade`` gives them again, for the roles of the new server.
Passwords go by the environment, because process lists show arguments.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.base import SCHEMA
from db.engine import make_engine, parse_url
from db.errors import DatabaseUnsuitable
from db.server.pgwheel import find_programs, telling_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

# A database without rows in these holds nothing that a restore would lose.
_IS_EMPTY = f"""
SELECT NOT EXISTS (SELECT FROM {SCHEMA}.media_file) AND NOT EXISTS (SELECT FROM {SCHEMA}.job)
    AND NOT EXISTS (SELECT FROM {SCHEMA}.release)
"""  # noqa: S608 - a constant name


def export_snapshot(connection: Connection) -> str:
    """Return the name of the snapshot of a REPEATABLE READ transaction; it lasts as long as the transaction."""
    return str(connection.execute(text("SELECT pg_export_snapshot()")).scalar_one())


def dump(url: str, file: Path, snapshot: str) -> None:
    """Write the schema with all rows, in the compressed format of ``pg_restore``.

    Args:
        url: address of the database, of a user who may read all tables.
        file: is written.
        snapshot: name of the snapshot whose rows are written.

    Raises:
        DatabaseUnsuitable: ``pg_dump`` failed.
    """
    wanted = (f"--schema={SCHEMA}", f"--snapshot={snapshot}", "--format=custom", f"--file={file}")
    _run("pg_dump", url, *wanted, "--no-owner", "--no-privileges")


def restore(url: str, file: Path) -> None:
    """Restore a dump in one transaction, into a database that holds nothing of Facet.

    Args:
        url: address of the database, of a user who may create a schema.
        file: of ``dump``.

    Raises:
        DatabaseUnsuitable: the database holds rows of Facet, lacks pgvector, or ``pg_restore`` failed.
    """
    require_empty(url)
    _prepare(url)
    options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
    _run("pg_restore", url, *options, str(file))


def require_empty(url: str) -> None:
    """Refuse a database that holds rows of Facet; empty tables are none.

    Args:
        url: address of the database.

    Raises:
        DatabaseUnsuitable: there are rows.
    """
    with _transaction(url) as connection:
        has_tables = connection.execute(text(f"SELECT to_regclass('{SCHEMA}.media_file') IS NOT NULL")).scalar_one()
        if has_tables and not connection.execute(text(_IS_EMPTY)).scalar_one():
            raise DatabaseUnsuitable(
                "the database holds media, jobs or releases; expected an empty one: name another database, or set "
                "FACET_HOME to a new folder"
            )


def _prepare(url: str) -> None:
    """Remove empty tables of Facet, and create the extension."""
    with _transaction(url) as connection:
        connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public"))


@contextmanager
def _transaction(url: str) -> Iterator[Connection]:
    engine = make_engine(url, pool_size=1)
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as err:
        raise DatabaseUnsuitable(
            f"{str(err.orig).splitlines()[0]}; expected a server with pgvector, and a user who may create a schema"
        ) from err
    finally:
        engine.dispose()


def _run(program: str, url: str, *arguments: str) -> None:
    parsed = parse_url(url)
    address = parsed.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    done = subprocess.run(
        [str(find_programs() / program), f"--dbname={address}", *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | {"LC_ALL": "C"} | ({"PGPASSWORD": str(parsed.password)} if parsed.password else {}),
    )
    if done.returncode:
        raise DatabaseUnsuitable(
            f"{telling_line(done.stderr)}; expected a server that {program} of PostgreSQL 18 works with: use the "
            "server's own programs (docs/backup.md)"
        )
