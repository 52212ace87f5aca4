"""Migrates a database to this program's tables, and reports its revision.

Only one program migrates at a time (an advisory lock), each step waits a limited time for another program's lock, and
each step is one transaction. There is no settings file: all settings are here.

Every command compares revisions, and few migrate: so the revisions of this program are read from the names of its
files, and Alembic is imported where tables change.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from db.base import SCHEMA
from db.engine import make_engine, mask_url
from db.errors import DatabaseUnreachable, DatabaseUnsuitable, SchemaError, SchemaMissing, SchemaNewer, SchemaOutdated
from db.schema.roles import (
    LIMITS,
    READER,
    create_roles,
    grant_roles,
    limit_reader,
    read_missing,
    read_unlimited,
    set_reader_path,
    set_search_path,
)
from db.schema.totals import count_people_if_free
from db.schema.views import VIEWS, create_views, views_are_current

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config
    from sqlalchemy import Connection

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"

VERSION_TABLE = f"{SCHEMA}.alembic_version"
LOCK_KEY = 0x6661636574  # "facet"; any number that no other program on the database uses
LOCK_TIMEOUT = "10s"  # longest wait of a statement for a lock; after it the step is undone and can be repeated
STATEMENT_TIMEOUT = (
    "30min"  # longest single statement outside of migrations, which may rewrite or index any number of rows
)

_PGVECTOR = "the extension pgvector on the server: install it, then run 'facet db upgrade' again"
_EXPECTED = {  # by PostgreSQL's error code
    "55P03": "the database to be quiet: stop the workers, then run 'facet db upgrade' again",
    "57014": "every statement to end in time: stop the workers, then run 'facet db upgrade' again",
    "2BP01": "no other views on Facet's views while these change their columns: drop yours, and make them again after",
    "42501": "a user who may create a schema and the extension vector: ask the database's administrator",
    "58P01": _PGVECTOR,
    "0A000": _PGVECTOR,
}

SchemaPosition = Literal["missing", "old", "current", "newer"]


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revisions of a database and of this program."""

    position: SchemaPosition
    found: str | None
    """Revision of the database; None where there are no tables."""
    expected: str
    """Revision of this program."""

    @property
    def is_current(self) -> bool:
        """Whether this program may use the database."""
        return self.position == "current"


def upgrade(url: str) -> SchemaState:
    """Create or update tables, views and roles; harmless where all is current.

    Args:
        url: address of a database whose user may create a schema.

    Raises:
        DatabaseUnreachable: no connection.
        DatabaseUnsuitable: pgvector or a privilege is missing, or another program holds a lock.
        SchemaNewer: a newer program created the tables.
    """
    with _connection(url) as connection, _alone(connection):
        state = _state(connection)
        if state.position == "newer":
            raise _error(state)
        if not state.is_current:
            _apply(connection)
        _give_access(connection)
        return _state(connection)


def current_state(url: str) -> SchemaState:
    """Return whether a database has the tables of this program.

    Args:
        url: address of the database.

    Raises:
        DatabaseUnreachable: no connection.
    """
    with _connection(url) as connection:
        return _state(connection)


def missing_access(url: str) -> list[str]:
    """Return the missing roles, privileges and search path, each as a phrase; ``upgrade`` creates them.

    Args:
        url: address of a database whose tables are current.

    Raises:
        DatabaseUnreachable: no connection.
    """
    with _connection(url) as connection:
        return read_missing(connection, VIEWS)


def missing_limits(url: str) -> list[str]:
    """Return the limits of the reader that are missing, as statements for an administrator.

    Args:
        url: address of a database whose tables are current.

    Raises:
        DatabaseUnreachable: no connection.
    """
    with _connection(url) as connection:
        return [f"ALTER ROLE {READER} SET {name} = '{LIMITS[name]}'" for name in read_unlimited(connection)]


def require_current(url: str) -> None:
    """Refuse tables of another program.

    Args:
        url: address of the database.

    Raises:
        DatabaseUnreachable: no connection.
        SchemaMissing: there are no tables.
        SchemaOutdated: an older program created them.
        SchemaNewer: a newer program created them.
    """
    state = current_state(url)
    if not state.is_current:
        raise _error(state)


def knows_revision(revision: str) -> bool:
    """Return whether this program can upgrade tables of a revision, or has the same."""
    return revision in revisions()


@cache
def revisions() -> tuple[str, ...]:
    """Return the revisions of this program in order; the file of a migration begins with its revision."""
    return tuple(sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py")))


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's settings for a connection.

    Args:
        connection: an open connection to the database to migrate.
    """
    from alembic.config import Config  # noqa: PLC0415 - see the module

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _apply(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - see the module

    try:
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public"))
        connection.commit()
        with _without_statement_timeout(connection):
            command.upgrade(alembic_config(connection), "head")
            connection.commit()
        create_roles(connection)
        create_views(connection)
        connection.commit()
        count_people_if_free(connection)
        connection.commit()
    except DBAPIError as err:
        connection.rollback()
        expected = _EXPECTED.get(getattr(err.orig, "sqlstate", None) or "")
        if expected is None:
            raise
        raise DatabaseUnsuitable(f"{str(err.orig).splitlines()[0]}; expected {expected}") from err


@contextmanager
def _without_statement_timeout(connection: Connection) -> Iterator[None]:
    """Lift the time limit of statements: an index of a billion rows takes hours. Waiting for locks stays limited."""
    setting = text("SELECT set_config('statement_timeout', :value, false)")
    connection.execute(setting, {"value": "0"})
    connection.commit()
    yield
    connection.execute(setting, {"value": STATEMENT_TIMEOUT})
    connection.commit()


def _give_access(connection: Connection) -> None:
    """Create missing roles, privileges and settings, also where all tables are current, as in a restored database."""
    if read_missing(connection, VIEWS):
        create_roles(connection)
        grant_roles(connection, VIEWS)
        set_search_path(connection)
    limit_reader(connection)
    set_reader_path(connection)
    connection.commit()


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    # Alembic takes the first schema of the path for the default one, and would not find our tables in it.
    engine = make_engine(url, pool_size=1, search_path="public")
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as err:
        found = str(err.orig).splitlines()[0]
        raise DatabaseUnreachable(f"{found}; expected a PostgreSQL at {mask_url(url)}: is it running?") from err
    finally:
        engine.dispose()


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Hold the advisory lock of migrations, with time limits for all statements under it."""
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
    connection.execute(
        text("SELECT set_config('lock_timeout', :lock, false), set_config('statement_timeout', :statement, false)"),
        {"lock": LOCK_TIMEOUT, "statement": STATEMENT_TIMEOUT},
    )
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK_KEY})
        connection.commit()


def _state(connection: Connection) -> SchemaState:
    expected = revisions()[-1]
    found = _revision_of(connection)
    position = _position(found)
    if position == "current" and not views_are_current(connection):
        position = "old"
    connection.rollback()
    return SchemaState(position, found, expected)


def _revision_of(connection: Connection) -> str | None:
    """Return the revision of the tables; None where there are none."""
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": VERSION_TABLE}) is None:
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a constant
    return found


def _position(found: str | None) -> SchemaPosition:
    if found is None:
        return "missing"
    if found == revisions()[-1]:
        return "current"
    return "old" if found in revisions() else "newer"  # newer: a revision that this program does not know


def _error(state: SchemaState) -> SchemaError:
    if state.position == "missing":
        return SchemaMissing("the database has no Facet tables; run 'facet db upgrade'")
    if state.position == "newer":
        return SchemaNewer(
            f"the tables are at revision {state.found}, this program expects {state.expected}: install a newer Facet"
        )
    if state.found == state.expected:
        return SchemaOutdated("the views are of another version of Facet; run 'facet db upgrade'")
    return SchemaOutdated(
        f"the tables are at revision {state.found}, this program expects {state.expected}: run 'facet db upgrade'"
    )
