"""Health checks of erasures: each failure with its remedy, for ``facet doctor``."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

EXAMPLES = 3  # failed files that a message names

_FAILED = text("""
    SELECT media_id, attempts, error, failed_at, count(*) OVER () AS files FROM erasure_failure
    ORDER BY failed_at DESC LIMIT :limit""")
_REMOVALS = text("""
    SELECT path, attempts, last_error, count(*) OVER () AS entries FROM file_removal
    WHERE last_error IS NOT NULL ORDER BY attempts DESC, removal_id LIMIT 1""")
_ELSEWHERE = text("""
    SELECT count(*) AS entries, min(path) AS path FROM file_removal
    WHERE kind = 'staged' AND NOT starts_with(path, :staging || '/')""")
_UNKNOWN_STRIPS = text("SELECT url, strangers, stranger FROM crop_walk WHERE strangers > 0 ORDER BY url")


def read_waiting(session: Session, staging: Path) -> list[str]:
    """Return the failures and delays of erasures, one text each; nothing where all is well.

    Args:
        session: an open session.
        staging: the staging folder of this host.
    """
    return [*_failed(session), *_removals(session), *_elsewhere(session, staging), *_unknown_strips(session)]


def _failed(session: Session) -> list[str]:
    rows = session.execute(_FAILED, {"limit": EXAMPLES}).all()
    if not rows:
        return []
    examples = "; ".join(
        f"file {row.media_id}, {row.attempts} attempts, last {row.failed_at:%Y-%m-%d %H:%M}: {row.error}"
        for row in rows
    )
    message = (
        f"{rows[0].files:,} files whose time is over cannot be erased ({examples}); the others are. Mend the cause, "
        "then run `facet forget --due --yes`; without that they are tried again with pauses of up to a day"
    )
    return [message]


def _removals(session: Session) -> list[str]:
    row = session.execute(_REMOVALS).first()
    if row is None:
        return []
    message = (
        f"{row.entries:,} files of erased media wait to be removed ({row.path}, {row.attempts} attempts: "
        f"{row.last_error}); check the store, then run `facet forget --due --yes`"
    )
    return [message]


def _elsewhere(session: Session, staging: Path) -> list[str]:
    row = session.execute(_ELSEWHERE, {"staging": str(staging)}).one()
    if not row.entries:
        return []
    folder = PurePosixPath(row.path).parent.parent
    message = (
        f"{row.entries:,} copies of erased files lie in staging folders of other hosts ({folder}); run "
        "`facet forget --due --yes` there"
    )
    return [message]


def _unknown_strips(session: Session) -> list[str]:
    return [_unknown_strip(row.url, row.strangers, row.stranger) for row in session.execute(_UNKNOWN_STRIPS)]


def _unknown_strip(url: str, strips: int, first: str) -> str:
    return (
        f"{strips:,} strips of crops in {url} belong to no analysis of this database (the first: {first}): another "
        "database uses the same store, or an older backup was restored; remove them by hand where neither is the case"
    )
