"""Comparing and switching releases: what ``facet releases`` does, with a visitor's name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.ledger.releases import Switch, find_release, read_ids
from worker.releases.diff.report import ComparedRelease, read_diff
from worker.releases.switching import examine_switch, roll_back, switch_release

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from worker.releases.diff.report import ReleaseDiff
    from worker.releases.gate import GateResult, Limits

logger = logging.getLogger(__name__)


def compare_releases(sessions: sessionmaker[Session], before: int, after: int) -> ReleaseDiff:
    """Compare two releases over the archive, which takes minutes for millions of faces.

    Raises:
        UsageError: one is not there or was retired, or they are the same.
    """
    if before == after:
        raise UsageError(f"release {before} would be compared with itself; choose two")
    with sessions.begin() as session:
        both = [find_release(session, str(number)) for number in (before, after)]
        named = [ComparedRelease(one.name, read_ids(session, one.release_id)) for one in both]
    return read_diff(sessions, *named)


def ask_gate(sessions: sessionmaker[Session], release_id: int, limits: Limits | None = None) -> GateResult | None:
    """Ask whether the views may switch to a release; None where it is the active one.

    Raises:
        UsageError: there is no such release, it was retired, or it is foreign.
    """
    return examine_switch(sessions, str(release_id), limits)


def switch_to(
    sessions: sessionmaker[Session], release_id: int, visitor: str, reason: str | None, *, force: bool = False
) -> str:
    """Switch all views to a release, if the gate is open; return its name.

    Raises:
        UsageError: there is no such release, or it is forced without a reason.
        GateClosed: the gate holds it, and the switch is not forced.
    """
    if force and not reason:
        raise UsageError("the gate is passed over only with a reason, which the history of releases keeps; give one")
    name = switch_release(sessions, str(release_id), Switch(reason=reason, forced=force, who=visitor))
    _note("activate", name, visitor)
    return name


def go_back(sessions: sessionmaker[Session], visitor: str, reason: str | None) -> str:
    """Switch all views back to the release that was active before; return its name.

    Raises:
        UsageError: there is none.
    """
    name = roll_back(sessions, reason, who=visitor)
    _note("rollback", name, visitor)
    return name


def _note(change: str, release: str, visitor: str) -> None:
    logger.info(
        "a visitor switched the views to a release",
        extra={"action": "release_switched", "change": change, "release": release, "by": visitor},
    )
