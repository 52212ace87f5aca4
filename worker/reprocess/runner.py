"""Leases batches of reprocess jobs in a worker process, computes them, and plans what is lacking next.

A batch is stored by a thread while the next one is computed. New submissions go first: the caller reports when units of
analyses are due, and the runner returns.
"""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from models.trunks.registry import layout_of
from worker import metrics
from worker.analysis.runner import decode_limits
from worker.errors import FacetError, LeaseLostError, MediaError, RetryableError, described
from worker.identity.proposals import regroup_people
from worker.identity.regroup import alarm_of
from worker.ledger.batches import quarantine_exhausted_batches
from worker.ledger.due import has_batch
from worker.ledger.leases import LeaseHolder, make_owner
from worker.ledger.units import Lease, fail_unit, release_units
from worker.ledger.upkeep.staged_members import open_sources
from worker.releases.folders import ReleaseFolders
from worker.releases.serving import RELEASE_SKIP_SECONDS
from worker.reprocess import plan as planning
from worker.reprocess.batches import appearances, faces, joining
from worker.reprocess.batches.restore import MediaAccess, Restorer
from worker.reprocess.batches.rows import end_batch, store_batch
from worker.reprocess.engines import Engines
from worker.reprocess.target import read_target
from worker.storage.crops import CropStore
from worker.storage.database import database_failure, is_unreachable
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from sqlalchemy.orm import Session, sessionmaker

    from worker.analysis.pipeline import StopSignal
    from worker.config import Settings
    from worker.ledger.batches import Batch
    from worker.ledger.units import HeldUnit
    from worker.reprocess.batches.rows import BatchRows
    from worker.reprocess.engines import Folders
    from worker.reprocess.target import Target
    from worker.storage.database import Database

logger = logging.getLogger(__name__)

RECLAIM_SECONDS = 30.0  # between two looks for batches of dead workers


def make_reprocessor(config: Settings, database: Database) -> Reprocessor:
    """Return the reprocessor of a process; releases come from the release store."""
    media = MediaAccess(open_sources(config, database.sessions), decode_limits(config), config.video_reader)
    return Reprocessor(config, database.sessions, ReleaseFolders(config, database.sessions), media)


class Reprocessor:
    """Fills in what releases lack.

    Args:
        settings: of this deployment.
        sessions: of its database.
        folders: of the releases.
        media: how files are opened, for faces whose crops are gone.
    """

    def __init__(
        self, settings: Settings, sessions: sessionmaker[Session], folders: Folders, media: MediaAccess
    ) -> None:
        self._settings, self._sessions, self._media = settings, sessions, media
        self._engines = Engines(folders, settings.device)
        self._crops = CropStore(settings.crops)
        self._owner = make_owner()
        self._unreturned: list[HeldUnit] = []
        self._targets: dict[tuple[int, int], Target] = {}
        self._skipped_until: dict[int, float] = {}
        self._rest_until = 0.0
        self._reconcile_at = 0.0

    def drain(
        self,
        stop: StopSignal,
        *,
        jobs: Sequence[int] | None = None,
        seconds: float = math.inf,
        yields: Callable[[], bool] = lambda: False,
        on_batch: Callable[[Batch], None] = lambda _: None,
    ) -> None:
        """Work until nothing is lacking, ``seconds`` are over, ``stop`` is set or ``yields`` is true.

        Args:
            stop: ends the work after the batch in flight.
            jobs: only these; None for all.
            seconds: after which no more batches are taken.
            yields: whether other work is due in this process.
            on_batch: called when a batch has ended.

        Raises:
            RetryableError: database, crop store or release store are unreachable.
        """
        until = time.monotonic() + seconds
        self._reconcile_at = 0.0
        lease = Lease(
            owner=self._owner,
            release_id=0,  # batches name theirs
            seconds=self._settings.lease_seconds,
            max_attempts=self._settings.max_attempts,
        )
        try:
            with (
                LeaseHolder(self._sessions, lease, seconds, None, self._unreturned) as leases,
                ThreadPoolExecutor(1, "store") as pool,
            ):
                loop = _Loop(self, leases, pool, on_batch, skips=jobs is None)
                while not stop.is_set() and time.monotonic() < until and not yields():
                    if not self._step(loop, leases, jobs):
                        break
                loop.wait()
        except DBAPIError as err:
            raise database_failure(err) if is_unreachable(err) else err from err
        finally:
            self._engines.close()

    def has_work(self) -> bool:
        """Whether a batch is due, or has to be planned, that this process can do; beat looks again later."""
        if any(until > time.monotonic() for until in self._skipped_until.values()):
            return False
        with self._sessions.begin() as session:
            return has_batch(session)

    def _step(self, loop: _Loop, leases: LeaseHolder, jobs: Sequence[int] | None) -> bool:
        """Take and compute a batch, or plan; return whether there may be more to do."""
        self._reconcile()
        rest = self._rest_until - time.monotonic()
        if rest > 0:
            time.sleep(min(rest, 0.2))
            return True
        skipped = [release for release, until in self._skipped_until.items() if until > time.monotonic()]
        batch = leases.take_batch(jobs, skipped)
        if batch is None and loop.is_busy:
            loop.wait()  # a suspect is taken alone, and the last batch of a job has to end before it is planned
            batch = leases.take_batch(jobs, skipped)
        if batch is None:
            return self._plan(jobs)
        began = time.monotonic()
        loop.run(batch)
        spent = time.monotonic() - began
        self._rest_until = time.monotonic() + spent * (1 / batch.share - 1)
        return True

    def _plan(self, jobs: Sequence[int] | None) -> bool:
        """Plan the jobs that have no open batch; return whether one of them has batches now."""
        with self._sessions.begin() as session:
            found = planning.read_unplanned(session, jobs)
        planned = False
        for job_id in found:
            done = run_transaction(self._sessions, "plan", partial(planning.plan, job_id=job_id))
            if done is not None:
                facts = {
                    "action": "reprocess_planned",
                    "job_id": job_id,
                    "batches": done.batches,
                    "faces": done.faces,
                    "has_ended": done.has_ended,
                }
                logger.info("batches were planned", extra=facts)
                planned = planned or (bool(done.batches) and not done.has_ended)
        return planned

    def _reconcile(self) -> None:
        if time.monotonic() >= self._reconcile_at:
            most = self._settings.max_attempts
            run_transaction(self._sessions, "quarantine", lambda session: quarantine_exhausted_batches(session, most))
            self._reconcile_at = time.monotonic() + RECLAIM_SECONDS

    def target(self, batch: Batch) -> Target:
        """Return the release of a batch; that of a job never changes."""
        key = (batch.job_id, batch.release_id)
        if key not in self._targets:
            with self._sessions.begin() as session:
                self._targets = {key: read_target(session, batch.release_id)}
        return self._targets[key]

    def compute(self, batch: Batch, target: Target, watch: faces.Stopwatch) -> BatchRows | None:
        """Return the rows of a batch of faces; a batch of another kind is computed and stored in one transaction."""
        sessions = self._sessions
        if batch.way == "reading":
            return faces.from_scores(sessions, batch, target, watch)
        if batch.way == "embedding":
            return faces.from_embeddings(sessions, batch, target, self._engines.heads(batch), watch)
        if batch.way == "crops":
            return faces.from_crops(sessions, batch, target, self._engines.model(batch), self._crops, watch)
        if batch.way == "appearances":
            appearances.fill_in(sessions, batch, target, watch)
        elif batch.way == "joining":
            joining.join_files(sessions, batch, target, watch)
        elif batch.way == "people":
            with watch.time("compute"):
                # those of the same places first; what would change beyond the alarm waits as a proposal
                regroup_people(sessions, target.ids.trunk_id, alarm_of(self._settings))
            run_transaction(sessions, "reprocess", lambda session: end_batch(session, batch, watch.seconds))
        else:
            layout = layout_of(target.trunk_name)
            restorer = Restorer(sessions, self._crops, self._media, layout)
            restorer.restore(batch, target, watch, is_last=batch.attempts >= self._settings.max_attempts)
        return None

    def store(self, batch: Batch, target: Target, rows: BatchRows, watch: faces.Stopwatch) -> None:
        """Write the rows of a batch with its end."""
        began = time.perf_counter()
        store_batch(self._sessions, batch, target, rows, lambda: watch.seconds | {"store": time.perf_counter() - began})

    def skip(self, batch: Batch, error: FacetError) -> None:
        """Return a batch untouched, and take none of its release for a while."""
        facts = {"action": "release_skipped", "release_id": batch.release_id}
        logger.warning("a release cannot be loaded, and its batches wait: %s", error, extra=facts)
        self._skipped_until[batch.release_id] = time.monotonic() + RELEASE_SKIP_SECONDS
        run_transaction(self._sessions, "return", lambda session: release_units(session, [batch]))
        metrics.count_unit("left")

    def fail(self, batch: Batch, error: BaseException) -> None:
        """Count a failed attempt at a batch."""
        facts = {"action": "reprocess_failed", "unit_id": batch.unit_id, "way": batch.way}
        logger.warning("a batch of faces failed: %s", described(error), extra=facts)
        reason = f"reprocess: {described(error)}"
        most = self._settings.max_attempts
        try:
            is_last = run_transaction(self._sessions, "fail", lambda session: fail_unit(session, batch, reason, most))
        except LeaseLostError:
            metrics.count_unit("lost")
        else:
            metrics.count_unit("quarantined" if is_last else "failed", "reprocess")


def _is_no_fault(error: BaseException) -> bool:
    """Whether a batch is returned untouched: a service is unreachable, or this host lacks a release."""
    if isinstance(error, FacetError):
        return not isinstance(error, LeaseLostError | MediaError)
    return is_unreachable(error)


class _Loop:
    """Computes batches in the caller's thread, and stores each while the next one is computed."""

    def __init__(
        self,
        owner: Reprocessor,
        leases: LeaseHolder,
        pool: ThreadPoolExecutor,
        on_batch: Callable[[Batch], None],
        *,
        skips: bool,
    ) -> None:
        self._owner, self._leases, self._pool, self._on_batch = owner, leases, pool, on_batch
        self._skips = skips
        self._storing: Future[None] | None = None
        self._batch: Batch | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a batch is being stored."""
        return self._storing is not None

    def run(self, batch: Batch) -> None:
        """Compute a batch, and begin to store it once the one before it is stored.

        Raises:
            RetryableError: a service is unreachable.
        """
        watch = faces.Stopwatch()
        try:
            target = self._owner.target(batch)
            rows = self._owner.compute(batch, target, watch)
        except Exception as err:  # noqa: BLE001 - counted as a failed attempt of this batch, unless a service is away
            self._settle(batch, err)
            return
        self.wait()
        if rows is None:
            self._settle(batch, None)
            return
        self._batch = batch
        self._storing = self._pool.submit(self._owner.store, batch, target, rows, watch)

    def wait(self) -> None:
        """Wait until the batch that is being stored has ended."""
        if self._storing is None or self._batch is None:
            return
        error = self._storing.exception()
        batch, self._storing, self._batch = self._batch, None, None
        self._settle(batch, error)

    def _settle(self, batch: Batch, error: BaseException | None) -> None:
        """Count the attempt, and forget the batch; errors of services are raised, so that the batch is returned."""
        if error is not None and _is_no_fault(error):
            if not self._skips or not isinstance(error, FacetError) or isinstance(error, RetryableError):
                raise error
            self._owner.skip(batch, error)
            self._leases.drop(batch)
            return
        if isinstance(error, LeaseLostError):
            metrics.count_unit("lost")
        elif error is not None:
            self._owner.fail(batch, error)
        else:
            metrics.count_unit("done")
            metrics.count_reprocessed(batch.way, batch.face_count)
        self._leases.drop(batch)
        self._on_batch(batch)
