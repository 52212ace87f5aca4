"""Erasures that wait: what failed, and what to do about it; ``facet doctor`` shows it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

EXAMPLES = 3

_FAILED = text("""
    SELECT media_id, attempts, error, failed_at, count(*) OVER () AS files FROM erasure_failure
    ORDER BY failed_at DESC LIMIT :limit""")
_REMOVALS = text("""
    SELECT path, attempts, last_error, count(*) OVER () AS entries FROM file_removal
    WHERE last_error IS NOT NULL ORDER BY attempts DESC, removal_id LIMIT 1""")
_ELSEWHERE = text("""
    SELECT count(*) AS entries, min(path) AS path FROM file_removal
    WHERE kind = 'staged' AND NOT starts_with(path, :staging || '/')""")
_STRANGERS = text("SELECT url, strangers, stranger FROM crop_walk WHERE strangers > 0 ORDER BY url")


def read_waiting(session: Session, staging: Path) -> list[str]:
    """Return what erasures could not do yet; nothing where all is well.

    Args:
        session: an open session.
        staging: the staging folder of this host.
    """
    return [*_failed(session), *_removals(session), *_elsewhere(session, staging), *_strangers(session)]


def _failed(session: Session) -> list[str]:
    rows = session.execute(_FAILED, {"limit": EXAMPLES}).all()
    if not rows:
        return []
    examples = "; ".join(
        f"file {row.media_id}, {row.attempts} tries, last {row.failed_at:%Y-%m-%d %H:%M}: {row.error}" for row in rows
    )
    said = (
        f"{rows[0].files:,} files whose time is over cannot be erased ({examples}); the others are. Mend the cause, "
        "then run `facet forget --due --yes`; without that they are tried again with pauses of up to a day"
    )
    return [said]


def _removals(session: Session) -> list[str]:
    row = session.execute(_REMOVALS).first()
    if row is None:
        return []
    said = (
        f"{row.entries:,} files of erased media wait to be removed ({row.path}, {row.attempts} tries: "
        f"{row.last_error}); see to the store, then run `facet forget --due --yes`"
    )
    return [said]


def _elsewhere(session: Session, staging: Path) -> list[str]:
    row = session.execute(_ELSEWHERE, {"staging": str(staging)}).one()
    if not row.entries:
        return []
    folder = PurePosixPath(row.path).parent.parent
    said = (
        f"{row.entries:,} copies of erased files lie in staging folders of other hosts ({folder}); run "
        "`facet forget --due --yes` there"
    )
    return [said]


def _strangers(session: Session) -> list[str]:
    return [_stranger(row.url, row.strangers, row.stranger) for row in session.execute(_STRANGERS)]


def _stranger(url: str, strips: int, first: str) -> str:
    return (
        f"{strips:,} strips of crops in {url} belong to no analysis of this database (the first: {first}): another "
        "database uses the same store, or an older backup was restored; remove them by hand where neither is the case"
    )
