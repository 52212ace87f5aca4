"""Attempts at identifying: an analysis that fails repeatedly is skipped, so that all others go on.

Before a batch begins, its analyses are recorded in a separate transaction. A process that finds such a record while it
holds the lock of people knows that the attempt was broken off: its process was killed. Analyses of a failed batch are
tried alone afterwards, so that the one at fault is found; after the last attempt it waits for `facet people regroup`.
Failures are counted by analysis and trunk: what fails under one trunk is still identified under another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session, sessionmaker

MAX_IDENTIFY_ATTEMPTS = 3

# In the order of analyses, like all locks of several rows. Those that were erased meanwhile are left out.
_COUNT = text("""
    INSERT INTO identify_failure AS i (analysis_id, trunk_id, attempts, error)
    SELECT a.analysis_id, s.trunk_id, 1, :error
    FROM trunk_state AS s JOIN analysis AS a ON a.analysis_id = ANY (s.identifying)
    WHERE s.trunk_id = :trunk_id ORDER BY a.analysis_id
    ON CONFLICT (analysis_id, trunk_id) DO UPDATE SET attempts = i.attempts + 1, error = excluded.error
    RETURNING 1""")
_CLEAR = text("UPDATE trunk_state SET identifying = NULL WHERE trunk_id = :trunk_id AND identifying IS NOT NULL")
_SUCCEED = text("DELETE FROM identify_failure WHERE trunk_id = :trunk_id AND analysis_id = ANY(:ids)")
_RETRY = text("DELETE FROM identify_failure WHERE trunk_id = :trunk_id")


def begin_attempt(sessions: sessionmaker[Session], trunk_id: int, analyses: Collection[int]) -> None:
    """Record the begin of a batch; the caller holds the lock of people in another transaction."""
    with sessions.begin() as session:
        session.execute(
            text("UPDATE trunk_state SET identifying = :ids WHERE trunk_id = :trunk_id"),
            {"ids": sorted(analyses), "trunk_id": trunk_id},
        )


def count_failure(sessions: sessionmaker[Session], trunk_id: int, error: str) -> int:
    """Count a failed attempt for the analyses of the batch that was begun; return how many they are.

    The caller holds the lock of people in another transaction, or made the attempt itself.
    """
    with sessions.begin() as session:
        failed = len(session.execute(_COUNT, {"trunk_id": trunk_id, "error": error}).all())
        session.execute(_CLEAR, {"trunk_id": trunk_id})
    return failed


def is_broken_off(session: Session, trunk_id: int) -> bool:
    """Whether a batch was begun and broken off; the caller holds the lock of people, so none works on it."""
    statement = text("SELECT EXISTS (SELECT FROM trunk_state WHERE trunk_id = :trunk_id AND identifying IS NOT NULL)")
    return bool(session.execute(statement, {"trunk_id": trunk_id}).scalar_one())


def succeed(session: Session, trunk_id: int, analyses: Collection[int]) -> None:
    """Forget earlier failures of analyses, in the transaction that assigns people to their appearances."""
    session.execute(_SUCCEED, {"trunk_id": trunk_id, "ids": sorted(analyses)})


def end(session: Session, trunk_id: int) -> None:
    """Record the end of the batch, in its transaction."""
    session.execute(_CLEAR, {"trunk_id": trunk_id})


def retry_skipped(session: Session, trunk_id: int) -> None:
    """Requeue analyses that were skipped for identification."""
    session.execute(_RETRY, {"trunk_id": trunk_id})
