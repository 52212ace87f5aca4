"""Why a result is empty: nothing was analysed yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cli.output.terminal import echo, typed
from worker.ledger.status.summary import has_files
from worker.storage.database import masked_url

if TYPE_CHECKING:
    from worker.config import Settings
    from worker.storage.database import Database


def explain_empty(database: Database, config: Settings) -> None:
    """Report on standard error if the archive has no file at all, and how to begin."""
    with database.sessions.begin() as session:
        is_empty = not has_files(session)
    if is_empty:
        place = config.home if config.database_url is None else masked_url(config.database_url)
        echo(f"nothing was analysed in {place} yet; begin with: {typed('analyze', 'FOLDER')}", err=True)
