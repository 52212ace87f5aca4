"""Submits and analyses files in this process, without a broker: what `facet analyze` and the library do."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from worker.analysis.runner import Worker, decode_limits
from worker.decode.client import Decoder
from worker.ingest import IngestOptions, discover
from worker.ledger.due import count_open
from worker.ledger.submission.prober import FileProber
from worker.ledger.submission.submit import submit
from worker.ledger.upkeep.staged_members import open_sources
from worker.releases.folders import ReleaseFolders

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from worker.analysis.pipeline import Totals
    from worker.config import Settings
    from worker.ledger.submission.job import Submission, SubmitCounts
    from worker.storage.database import Database

UNIT_WAIT_SECONDS = 0.5  # between two looks at units that other workers hold or that wait for another attempt


def make_worker(config: Settings, database: Database) -> Worker:
    """Return a worker of the release that new files are submitted under."""
    folders = ReleaseFolders(config, database.sessions)
    return Worker(config, database, folders.load(folders.submitted().release_id))


def submit_files(
    config: Settings,
    database: Database,
    paths: Sequence[str],
    submission: Submission,
    show_count: Callable[[SubmitCounts], None],
    stopped: Callable[[], bool],
) -> SubmitCounts:
    """Submit the files that the paths name, until ``stopped``; return the counts of the job."""
    options = IngestOptions(roots=config.media_roots, cache_bytes=config.cache_bytes, selection=submission.selection)
    found = discover(list(paths), options, config.staging)
    sources = open_sources(config, database.sessions)
    with Decoder(decode_limits(config)) as decoder:
        prober = FileProber(decoder, sources)
        try:
            return submit(database.sessions, prober.remember(found), submission, prober, show_count, stopped)
        finally:  # copies of members that were refused or not submitted are not needed
            with suppress(DBAPIError), database.sessions.begin() as session:
                sources.evict_members(session)


def work_on(
    worker: Worker,
    database: Database,
    job_id: int,
    stop: threading.Event,
    show: Callable[[Totals], None] = lambda _: None,
) -> None:
    """Work until this job has no open unit, or until the event is set; other workers may take part.

    It does not wait for files that this host cannot read.
    """
    while not stop.is_set():
        worker.drain(stop, show, job_id=job_id)
        with database.sessions.begin() as session:
            is_open = count_open(session, job_id, worker.unreachable.places())
        if stop.is_set() or not is_open:
            break
        stop.wait(UNIT_WAIT_SECONDS)
