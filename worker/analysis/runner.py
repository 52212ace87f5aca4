"""A worker: one loaded release on one device that drains the ledger, for ``facet analyze`` and for Celery tasks."""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from sqlalchemy.exc import DBAPIError

from worker import metrics
from worker.analysis.malloc import trim
from worker.analysis.pipeline import Pipeline, PipelineOptions, Totals
from worker.analysis.recognition import LANES
from worker.analysis.store.finisher import Finisher
from worker.analysis.store.writer import Writer, WriterContext
from worker.errors import FacetError
from worker.identity.identifier import Identifier
from worker.ledger import analyses, releases
from worker.ledger import units as ledger
from worker.ledger.leases import LeaseHolder, make_owner
from worker.ledger.unreachable.places import UnreachablePlaces
from worker.ledger.upkeep.orphans import remove_orphans
from worker.ledger.upkeep.staged_members import open_sources
from worker.storage.crops import CropStore
from worker.storage.database import database_failure, is_unreachable
from worker.storage.transactions import run_transaction
from worker.types import DecodeLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from models.release import Release
    from worker.analysis.pipeline import StopSignal
    from worker.config import Settings
    from worker.ledger.units import HeldUnit
    from worker.storage.database import Database

logger = logging.getLogger(__name__)

TRIM_SECONDS = 30.0  # between two trims; the pages of one are mapped again within a tenth of a second


def decode_limits(settings: Settings) -> DecodeLimits:
    """Return the limits of decode children."""
    return DecodeLimits(
        memory_bytes=settings.decode_memory_bytes,
        wall_seconds=settings.decode_wall_seconds,
        total_seconds=settings.decode_unit_seconds,
    )


def reconcile(settings: Settings, sessions: sessionmaker[Session], lease: ledger.Lease) -> None:
    """Quarantine exhausted units of a release and end forgotten analyses of dead workers, each in its transaction.

    Raises:
        RetryableError: database or crop store is unreachable.
    """
    try:
        given_up = run_transaction(sessions, "quarantine", lambda s: ledger.quarantine_exhausted(s, lease))
        with sessions() as session:
            forgotten = analyses.read_unsettled(session, lease.release_id)
        for analysis_id in forgotten:
            run_transaction(sessions, "end", partial(analyses.end_analysis, analysis_id=analysis_id))
        given_up += forgotten
        remove_orphans(sessions, CropStore(settings.crops), given_up)
    except DBAPIError as err:
        raise database_failure(err) from err


def make_lease(settings: Settings, owner: str, release_id: int) -> ledger.Lease:
    """Return the terms of a worker's leases."""
    return ledger.Lease(
        owner=owner, release_id=release_id, seconds=settings.lease_seconds, max_attempts=settings.max_attempts
    )


class Worker:
    """Analyses the units that are due, under the release that it has loaded.

    Args:
        settings: of this deployment.
        database: open and current.
        release: loaded.
    """

    def __init__(self, settings: Settings, database: Database, release: Release) -> None:
        self._settings = settings
        self._sessions = database.sessions
        self._release = release
        self._heads = releases.head_specs(release)
        self._owner = make_owner()
        with self._sessions.begin() as session:
            self.ids = releases.register_release(session, release.manifest)
        self._unreturned: list[HeldUnit] = []
        self._trim_at = 0.0
        self.unreachable = UnreachablePlaces()
        self._sources = open_sources(settings, self._sessions)
        self.identifier = Identifier(self._sessions, self.ids.trunk_id)
        threads = settings.threads or os.cpu_count() or 1
        torch.set_num_threads(max(1, threads // LANES))

    def drain(
        self,
        stop: StopSignal,
        on_progress: Callable[[Totals], None] = lambda _: None,
        seconds: float = math.inf,
        job_id: int | None = None,
    ) -> None:
        """Work until no unit is due (of the job, if one is given), ``seconds`` are over or ``stop`` is set.

        An error counts as an attempt of each unit in flight, since any of them may have caused it. From then on each is
        leased alone, so that the guilty one is found and quarantined.

        Raises:
            RetryableError: database or crop store is unreachable.
        """
        until = time.monotonic() + seconds
        while not stop.is_set():
            lease = replace(self._lease(), job_id=job_id)
            reconcile(self._settings, self._sessions, lease)
            try:
                return self._drain(stop, on_progress, until - time.monotonic(), lease)
            except FacetError:
                raise
            except Exception as err:
                if isinstance(err, DBAPIError) and is_unreachable(err):
                    raise database_failure(err) from err
                facts = {"action": "batch_failed", "owner": self._owner}
                trace = logger.isEnabledFor(logging.DEBUG)
                logger.warning("a batch failed and is tried again: %r", err, exc_info=trace, extra=facts)
        return None

    def _trim(self) -> None:
        if time.monotonic() >= self._trim_at:
            trim()
            self._trim_at = time.monotonic() + TRIM_SECONDS
            if self.is_on_gpu:
                metrics.note_gpu_memory(torch.cuda.memory_reserved(torch.device(self._release.device)))

    @property
    def is_on_gpu(self) -> bool:
        """Whether the release was loaded on a GPU."""
        return torch.device(self._release.device).type == "cuda"

    def _lease(self) -> ledger.Lease:
        return make_lease(self._settings, self._owner, self.ids.release_id)

    def _drain(
        self, stop: StopSignal, on_progress: Callable[[Totals], None], seconds: float, lease: ledger.Lease
    ) -> None:
        settings = self._settings
        options = PipelineOptions(
            decoders=settings.decoders,
            limits=decode_limits(settings),
            video_reader=settings.video_reader,
            queue_bytes=settings.queue_bytes,
            sources=self._sources,
            max_tiles=settings.max_tiles,
        )

        def tick(totals: Totals) -> None:
            self.identifier.tick()
            self._trim()
            on_progress(totals)

        with LeaseHolder(self._sessions, lease, seconds, self.unreachable, self._unreturned) as leases:
            crops = CropStore(settings.crops)
            context = WriterContext(self._sessions, leases, crops, self.ids, self._heads, settings.max_attempts)
            with Writer(context) as writer, Finisher(context) as finisher:
                Pipeline(self._release, leases, writer, finisher, options).run(stop, tick)
        with self._sessions.begin() as session:
            self._sources.evict(session)
