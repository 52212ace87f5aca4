"""Engines and sessions: one place for the driver, the search path and the time zone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker

from db.base import SCHEMA
from db.errors import DatabaseUnreachable

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import URL, Engine

DRIVER = "postgresql+psycopg"
CONNECT_TIMEOUT_SECONDS = 10
SEARCH_PATH = f"{SCHEMA},public"

_SECRET_PARAMETERS = ("password", "sslpassword")


def parse_url(url: str) -> URL:
    """Return the address of a PostgreSQL database, with the driver set.

    Args:
        url: ``postgresql://user:password@host/database`` or the same with a driver.

    Raises:
        DatabaseUnreachable: the text is no address of a PostgreSQL database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as err:
        raise DatabaseUnreachable(
            "the database address cannot be read; expected postgresql://user:password@host:5432/database"
        ) from err
    if parsed.drivername.split("+")[0] not in ("postgresql", "postgres"):
        raise DatabaseUnreachable(
            f"the database address begins with '{parsed.drivername}:'; expected postgresql: (Facet needs PostgreSQL)"
        )
    return parsed.set(drivername=DRIVER)


def mask_url(url: str | URL) -> str:
    """Return an address without its secrets, fit for a message or a log."""
    parsed = parse_url(url) if isinstance(url, str) else url
    hidden = dict.fromkeys((name for name in _SECRET_PARAMETERS if name in parsed.query), "***")
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def make_engine(url: str, *, pool_size: int = 5, search_path: str = SEARCH_PATH) -> Engine:
    """Return an engine whose connections search the schema ``facet`` first and use UTC.

    Args:
        url: address of the database.
        pool_size: connections that are kept open.
        search_path: schemas in which bare names are looked up.

    Raises:
        DatabaseUnreachable: the address cannot be read. (Connecting happens later, at first use.)
    """
    engine = create_engine(
        parse_url(url),
        pool_size=pool_size,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "application_name": "facet"},
    )

    # As statements: a pooler such as PgBouncer refuses them among the parameters of a connection.
    @event.listens_for(engine, "connect", insert=True)
    def set_up(connection: psycopg.Connection, _record: object) -> None:
        connection.autocommit = True
        connection.execute(
            "SELECT set_config('search_path', %s, false), set_config('timezone', 'UTC', false)", (search_path,)
        )
        connection.autocommit = False

    return engine


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """Return a session factory; rows stay readable after a commit."""
    return sessionmaker(engine, expire_on_commit=False)
