"""Switches all views to another release, in one transaction, and back to the previous one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.identity.identifier import show_release
from worker.ledger.releases import Switch, find_release
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker


def activate(sessions: sessionmaker[Session], wanted: str, switch: Switch | None = None) -> str:
    """Activate a release: the views show its results, and the corrections hold for them; return its name.

    Args:
        sessions: of the database.
        wanted: number, name or alias of the release.
        switch: why; the history of releases keeps it.

    Raises:
        UsageError: there is no such release, or it was retired.
    """
    how = switch or Switch()
    return run_transaction(sessions, "activate", lambda session: show_release(session, wanted, how))


def roll_back(sessions: sessionmaker[Session], reason: str | None = None) -> str:
    """Activate the release that was active before; return its name.

    Raises:
        UsageError: there is none that was not retired.
    """
    how = Switch(action="rollback", reason=reason)

    def switch(session: Session) -> str:
        return show_release(session, str(find_release(session, "previous").release_id), how)

    return run_transaction(sessions, "rollback", switch)
