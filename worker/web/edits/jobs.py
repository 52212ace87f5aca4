"""Pausing, resuming and cancelling jobs: what ``facet jobs`` and ``facet cancel`` do, with a visitor's name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from worker.ledger.submission.cancel import cancel_job
from worker.ledger.submission.pausing import pause_job, resume_job
from worker.ledger.submission.shelving import shelve

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from worker.ledger.submission.cancel import Cancelled
    from worker.storage.crops import CropStore

logger = logging.getLogger(__name__)

SHELVE_SECONDS = 2.0  # that a page waits; upkeep goes on with the rest of a large job


def pause(sessions: sessionmaker[Session], job_id: int, visitor: str) -> bool:
    """Pause a job; return False where it was paused before.

    Raises:
        UsageError: there is no such job, or it has ended.
    """
    with sessions.begin() as session:
        changed = pause_job(session, job_id)
    shelve(sessions, job_id, SHELVE_SECONDS)
    _note("pause", job_id, visitor)
    return changed


def resume(sessions: sessionmaker[Session], job_id: int, visitor: str) -> bool:
    """Resume a job; return False where it was not paused.

    Raises:
        UsageError: there is no such job.
    """
    with sessions.begin() as session:
        changed = resume_job(session, job_id)
    shelve(sessions, job_id, SHELVE_SECONDS)
    _note("resume", job_id, visitor)
    return changed


def cancel(
    sessions: sessionmaker[Session], job_id: int, store: CropStore, visitor: str, show: Callable[[str], None]
) -> Cancelled:
    """Cancel a job; broken off, the same call goes on where it stopped.

    Raises:
        UsageError: there is no such job.
        RetryableError: rows stay locked.
    """
    _note("cancel", job_id, visitor)
    return cancel_job(sessions, job_id, lambda now: show(f"{now.units:,} units cancelled"), store)


def _note(change: str, job_id: int, visitor: str) -> None:
    logger.info(
        "a visitor changed a job", extra={"action": "job_changed", "change": change, "job_id": job_id, "by": visitor}
    )
