"""Pausing jobs: no unit of a paused job is leased until it is resumed; units in flight end.

A file that another job waits for goes on for that one. The pause holds at once; ``shelving.shelve`` takes the units out
of the indexes that workers read, or puts them back, in transactions of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_PAUSE = text("""
    UPDATE job SET paused_at = CASE WHEN :paused THEN coalesce(paused_at, now()) END, shelf_next = 1
    WHERE job_id = :id AND (paused_at IS NOT NULL) <> :paused RETURNING 1""")
_JOB = text("SELECT finished_at IS NOT NULL AS has_ended FROM jobs WHERE job_id = :id")


def pause_job(session: Session, job_id: int) -> bool:
    """Pause a job; return False where it was paused before.

    Raises:
        UsageError: there is no such job, or it has ended.
    """
    if _find(session, job_id):
        raise UsageError(f"job {job_id} has ended, so there is nothing to pause; see `facet status`")
    return _set(session, job_id, paused=True)


def resume_job(session: Session, job_id: int) -> bool:
    """Resume a job; return False where it was not paused.

    Raises:
        UsageError: there is no such job.
    """
    _find(session, job_id)
    return _set(session, job_id, paused=False)


def _find(session: Session, job_id: int) -> bool:
    """Return whether a job has ended."""
    job = session.execute(_JOB, {"id": job_id}).first()
    if job is None:
        raise UsageError(f"there is no job {job_id}; see `facet status`")
    return bool(job.has_ended)


def _set(session: Session, job_id: int, *, paused: bool) -> bool:
    return session.execute(_PAUSE, {"id": job_id, "paused": paused}).first() is not None
