"""Shelving: units that only paused jobs wait for leave the indexes that workers read, or every lease would walk them.

A pause and a resumption hold at once, by conditions of the queries. What this does makes them cheap: window by window,
each in a short transaction under the lock of submissions, so that no submission joins these files meanwhile. A job
notes how far it has come; upkeep goes on with what was broken off.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.ledger.submission.submit import lock_submissions
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session, sessionmaker

ITEMS_PER_SHELVING = 2000  # some 50 ms, in which no other submission is written

_JOBS = text("""
    SELECT job_id FROM job
    WHERE shelf_next IS NOT NULL AND (cast(:job_id AS bigint) IS NULL OR job_id = :job_id) ORDER BY job_id""")
_JOB = text("""
    SELECT job_id, paused_at IS NOT NULL AS paused, submission, shelf_next AS first,
           (SELECT coalesce(max(item_no), 0) FROM job_item AS i WHERE i.job_id = j.job_id) AS last
    FROM job AS j WHERE job_id = :job_id AND shelf_next IS NOT NULL""")
# Other jobs are counted item by item; for a join, PostgreSQL would read the items of all jobs.
_TO_SHELVE = text("""
    SELECT u.unit_id FROM job_item AS i JOIN unit AS u USING (analysis_id)
    WHERE i.job_id = :job_id AND i.item_no BETWEEN :first AND :last AND u.state = 'pending' AND u.attempts = 0
      AND NOT u.shelved AND (
          SELECT count(*) FROM job_item AS o JOIN job AS p USING (job_id)
          WHERE o.analysis_id = i.analysis_id AND p.paused_at IS NULL AND p.cancelled_at IS NULL) = 0
    ORDER BY u.unit_id FOR NO KEY UPDATE OF u SKIP LOCKED""")
_TO_UNSHELVE = text("""
    SELECT u.unit_id FROM job_item AS i JOIN unit AS u USING (analysis_id)
    WHERE i.job_id = :job_id AND i.item_no BETWEEN :first AND :last AND u.shelved
    ORDER BY u.unit_id FOR NO KEY UPDATE OF u""")
_BATCHES_TO_SHELVE = text("""
    SELECT unit_id FROM unit WHERE job_id = :job_id AND state = 'pending' AND attempts = 0 AND NOT shelved
    ORDER BY unit_id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED""")
_BATCHES_TO_UNSHELVE = text("""
    SELECT unit_id FROM unit WHERE job_id = :job_id AND shelved ORDER BY unit_id LIMIT :limit FOR NO KEY UPDATE""")
_SET = text("UPDATE unit SET shelved = :shelved WHERE unit_id = ANY(:ids)")
# Nothing where the job was paused or resumed meanwhile: then the window is undone.
_ADVANCE = text("""
    UPDATE job SET shelf_next = :next
    WHERE job_id = :job_id AND shelf_next = :first AND (paused_at IS NOT NULL) = :paused RETURNING 1""")


class _TurnedError(Exception):
    """The job was paused or resumed while a window of it was shelved or unshelved."""


def shelve(sessions: sessionmaker[Session], job_id: int | None = None, seconds: float = math.inf) -> None:
    """Shelve the units of jobs that were paused, and unshelve those of jobs that were resumed.

    Args:
        sessions: of the database.
        job_id: only this job; None for all that are not finished.
        seconds: after which no further window begins.
    """
    until = time.monotonic() + seconds
    with sessions.begin() as session:
        jobs = session.scalars(_JOBS, {"job_id": job_id}).all()
    for one in jobs:
        while time.monotonic() < until:
            try:
                if not run_transaction(sessions, "shelve", partial(_step, job_id=one)):
                    break
            except _TurnedError:
                continue  # from its beginning, the other way round


def _step(session: Session, job_id: int) -> bool:
    """Shelve or unshelve one window of a job; return whether there is another one."""
    lock_submissions(session)
    job = session.execute(_JOB, {"job_id": job_id}).first()
    if job is None:
        return False
    last = job.first + ITEMS_PER_SHELVING - 1
    batches = _batches(session, job)
    units = session.scalars(
        _TO_SHELVE if job.paused else _TO_UNSHELVE, {"job_id": job_id, "first": job.first, "last": last}
    ).all()
    session.execute(_SET, {"ids": [*batches, *units], "shelved": job.paused})
    is_over = last >= job.last
    following: int | None = last + 1
    if len(batches) == ITEMS_PER_SHELVING:
        is_over, following = False, job.first
    elif is_over:
        # more of a paused job may be submitted; it is looked at again later
        following = job.last + 1 if job.paused and job.submission == "open" else None
    advance = {"job_id": job_id, "first": job.first, "next": following, "paused": job.paused}
    if session.execute(_ADVANCE, advance).first() is None:
        raise _TurnedError
    return not is_over


def _batches(session: Session, job: Row[tuple[object, ...]]) -> Sequence[int]:
    """Lock batches of a reprocess job that have to change."""
    statement = _BATCHES_TO_SHELVE if job.paused else _BATCHES_TO_UNSHELVE
    return session.scalars(statement, {"job_id": job.job_id, "limit": ITEMS_PER_SHELVING}).all()
