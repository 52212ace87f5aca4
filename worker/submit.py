"""Submission: what was found becomes media, analyses, units and job items, file by file in one transaction each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker import ledger
from worker.changed import retry_found
from worker.errors import FacetError, MediaError, UsageError
from worker.ingest import Found, Refused, plan_ranges
from worker.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.orm import Session, sessionmaker

    from worker.values import Prober

FILES_PER_TRANSACTION = 50
SUBMIT_LOCK = (
    0x7375626D  # "subm": batches are written one at a time, so that two jobs with the same files cannot deadlock
)
SEALED = "erased: somebody in this file was erased from the results, so it is not analysed again"
"""Reason of an analysis of a sealed file."""

Ranges = list[tuple[float | None, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a job asks for."""

    name: str
    release_id: int
    frames_per_second: float | None
    """Sampling; None for every frame."""
    unit_seconds: float
    """Length of the ranges into which a video is cut."""
    priority: int = 0
    """Units of a higher one come first; those of equal ones take turns."""
    keep_days: int | None = None
    """Days after which the job's files are erased, unless another job keeps them longer; None for never."""

    @property
    def sampling(self) -> str:
        """The word for it in the table: ``2/s`` or ``every``."""
        return "every" if self.frames_per_second is None else f"{self.frames_per_second:g}/s"

    def turns(self) -> Turns:
        """Begin to give out the turns of its units."""
        return Turns(self.release_id, self.priority, self.frames_per_second, self.unit_seconds)


@dataclass(slots=True)
class SubmitCounts:
    """What a submission came to."""

    job_id: int
    files: int = 0
    refused: int = 0
    known: int = 0
    """Files whose bytes were analysed or submitted before, in this job or another."""
    units: int = 0
    """New units of work."""


@dataclass(frozen=True, slots=True)
class _Writing:
    """A job that is being written."""

    submission: Submission
    decoder: Prober
    counts: SubmitCounts
    turns: Turns


def submit(
    sessions: sessionmaker[Session],
    items: Iterable[Found | Refused],
    submission: Submission,
    decoder: Prober,
    on_progress: Callable[[SubmitCounts], None] = lambda _: None,
) -> SubmitCounts:
    """Write a job; files that are known by their bytes join it without being analysed again.

    What is written is never half a file: each file's media row, analysis, units and item come in one transaction.

    Raises:
        UsageError: nothing was found to submit.
        FacetError: the job was cancelled meanwhile.
    """
    with sessions.begin() as session:
        counts = SubmitCounts(_insert_job(session, submission))
    writing = _Writing(submission, decoder, counts, submission.turns())
    batch: list[Found | Refused] = []
    for item in items:
        batch.append(item)
        if len(batch) >= FILES_PER_TRANSACTION:
            _write(sessions, batch, writing)
            batch = []
            on_progress(counts)
    _write(sessions, batch, writing)
    on_progress(counts)
    if not counts.files:
        with sessions.begin() as session:
            session.execute(text("DELETE FROM job WHERE job_id = :id"), {"id": counts.job_id})
        raise UsageError("no files were found in what was given; name files, folders or archives that hold some")
    return counts


def _insert_job(session: Session, submission: Submission) -> int:
    statement = text("""INSERT INTO job (name, options, keep_days) VALUES (:name, cast(:options AS jsonb), :keep_days)
                        RETURNING job_id""")
    asked = {"sampling": submission.sampling, "release_id": submission.release_id, "priority": submission.priority}
    options = json.dumps(asked)
    parameters = {"name": submission.name, "options": options, "keep_days": submission.keep_days}
    return int(session.execute(statement, parameters).scalar_one())


def lock_submissions(session: Session) -> None:
    """Wait until nobody writes a submission, and let nobody until the transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SUBMIT_LOCK})


def is_cancelled(session: Session, job_id: int) -> bool:
    """Whether somebody cancelled a job."""
    statement = text("SELECT EXISTS (SELECT FROM job WHERE job_id = :job_id AND cancelled_at IS NOT NULL)")
    return bool(session.execute(statement, {"job_id": job_id}).scalar_one())


def _write(sessions: sessionmaker[Session], batch: list[Found | Refused], writing: _Writing) -> None:
    counts = writing.counts
    found = [item for item in batch if isinstance(item, Found)]
    plans = _plan(sessions, found, writing.submission, writing.decoder)
    with sessions.begin() as session:
        lock_submissions(session)
        if is_cancelled(session, counts.job_id):
            raise FacetError(f"job {counts.job_id} was cancelled while its files were read; no more of it is submitted")
        writing.turns.catch_up(session)
        for item in batch:
            counts.files += 1
            if isinstance(item, Refused):
                media_id, analysis_id = _refuse(session, item), None
            else:
                media_id, analysis_id = _accept(session, item, plans.get(item.sha256), writing)
            counts.refused += analysis_id is None
            _insert_item(session, counts, item.uri, media_id, analysis_id)


def _plan(
    sessions: sessionmaker[Session], found: list[Found], submission: Submission, decoder: Prober
) -> dict[str, Ranges | MediaError]:
    """Cut the files that are new into ranges, before any row is locked: opening a hostile file may take a minute."""
    statement = text("""SELECT sha256 FROM media_file JOIN analysis USING (media_id)
                        WHERE release_id = :release_id AND sampling = :sampling AND sha256 = ANY(:hashes)""")
    parameters = {
        "release_id": submission.release_id,
        "sampling": submission.sampling,
        "hashes": [item.sha256 for item in found],
    }
    with sessions.begin() as session:
        known = set(session.scalars(statement, parameters))
    return {item.sha256: _ranges(item, submission, decoder) for item in found if item.sha256 not in known}


def _ranges(item: Found, submission: Submission, decoder: Prober) -> Ranges | MediaError:
    if item.kind == "image":
        return [(None, None)]
    try:
        return list(plan_ranges(decoder.probe(str(item.location), item.kind), submission.unit_seconds))
    except MediaError as err:
        return err


def _insert_item(session: Session, counts: SubmitCounts, uri: str, media_id: int, analysis_id: int | None) -> None:
    statement = text("""INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id)
                        VALUES (:job_id, :item_no, :uri, :media_id, :analysis_id)""")
    parameters = {
        "job_id": counts.job_id,
        "item_no": counts.files,
        "uri": uri,
        "media_id": media_id,
        "analysis_id": analysis_id,
    }
    session.execute(statement, parameters)


def _refuse(session: Session, item: Refused) -> int:
    """Give the media row of a refused file: the one that it got when it was refused for the same reason before."""
    parameters = {"uri": item.uri, "size": item.byte_size, "reason": f"{item.code}: {item.message}"}
    known = text("""SELECT media_id FROM media_file
                    WHERE sha256 IS NULL AND uri = :uri AND reason = :reason LIMIT 1""")
    media_id = session.execute(known, parameters).scalar()
    if media_id is None:
        statement = text("""INSERT INTO media_file (uri, byte_size, reason) VALUES (:uri, :size, :reason)
                            RETURNING media_id""")
        media_id = session.execute(statement, parameters).scalar_one()
    return int(media_id)


def _accept(
    session: Session, item: Found, plan: Ranges | MediaError | None, writing: _Writing
) -> tuple[int, int | None]:
    """Give media and analysis of a file; the analysis is None where the file cannot be opened.

    A sealed file joins an analysis that it has; any other would find who was erased from it, and ends at once.
    """
    media_id, sealed = _media(session, item)
    if isinstance(plan, MediaError) and not sealed:
        reason = {"reason": plan.reason, "media_id": media_id}
        session.execute(text("UPDATE media_file SET reason = :reason WHERE media_id = :media_id"), reason)
        return media_id, None
    submission = writing.submission
    fps = submission.frames_per_second
    analysis = session.execute(
        text("""INSERT INTO analysis (media_id, release_id, sampling, sample_interval_seconds)
                VALUES (:media_id, :release_id, :sampling, :interval)
                ON CONFLICT (media_id, release_id, sampling) DO UPDATE SET sampling = excluded.sampling
                RETURNING analysis_id, xmax = 0 AS is_new"""),
        {
            "media_id": media_id,
            "release_id": submission.release_id,
            "sampling": submission.sampling,
            "interval": None if fps is None or item.kind == "image" else 1 / fps,
        },
    ).one()
    if not analysis.is_new:
        _join(session, analysis.analysis_id, item, writing)
    elif sealed or isinstance(plan, MediaError):
        _reject_sealed(session, analysis.analysis_id)
    else:
        writing.counts.units += _insert_units(session, analysis.analysis_id, plan or [(None, None)], item, writing)
    return media_id, int(analysis.analysis_id)


def _reject_sealed(session: Session, analysis_id: int) -> None:
    statement = text("""UPDATE analysis SET state = 'rejected', reason = :reason, finished_at = now()
                        WHERE analysis_id = :analysis_id""")
    session.execute(statement, {"reason": SEALED, "analysis_id": analysis_id})


def _media(session: Session, item: Found) -> tuple[int, bool]:
    """Give the media row of a file and whether it is sealed; one that moved is found at its new place from now on."""
    statement = text("""
        INSERT INTO media_file (sha256, uri, location, stamp, kind, format, byte_size)
        VALUES (:sha256, :uri, :location, :stamp, :kind, :format, :size)
        ON CONFLICT (sha256) DO UPDATE
        SET location = excluded.location, stamp = excluded.stamp, kind = excluded.kind, reason = NULL
        RETURNING media_id, sealed_at IS NOT NULL AS is_sealed""")
    parameters = {
        "sha256": item.sha256,
        "uri": item.uri,
        "location": str(item.location),
        "stamp": item.stamp,
        "kind": item.kind,
        "format": item.format,
        "size": item.byte_size,
    }
    row = session.execute(statement, parameters).one()
    return int(row.media_id), bool(row.is_sealed)


def _join(session: Session, analysis_id: int, item: Found, writing: _Writing) -> None:
    """Take part in an analysis of another job, which waits no longer than here.

    What was cancelled of it is due again, as is a file that was rejected only because it was not found as submitted.
    """
    revived = ledger.revive_analysis(session, analysis_id) + retry_found(session, analysis_id)
    writing.turns.hasten(session, analysis_id, item.kind)
    writing.counts.units += revived
    writing.counts.known += not revived


def _insert_units(session: Session, analysis_id: int, ranges: Ranges, item: Found, writing: _Writing) -> int:
    statement = text("""
        INSERT INTO unit (analysis_id, release_id, ordinal, start_seconds, end_seconds, priority, turn)
        SELECT :id, :release_id, ordinal - 1, start_seconds, end_seconds, :priority, turn
        FROM unnest(cast(:starts AS double precision[]), cast(:ends AS double precision[]), cast(:turns AS bigint[]))
             WITH ORDINALITY AS part(start_seconds, end_seconds, turn, ordinal)
        RETURNING unit_id""")
    parameters = {
        "id": analysis_id,
        "release_id": writing.submission.release_id,
        "starts": [start for start, _ in ranges],
        "ends": [end for _, end in ranges],
        "turns": writing.turns.give(len(ranges), item.kind),
        "priority": writing.submission.priority,
    }
    writing.turns.note(max(session.scalars(statement, parameters)))
    return len(ranges)
