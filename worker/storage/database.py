"""The database of this deployment: the configured one, or the embedded one under the home folder."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from db.engine import make_engine, mask_url, parse_url, session_factory
from db.errors import DatabaseError, DatabaseUnreachable
from db.schema.migrate import missing_access, require_current, upgrade
from db.schema.roles import READER
from db.server.embedded import EmbeddedPostgres
from worker.errors import FacetError, RetryableError, UsageError
from worker.storage.home import full_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

    from worker.config import Settings

CONFLICTS = frozenset({"40P01", "40001"})  # deadlock_detected, serialization_failure


@dataclass(frozen=True, slots=True)
class Database:
    """An open database whose schema is current."""

    url: str
    engine: Engine
    sessions: sessionmaker[Session]


@contextmanager
def database_address(settings: Settings) -> Iterator[str]:
    """Yield the URL of the database; the embedded server runs at least as long as the context.

    Raises:
        FacetError: the embedded server does not start.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    with embedded_server(settings) as server:
        yield server.url


@contextmanager
def embedded_server(settings: Settings, *, port: int | None = None) -> Iterator[EmbeddedPostgres]:
    """Start the embedded server; it runs as long as the context, and for the next commands.

    Args:
        settings: home, and how long the server is kept.
        port: port of this host that it admits the reader on; None for its socket alone.

    Raises:
        FacetError: it does not start.
    """
    server = EmbeddedPostgres(settings.home / "postgres", keep_seconds=settings.database_keep_seconds, port=port)
    try:
        server.start()
    except DatabaseError as err:
        raise FacetError(full_disk(settings.home) or str(err)) from err
    except OSError as err:
        raise FacetError(
            full_disk(settings.home)
            or f"{settings.home} cannot be used: {err.strerror}; set FACET_HOME to a folder of yours"
        ) from err
    try:
        yield server
    finally:
        server.leave()


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Open the database; the embedded one is migrated to the current schema first.

    Raises:
        RetryableError: it cannot be reached.
        FacetError: its schema belongs to another version of the program.
    """
    with database_address(settings) as url:
        try:
            if settings.database_url is None:
                upgrade(url)
            else:
                require_current(url)
        except DatabaseUnreachable as err:
            raise RetryableError(str(err)) from err
        except DatabaseError as err:
            raise FacetError(str(err)) from err
        engine = make_engine(url)
        try:
            yield Database(url, engine, session_factory(engine))
        finally:
            engine.dispose()


def reader_address(settings: Settings, url: str) -> str:
    """Return the address of the database for the user who may only read the views.

    Args:
        settings: may have an address for readers.
        url: of the open database.

    Raises:
        UsageError: the database is a server of its own, and no address for readers is set.
    """
    if settings.reader_database_url is not None:
        return settings.reader_database_url
    if settings.database_url is not None:
        raise UsageError("FACET_READER_DATABASE_URL is not set; expected the address of a reader (docs/access.md)")
    return parse_url(url).set(username=READER).render_as_string(hide_password=False)


def require_access(url: str) -> None:
    """Check the roles, privileges and search path, which a database restored from a dump may lack.

    Raises:
        FacetError: something is missing.
        DatabaseUnreachable: there is no connection.
    """
    missing = missing_access(url)
    if missing:
        raise FacetError(
            f"missing in the database: {', '.join(missing)}; run `facet db upgrade` as a user who may create roles "
            "(docs/access.md)"
        )


def is_unreachable(error: BaseException | None) -> bool:
    """Return whether an error means that the database is unreachable, full or busy.

    Any other database error may be the fault of the data.
    """
    return isinstance(error, (OperationalError, InterfaceError)) and not is_conflict(error)


def is_conflict(error: BaseException | None) -> bool:
    """Return whether the database ended a transaction in favour of another one, so that a retry may succeed."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in CONFLICTS


def database_failure(err: DBAPIError) -> RetryableError:
    """Return the one-line error for a database that failed during work."""
    lines = str(err.orig).strip().splitlines() or ["no reason was given"]
    return RetryableError(f"the database failed: {lines[0]}; check it with `facet db check`, then run again")


def masked_url(url: str) -> str:
    """Return a URL without its password."""
    return mask_url(url)
