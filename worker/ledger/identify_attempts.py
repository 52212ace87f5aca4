"""Attempts at identifying: an analysis that fails repeatedly is skipped, so that all others go on.

Before a batch begins, its analyses are recorded in a separate transaction. A process that finds such a record while it
holds the lock of people knows that the attempt was broken off: its process was killed. Analyses of a failed batch are
tried alone afterwards, so that the one at fault is found; after the last attempt it waits for `facet people regroup`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session, sessionmaker

MAX_IDENTIFY_ATTEMPTS = 3

_COUNT = text("""
    UPDATE analysis SET identify_attempts = identify_attempts + 1, identify_error = :error
    WHERE analysis_id IN (
        SELECT analysis_id FROM analysis, trunk_state s
        WHERE s.trunk_id = :trunk_id AND analysis_id = ANY (s.identifying)
        ORDER BY analysis_id FOR NO KEY UPDATE OF analysis)
    RETURNING 1""")
_CLEAR = text("UPDATE trunk_state SET identifying = NULL WHERE trunk_id = :trunk_id AND identifying IS NOT NULL")
_SUCCEED = text("""
    UPDATE analysis SET identify_attempts = 0, identify_error = NULL
    WHERE analysis_id = ANY(:ids) AND identify_attempts > 0""")


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


def succeed(session: Session, analyses: Collection[int]) -> None:
    """Reset earlier failures of analyses, in the transaction that assigns people to their appearances."""
    session.execute(_SUCCEED, {"ids": sorted(analyses)})


def end(session: Session, trunk_id: int) -> None:
    """Record the end of the batch, in its transaction."""
    session.execute(_CLEAR, {"trunk_id": trunk_id})


def retry_skipped(session: Session, trunk_id: int) -> None:
    """Requeue analyses that were skipped for identification."""
    statement = text("""
        UPDATE analysis SET identify_attempts = 0 WHERE analysis_id IN (
            SELECT analysis_id FROM analysis
            WHERE finder_id = (SELECT parent_id FROM layer WHERE layer_id = :trunk_id) AND identify_attempts > 0
            ORDER BY analysis_id FOR NO KEY UPDATE)""")
    session.execute(statement, {"trunk_id": trunk_id})
