"""Switches all views to another release, in one transaction, and back to the previous one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from worker.errors import GateClosed
from worker.identity.identifier import show_release
from worker.ledger.releases import Switch, find_active, find_own_release, find_release, read_ids
from worker.releases.gate import judge_switch
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from worker.releases.gate import GateResult, Limits


def switch_release(
    sessions: sessionmaker[Session], wanted: str, switch: Switch | None = None, limits: Limits | None = None
) -> str:
    """Activate a release, if the gate is open: the views show its results, and the corrections hold for them.

    Args:
        sessions: of the database.
        wanted: number, name or alias of the release.
        switch: why, and whether the gate is passed over; the history of releases keeps it.
        limits: of the gate; None for the usual ones.

    Returns:
        The release's name.

    Raises:
        UsageError: there is no such release, it was retired, or it is foreign.
        GateClosed: the gate holds it, and the switch is not forced.
    """
    how = switch or Switch()
    found = examine_switch(sessions, wanted, limits)
    if found is not None:
        if not found.is_open and not how.forced:
            raise GateClosed(
                f"release {wanted} is held back: {'; '.join(found.refusals)}. Reprocess what is missing and look at "
                "`facet releases diff`, or pass --force with a --reason"
            )
        how = replace(how, gate=found.as_json(), forced=not found.is_open)
    return run_transaction(sessions, "activate", lambda session: show_release(session, wanted, how))


def examine_switch(sessions: sessionmaker[Session], wanted: str, limits: Limits | None = None) -> GateResult | None:
    """Ask the gate; None where no release is active yet, or where this one is.

    Raises:
        UsageError: there is no such release, it was retired, or it is foreign.
    """
    with sessions() as session:
        after, before = find_own_release(session, wanted), find_active(session)
        if before is None or before.release_id == after.release_id:
            return None
        found = judge_switch(session, before, read_ids(session, after.release_id), limits)
        session.rollback()
    return found


def roll_back(sessions: sessionmaker[Session], reason: str | None = None, *, who: str | None = None) -> str:
    """Activate the release that was active before; return its name.

    Args:
        sessions: of the database.
        reason: why; the history of releases keeps it.
        who: None for the user that runs this program.

    Raises:
        UsageError: there is none that was not retired.
    """
    how = Switch(action="rollback", reason=reason, who=who)

    def switch(session: Session) -> str:
        return show_release(session, str(find_release(session, "previous").release_id), how)

    return run_transaction(sessions, "rollback", switch)
