"""Submission: found files become media, analyses, units and job items, a batch of files in each transaction."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from worker.errors import FacetError, MediaError, MediaRejected, UsageError
from worker.ingest import FoundFile, RangeOptions, RefusedFile, plan_ranges
from worker.ledger.submission.accept import WHOLE, Plan, write_batch
from worker.ledger.submission.job import SubmitCounts, Writing
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.orm import Session, sessionmaker

    from worker.ledger.submission.accept import Plans
    from worker.ledger.submission.job import Submission
    from worker.types import Prober

logger = logging.getLogger(__name__)

FILES_PER_TRANSACTION = 50
SUBMIT_LOCK = (
    0x7375626D  # "subm": batches are written one at a time, so that two jobs with the same files cannot deadlock
)


def submit(
    sessions: sessionmaker[Session],
    items: Iterable[FoundFile | RefusedFile],
    submission: Submission,
    decoder: Prober,
    on_progress: Callable[[SubmitCounts], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> SubmitCounts:
    """Write a job; files whose bytes are known join it without being analysed again.

    The media row, analysis, units and item of a file are written in one transaction. The job records whether all files
    were written: if this fails or is stopped, its submission is ``broken``.

    Raises:
        UsageError: no file was found.
        FacetError: the job was cancelled meanwhile.
    """
    with sessions.begin() as session:
        counts = SubmitCounts(_insert_job(session, submission))
    writing = Writing(submission, decoder, counts, submission.fair_queue())
    try:
        _write_all(sessions, items, writing, on_progress, stopped)
    except BaseException:
        with suppress(DBAPIError):  # of an unreachable database; a job without writes for an hour is broken, too
            _end(sessions, counts.job_id, "broken")
        raise
    if not counts.files:
        with sessions.begin() as session:
            session.execute(text("DELETE FROM job WHERE job_id = :id"), {"id": counts.job_id})
        raise UsageError("the given paths hold no files; name files, folders or archives that hold some")
    _end(sessions, counts.job_id, "broken" if stopped() else "ended")
    return counts


def _write_all(
    sessions: sessionmaker[Session],
    items: Iterable[FoundFile | RefusedFile],
    writing: Writing,
    on_progress: Callable[[SubmitCounts], None],
    stopped: Callable[[], bool],
) -> None:
    batch: list[FoundFile | RefusedFile] = []
    for item in items:
        if stopped():
            break
        batch.append(item)
        if len(batch) >= FILES_PER_TRANSACTION:
            _write(sessions, batch, writing)
            batch = []
            on_progress(writing.counts)
    _write(sessions, batch, writing)
    on_progress(writing.counts)


def _end(sessions: sessionmaker[Session], job_id: int, how: str) -> None:
    statement = text("UPDATE job SET submission = :how, written_at = now() WHERE job_id = :id")
    with sessions.begin() as session:
        session.execute(statement, {"how": how, "id": job_id})


def _insert_job(session: Session, submission: Submission) -> int:
    statement = text("""INSERT INTO job (name, options, keep_days, submission, written_at)
                        VALUES (:name, cast(:options AS jsonb), :keep_days, 'open', now()) RETURNING job_id""")
    asked = {
        "sampling": submission.sampling,
        "release_id": submission.release.release_id,
        "priority": submission.priority,
    }
    options = json.dumps(asked)
    parameters = {"name": submission.name, "options": options, "keep_days": submission.keep_days}
    return int(session.execute(statement, parameters).scalar_one())


def lock_submissions(session: Session) -> None:
    """Take the lock of submissions until the transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SUBMIT_LOCK})


def is_cancelled(session: Session, job_id: int) -> bool:
    """Whether a job was cancelled."""
    statement = text("SELECT EXISTS (SELECT FROM job WHERE job_id = :job_id AND cancelled_at IS NOT NULL)")
    return bool(session.execute(statement, {"job_id": job_id}).scalar_one())


def _write(sessions: sessionmaker[Session], batch: list[FoundFile | RefusedFile], writing: Writing) -> None:
    found = [item for item in batch if isinstance(item, FoundFile)]
    plans = _plan(sessions, found, writing.submission, writing.decoder)
    job_id = writing.counts.job_id

    def write(session: Session) -> Writing:
        trial = writing.copy()  # a transaction that is tried again begins with the same counts and turns
        lock_submissions(session)
        if is_cancelled(session, job_id):
            raise FacetError(f"job {job_id} was cancelled while its files were read; no more of it is submitted")
        trial.queue.catch_up(session)
        write_batch(session, batch, plans, trial)
        session.execute(text("UPDATE job SET written_at = now() WHERE job_id = :id"), {"id": job_id})
        return trial

    writing.keep(run_transaction(sessions, "submit", write))


def _plan(sessions: sessionmaker[Session], found: list[FoundFile], submission: Submission, decoder: Prober) -> Plans:
    """Cut new videos into ranges, before any row is locked: opening a hostile file may take a minute."""
    statement = text("""SELECT sha256 FROM media_file JOIN analysis USING (media_id)
                        WHERE finder_id = :finder_id AND sampling = :sampling AND sha256 = ANY(:hashes)""")
    videos = {item.sha256: item for item in found if item.kind == "video"}
    parameters = {
        "finder_id": submission.release.finder_id,
        "sampling": submission.sampling,
        "hashes": list(videos),
    }
    with sessions.begin() as session:
        known = set(session.scalars(statement, parameters))
    return {key: _ranges(item, submission, decoder) for key, item in videos.items() if key not in known}


def _ranges(item: FoundFile, submission: Submission, decoder: Prober) -> Plan | MediaRejected:
    """Cut a video into ranges; if this host cannot open it now, it is one range, and a worker tries it."""
    try:
        info = decoder.probe(str(item.location), item.kind)
    except MediaRejected as err:
        return err
    except MediaError as err:
        facts = {"action": "probe_failed", "uri": item.uri, "reason": err.reason}
        logger.warning("a file could not be opened and is left to a worker, in one range", extra=facts)
        return WHOLE
    options = RangeOptions(
        range_seconds=submission.unit_seconds,
        byte_size=item.byte_size,
        frames_per_second=submission.frames_per_second,
    )
    return Plan(plan_ranges(info, options), info.duration_seconds)
