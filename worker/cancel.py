"""Cancelling a job: what only this job waits for is no longer analysed; what is stored stays.

A file that another job waits for goes on for that one. Units in a worker's hands are taken from it by their fencing
token, so that its result is dropped. Submitting the files again takes up what was cancelled where it stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import RetryableError, UsageError
from worker.submit import is_cancelled, lock_submissions

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

ITEMS_PER_TRANSACTION = 5000
PAUSE_SECONDS = 0.05  # before rows that a worker is just storing are tried again
PATIENCE_SECONDS = 60.0  # for such rows: storing a batch takes less than a second

# Never waits for a row that a worker has locked, and so cannot deadlock with one. The attempt that is broken off does
# not count; what the unit did to earlier workers does.
_UNITS = text("""
    WITH unwanted AS (
        SELECT u.unit_id, u.state FROM job_item i JOIN analysis a USING (analysis_id) JOIN unit u USING (analysis_id)
        WHERE i.job_id = :job_id AND i.item_no BETWEEN :first AND :last
          AND a.state = 'pending' AND u.state IN ('pending', 'leased')
          AND NOT EXISTS (SELECT FROM job_item o JOIN job j USING (job_id)
                          WHERE o.analysis_id = i.analysis_id AND j.cancelled_at IS NULL)
        FOR UPDATE OF u SKIP LOCKED)
    UPDATE unit u
    SET state = 'cancelled', token = token + 1, owner = NULL, lease_until = NULL, last_error = :reason,
        attempts = attempts - (unwanted.state = 'leased')::integer
    FROM unwanted WHERE u.unit_id = unwanted.unit_id
    RETURNING unwanted.state = 'leased' AS was_leased""")

_ANALYSES = text("""
    WITH unwanted AS (
        SELECT a.analysis_id FROM job_item i JOIN analysis a USING (analysis_id)
        WHERE i.job_id = :job_id AND i.item_no BETWEEN :first AND :last AND a.state = 'pending'
          AND NOT EXISTS (SELECT FROM unit u WHERE u.analysis_id = a.analysis_id AND u.state IN ('pending', 'leased'))
          AND EXISTS (SELECT FROM unit u WHERE u.analysis_id = a.analysis_id AND u.state = 'cancelled')
        FOR UPDATE OF a SKIP LOCKED)
    UPDATE analysis a SET state = 'cancelled', reason = :reason, finished_at = now()
    FROM unwanted WHERE a.analysis_id = unwanted.analysis_id RETURNING 1""")

_LEFT = text("""
    SELECT count(*) FROM job_item i JOIN analysis a USING (analysis_id)
    WHERE i.job_id = :job_id AND i.item_no BETWEEN :first AND :last AND a.state = 'pending'
      AND EXISTS (SELECT FROM unit u
                  WHERE u.analysis_id = a.analysis_id AND u.state IN ('pending', 'leased', 'cancelled'))
      AND NOT EXISTS (SELECT FROM job_item o JOIN job j USING (job_id)
                      WHERE o.analysis_id = i.analysis_id AND j.cancelled_at IS NULL)""")


@dataclass(slots=True, kw_only=True)
class Cancelled:
    """What cancelling a job came to."""

    job_id: int
    files: int = 0
    """Files whose analysis ended by it."""
    units: int = 0
    taken_back: int = 0
    """Of these units, those that a worker was at."""
    shared: int = 0
    """Files that go on, because another job waits for them."""


def cancel_job(
    sessions: sessionmaker[Session], job_id: int, on_progress: Callable[[Cancelled], None] = lambda _: None
) -> Cancelled:
    """Cancel what is left of a job; begun and broken off, it goes on where it stopped.

    Raises:
        UsageError: there is no such job.
        RetryableError: rows stay locked; nothing is half done, the same call goes on.
    """
    result = Cancelled(job_id=job_id)
    items = _mark(sessions, job_id)
    for first in range(1, items + 1, ITEMS_PER_TRANSACTION):
        _cancel_items(sessions, result, first)
        on_progress(result)
    with sessions.begin() as session:
        shared = text("""SELECT count(*) FROM job_item i JOIN analysis a USING (analysis_id)
                         WHERE i.job_id = :job_id AND a.state = 'pending'""")
        result.shared = int(session.execute(shared, {"job_id": job_id}).scalar_one())
    return result


def _mark(sessions: sessionmaker[Session], job_id: int) -> int:
    """Write down that the job is cancelled, if anything of it is left; returns the number of its last item."""
    with sessions.begin() as session:
        lock_submissions(session)
        found = session.execute(text("SELECT pending FROM jobs WHERE job_id = :id"), {"id": job_id}).scalar()
        if found is None:
            raise UsageError(f"there is no job {job_id}; see `facet status`")
        if found:
            session.execute(text("UPDATE job SET cancelled_at = now() WHERE job_id = :id"), {"id": job_id})
        elif not is_cancelled(session, job_id):
            return 0
        last = text("SELECT coalesce(max(item_no), 0) FROM job_item WHERE job_id = :id")
        return int(session.execute(last, {"id": job_id}).scalar_one())


def _cancel_items(sessions: sessionmaker[Session], result: Cancelled, first: int) -> None:
    """Cancel a window of the job's items; rows that are being stored are tried again until they are."""
    until = time.monotonic() + PATIENCE_SECONDS
    while left := _try_items(sessions, result, first):
        if time.monotonic() > until:
            raise RetryableError(
                f"{left} files of job {result.job_id} are locked for {PATIENCE_SECONDS:.0f} s, expected less than one; "
                f"end long transactions (pg_stat_activity), then run `facet cancel {result.job_id}` again"
            )
        time.sleep(PAUSE_SECONDS)


def _try_items(sessions: sessionmaker[Session], result: Cancelled, first: int) -> int:
    """Cancel those of a window that nobody has locked; returns how many files are left."""
    window = {"job_id": result.job_id, "first": first, "last": first + ITEMS_PER_TRANSACTION - 1}
    reason = {"reason": f"cancelled: job {result.job_id} was cancelled"}
    with sessions.begin() as session:
        lock_submissions(session)
        units = session.execute(_UNITS, window | reason).all()
        files = session.execute(_ANALYSES, window | reason).all()
        left = int(session.execute(_LEFT, window).scalar_one())
    result.units += len(units)
    result.taken_back += sum(unit.was_leased for unit in units)
    result.files += len(files)
    return left
