"""The archive that the pages show: the database as reader and as worker, the crop store and the settings."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.engine import make_engine
from db.reader.run_query import RESOURCES
from db.schema.roles import READER
from worker.storage.crops import CropStore
from worker.storage.database import open_database
from worker.storage.home import make_home
from worker.storage.transactions import Result, run_transaction
from worker.web.background import Background, Memo, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session

    from worker.config import Settings
    from worker.storage.database import Database

PAGE_SECONDS = 10.0  # longest statement of a page
POOL_SIZE = 10  # connections of readers that are kept open

_LIMITS = {
    **RESOURCES,
    "transaction_read_only": "on",
    "role": READER,
}
_BECOME_READER = text(
    "SELECT set_config('statement_timeout', :timeout, true), "
    + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in _LIMITS.items())
)


@dataclass(frozen=True, slots=True)
class Desk:
    """One archive, open."""

    settings: Settings
    database: Database
    reader: Engine
    background: Background = field(default_factory=Background)
    """Work that outlasts a request."""
    memo: Memo = field(default_factory=Memo)
    """Answers that many visitors share."""
    turns: Turns = field(default_factory=Turns)
    """Of visitors' queries."""

    @property
    def reader_url(self) -> str:
        """Address for ``db.reader.run_query``: as the reader, or as a user who may become the reader."""
        return self.settings.reader_database_url or self.database.url

    @property
    def crops(self) -> CropStore:
        """The crop store."""
        return CropStore(self.settings.crops)

    @contextmanager
    def reading(self, timeout_seconds: float = PAGE_SECONDS) -> Iterator[Connection]:
        """Open a read-only transaction as the role that may read the views and nothing else.

        Args:
            timeout_seconds: longest time of each statement.
        """
        with self.reader.begin() as connection:
            connection.execute(_BECOME_READER, {"timeout": f"{round(timeout_seconds * 1000)}ms"})
            yield connection

    @contextmanager
    def editing(self) -> Iterator[Session]:
        """Open a transaction that may change rows; it commits at the end."""
        with self.database.sessions.begin() as session:
            yield session

    def edit(self, work: Callable[[Session], Result]) -> Result:
        """Change rows in one transaction; after a conflict with another one it is run again."""
        return run_transaction(self.database.sessions, "web", work)


@contextmanager
def open_desk(settings: Settings) -> Iterator[Desk]:
    """Open the archive of this deployment; the embedded database runs as long as the context.

    Raises:
        FacetError: the home folder or the database cannot be used.
    """
    make_home(settings.home)
    with open_database(settings) as database:
        reader = make_engine(settings.reader_database_url or database.url, pool_size=POOL_SIZE)
        try:
            yield Desk(settings, database, reader)
        finally:
            reader.dispose()
