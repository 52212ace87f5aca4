"""Cancelling a job: files that only this job waits for are no longer analysed; stored results are kept.

A file that another job waits for goes on for that one. Units in flight are taken from their worker by the fencing
token, so that its result is dropped. Files that are submitted again go on where they stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import RetryableError, UsageError
from worker.ledger.batches import cancel_batches
from worker.ledger.submission.submit import is_cancelled, lock_submissions
from worker.ledger.upkeep.orphans import remove_orphans
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session, sessionmaker

    from worker.storage.crops import CropStore

ITEMS_PER_CANCEL = 2000  # about a fifth of a second, in which no other submission is written
CANCEL_RETRY_SECONDS = 0.05  # before rows that a worker is storing are tried again
CANCEL_LOCK_WAIT_SECONDS = 60.0  # for such rows: storing a batch takes less than a second

# Analyses of a window that no other job waits for. A subquery that is counted is looked up item by item; for a join,
# PostgreSQL would read the items of all jobs.
_UNWANTED = text("""
    SELECT a.analysis_id FROM job_item i JOIN analysis a USING (analysis_id)
    WHERE i.job_id = :job_id AND i.item_no BETWEEN :first AND :last AND a.state = 'pending'
      AND (SELECT count(*) FROM job_item o JOIN job j USING (job_id)
           WHERE o.analysis_id = i.analysis_id AND j.cancelled_at IS NULL) = 0""")

# Never waits for a row that a worker has locked, and so cannot deadlock with one.
_OPEN_UNITS = text("""
    SELECT unit_id, analysis_id, token > 0 AS was_leased, state = 'leased' AS is_leased FROM unit
    WHERE analysis_id = ANY(:ids) AND state IN ('pending', 'leased') FOR NO KEY UPDATE SKIP LOCKED""")

# The attempt that is broken off does not count; earlier failed attempts do.
_END_UNITS = text("""
    UPDATE unit SET state = 'cancelled', token = token + 1, owner = NULL, lease_until = NULL, last_error = :reason,
        attempts = attempts - (state = 'leased')::integer, shelved = false
    WHERE unit_id = ANY(:ids)""")

_ENDED_ANALYSES = text("""
    SELECT analysis_id FROM analysis a
    WHERE analysis_id = ANY(:ids) AND state = 'pending'
      AND (SELECT bool_or(u.state = 'cancelled') AND NOT bool_or(u.state IN ('pending', 'leased'))
           FROM unit u WHERE u.analysis_id = a.analysis_id)
    FOR NO KEY UPDATE SKIP LOCKED""")

_END_ANALYSES = text("""
    UPDATE analysis SET state = 'cancelled', reason = :reason, finished_at = now() WHERE analysis_id = ANY(:ids)""")

# No faces are kept for a job that plans no further batches; a cancelled job has none to fill in.
_END_REPROCESS = text("""
    WITH ended AS (
        UPDATE job SET submission = 'ended', finished_at = now()
        WHERE job_id = :id AND kind = 'reprocess' AND cancelled_at IS NOT NULL AND finished_at IS NULL RETURNING job_id)
    DELETE FROM reprocess_face USING ended WHERE reprocess_face.job_id = ended.job_id""")

_LEFT = text("""
    SELECT count(*) FROM analysis a
    WHERE analysis_id = ANY(:ids) AND state = 'pending'
      AND (SELECT bool_or(u.state IN ('pending', 'leased', 'cancelled')) FROM unit u
           WHERE u.analysis_id = a.analysis_id)""")


# Of a release: units of analyses that no worker began, those of paused jobs, those that a worker began, and batches; an
# index for each.
_OPEN_OF_RELEASE = """
    SELECT unit_id, analysis_id FROM unit WHERE unit_id IN (
        (SELECT unit_id FROM unit WHERE release_id = :id AND state = 'pending' AND attempts = 0
                                    AND stage <> 'reprocess' AND NOT shelved LIMIT :limit)
        UNION ALL
        (SELECT unit_id FROM unit WHERE release_id = :id AND shelved LIMIT :limit)
        UNION ALL
        (SELECT unit_id FROM unit WHERE release_id = :id AND state IN ('pending', 'leased') AND attempts > 0
         LIMIT :limit)
        UNION ALL
        (SELECT unit_id FROM unit WHERE release_id = :id AND stage = 'reprocess' AND state IN ('pending', 'leased')
                                    AND NOT shelved LIMIT :limit))"""
_LOCK_OF_RELEASE = text(f"{_OPEN_OF_RELEASE} ORDER BY unit_id FOR NO KEY UPDATE SKIP LOCKED")


# Files that this job shared with paused ones wait for those alone now.
_SHELVE_AGAIN = text("""
    UPDATE job SET shelf_next = 1
    WHERE paused_at IS NOT NULL AND finished_at IS NULL AND cancelled_at IS NULL AND job_id <> :id""")


@dataclass(slots=True, kw_only=True)
class Cancelled:
    """Result of cancelling a job."""

    job_id: int
    files: int = 0
    """Files whose analysis was cancelled."""
    units: int = 0
    taken_back: int = 0
    """Of these units, those that were in flight."""
    shared: int = 0
    """Files that go on, because another job waits for them."""
    batches: int = 0
    """Of the units, batches of faces that were to be reprocessed."""


def cancel_job(
    sessions: sessionmaker[Session],
    job_id: int,
    on_progress: Callable[[Cancelled], None] = lambda _: None,
    store: CropStore | None = None,
) -> Cancelled:
    """Cancel the open units of a job; if this is broken off, a second call goes on where it stopped.

    Crops of cancelled attempts are removed from the store, if one is given; a worker removes those that it is writing.

    Raises:
        UsageError: there is no such job.
        RetryableError: rows stay locked; the same call can be repeated.
    """
    result = Cancelled(job_id=job_id)
    items = run_transaction(sessions, "cancel", partial(_mark, job_id=job_id))
    for first in range(1, items + 1, ITEMS_PER_CANCEL):
        begun = _cancel_items(sessions, result, first)
        if store is not None:
            remove_orphans(sessions, store, begun)
        on_progress(result)
    _cancel_batches(sessions, result)
    if result.batches:
        on_progress(result)
    with sessions.begin() as session:
        shared = text("""SELECT count(*) FROM job_item i JOIN analysis a USING (analysis_id)
                         WHERE i.job_id = :job_id AND a.state = 'pending'""")
        result.shared = int(session.execute(shared, {"job_id": job_id}).scalar_one())
    return result


def _mark(session: Session, job_id: int) -> int:
    """Mark the job as cancelled if files are open or still submitted; return the number of its last item."""
    lock_submissions(session)
    job = session.execute(text("SELECT pending, submission FROM jobs WHERE job_id = :id"), {"id": job_id}).first()
    if job is None:
        raise UsageError(f"there is no job {job_id}; see `facet status`")
    if job.pending or job.submission == "open":
        session.execute(text("UPDATE job SET cancelled_at = now() WHERE job_id = :id"), {"id": job_id})
        session.execute(_SHELVE_AGAIN, {"id": job_id})
    elif not is_cancelled(session, job_id):
        return 0
    last = text("SELECT coalesce(max(item_no), 0) FROM job_item WHERE job_id = :id")
    return int(session.execute(last, {"id": job_id}).scalar_one())


def _cancel_batches(sessions: sessionmaker[Session], result: Cancelled) -> None:
    """Cancel the open batches of a reprocess job, and end it."""
    until = time.monotonic() + CANCEL_LOCK_WAIT_SECONDS
    reason = _reason(result.job_id)
    while True:
        done = run_transaction(sessions, "cancel", lambda session: cancel_batches(session, result.job_id, reason))
        result.units += done.units
        result.batches += done.units
        result.taken_back += done.taken_back
        if not done.left:
            break
        if time.monotonic() > until:
            raise _locked(done.left, "batches", result.job_id)
        time.sleep(CANCEL_RETRY_SECONDS)
    run_transaction(sessions, "cancel", lambda session: session.execute(_END_REPROCESS, {"id": result.job_id}))


def _reason(job_id: int) -> str:
    return f"cancelled: job {job_id} was cancelled"


def _locked(left: int, what: str, job_id: int) -> RetryableError:
    return RetryableError(
        f"{left} {what} of job {job_id} are locked for {CANCEL_LOCK_WAIT_SECONDS:.0f} s, expected less than one; end "
        f"long transactions (pg_stat_activity), then run `facet cancel {job_id}` again"
    )


def _cancel_items(sessions: sessionmaker[Session], result: Cancelled, first: int) -> set[int]:
    """Cancel a window of the job's items; rows that a worker locks are tried again.

    Returns:
        Analyses of which units had been leased.
    """
    until = time.monotonic() + CANCEL_LOCK_WAIT_SECONDS
    begun: set[int] = set()
    while left := _try_items(sessions, result, first, begun):
        if time.monotonic() > until:
            raise _locked(left, "files", result.job_id)
        time.sleep(CANCEL_RETRY_SECONDS)
    return begun


def _try_items(sessions: sessionmaker[Session], result: Cancelled, first: int, begun: set[int]) -> int:
    """Cancel the unlocked items of a window; add analyses that had been leased; return how many files are left."""
    window = {"job_id": result.job_id, "first": first, "last": first + ITEMS_PER_CANCEL - 1}
    reason = _reason(result.job_id)

    def end(session: Session) -> tuple[Sequence[Row[tuple[object, ...]]], int, int]:
        lock_submissions(session)
        wanted = {"ids": list(session.scalars(_UNWANTED, window))}
        units = session.execute(_OPEN_UNITS, wanted).all()
        session.execute(_END_UNITS, {"ids": [unit.unit_id for unit in units], "reason": reason})
        files = session.scalars(_ENDED_ANALYSES, wanted).all()
        session.execute(_END_ANALYSES, {"ids": list(files), "reason": reason})
        return units, len(files), int(session.execute(_LEFT, wanted).scalar_one())

    units, files, left = run_transaction(sessions, "cancel", end)
    begun.update(unit.analysis_id for unit in units if unit.was_leased)
    result.units += len(units)
    result.taken_back += sum(unit.is_leased for unit in units)
    result.files += files
    return left


def has_open_units(session: Session, release_id: int) -> bool:
    """Whether a unit of a release has not ended."""
    return session.execute(text(_OPEN_OF_RELEASE), {"id": release_id, "limit": 1}).first() is not None


def cancel_release(sessions: sessionmaker[Session], release_id: int, reason: str) -> int:
    """Cancel the open units of a retired release, whichever job waits for them; return how many there were.

    Raises:
        RetryableError: rows stay locked; the same call can be repeated.
    """
    until = time.monotonic() + CANCEL_LOCK_WAIT_SECONDS
    total = 0
    while True:
        done = run_transaction(sessions, "cancel", partial(_cancel_some, release_id=release_id, reason=reason))
        total += done
        with sessions.begin() as session:
            if not has_open_units(session, release_id):
                return total
        if time.monotonic() > until and not done:
            raise RetryableError(
                f"units of release {release_id} are locked for {CANCEL_LOCK_WAIT_SECONDS:.0f} s, expected less than "
                "one; end long transactions (pg_stat_activity), then run the same command again"
            )
        time.sleep(0 if done else CANCEL_RETRY_SECONDS)


def _cancel_some(session: Session, release_id: int, reason: str) -> int:
    lock_submissions(session)
    units = session.execute(_LOCK_OF_RELEASE, {"id": release_id, "limit": ITEMS_PER_CANCEL}).all()
    session.execute(_END_UNITS, {"ids": [unit.unit_id for unit in units], "reason": reason})
    analyses = sorted({unit.analysis_id for unit in units if unit.analysis_id is not None})
    ended = session.scalars(_ENDED_ANALYSES, {"ids": analyses}).all()
    session.execute(_END_ANALYSES, {"ids": list(ended), "reason": reason})
    return len(units)
