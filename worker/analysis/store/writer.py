"""The writer: one thread that stores crops and complete units, many per transaction, beside the model."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from sqlalchemy.exc import DBAPIError

from worker import metrics
from worker.analysis.results import UnitResult
from worker.analysis.store.face_rows import CompleteUnit, store_rows, strip_name
from worker.analysis.store.rows import end_unit
from worker.analysis.tracking.joining import MAX_UNIT_FACES, join_unit
from worker.errors import AttemptFailed, FinishFailed, LeaseLostError, MediaChanged, MediaUnreachable, described
from worker.ledger import analyses
from worker.ledger import units as ledger
from worker.ledger.changed import reject_changed
from worker.ledger.locks import lock_work
from worker.ledger.units import leave_unit
from worker.ledger.upkeep.orphans import remove_attempt, remove_orphans
from worker.storage.database import database_failure, is_unreachable
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session, sessionmaker

    from worker.analysis.tracking.joining import Joined
    from worker.ledger.leases import LeaseHolder
    from worker.ledger.releases import HeadSpec, ReleaseIds
    from worker.ledger.units import LeasedUnit
    from worker.storage.crops import CropStore

logger = logging.getLogger(__name__)

QUEUE_LENGTH = 256  # jobs that may wait for the writer; when there are more, the pipeline waits
JOBS_PER_TRANSACTION = 64


@dataclass(slots=True)
class _Strip:
    """Crops of one unit, gathered until their strip is full."""

    number: int
    crops: list[NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class _Crops:
    unit: LeasedUnit
    strip: int
    crops: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Failed:
    result: UnitResult


_Job = _Crops | UnitResult | _Failed


@dataclass(frozen=True, slots=True)
class WriterContext:
    """Stores, leases and release of a worker: all that writing needs."""

    sessions: sessionmaker[Session]
    leases: LeaseHolder
    crops: CropStore
    release: ReleaseIds
    heads: Mapping[str, HeadSpec]
    max_attempts: int


class Writer:
    """Stores results of the pipeline; its first failure is raised by the next call."""

    def __init__(self, context: WriterContext) -> None:
        self._context = context
        self._queue: queue.Queue[_Job | None] = queue.Queue(QUEUE_LENGTH)
        self._strips: dict[int, _Strip] = {}
        self._joined: dict[int, Joined] = {}
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="writer", daemon=True)
        self.seconds = 0.0
        """Time spent writing."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()

    def add_crops(self, unit: LeasedUnit, strip: int, crops: NDArray[np.uint8]) -> None:
        """Append crops to a strip of a unit, which is written when the next one begins or the unit is stored.

        Args:
            unit: still in flight.
            strip: its number in the unit, that of the call before or the next one.
            crops: (K, S, S, 3) uint8 RGB, at least one.
        """
        self._put(_Crops(unit, strip, crops))

    def store(self, result: UnitResult) -> None:
        """Store a complete unit."""
        self._put(result)

    def fail(self, result: UnitResult) -> None:
        """Record a failed attempt, reject a file that changed, or leave the unit to a host that has its file."""
        self._put(_Failed(result))

    def wait(self) -> None:
        """Wait until everything handed over is stored.

        Raises:
            RetryableError: database or crop store is unreachable.
        """
        self._queue.join()
        self._raise()

    def _put(self, item: _Job) -> None:
        self._raise()
        self._queue.put(item)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _serve(self) -> None:
        while True:
            items = self._take()
            work = [item for item in items if item is not None]
            if self._error is None:
                self._try(work)
            for _ in items:
                self._queue.task_done()
            if len(work) < len(items):
                return

    def _take(self) -> list[_Job | None]:
        """Wait for one job, then take those queued behind it."""
        items = [self._queue.get()]
        while len(items) < JOBS_PER_TRANSACTION and not self._queue.empty():
            items.append(self._queue.get())
        return items

    def _try(self, work: Sequence[_Job]) -> None:
        started = time.perf_counter()
        try:
            self._work(work)
        except DBAPIError as err:
            self._error = database_failure(err) if is_unreachable(err) else err
        except Exception as err:  # noqa: BLE001 - handed to the pipeline's thread, which raises it
            self._error = err
        except BaseException as err:  # noqa: BLE001 - this thread is never asked to exit: an error like any other
            self._error = RuntimeError(described(err))
        spent = time.perf_counter() - started
        self.seconds += spent
        metrics.count_seconds("store", spent)

    def _work(self, work: Sequence[_Job]) -> None:
        """Run jobs in order, and store the complete units among them in one transaction."""
        complete: list[UnitResult] = []
        failed: list[UnitResult] = []
        for item in work:
            if isinstance(item, _Crops):
                self._keep_crops(item)
            elif isinstance(item, _Failed):
                self._strips.pop(item.result.unit.unit_id, None)
                failed.append(item.result)
            else:
                self._close_strip(item.unit)
                error = self._join(item)
                if error is None:
                    complete.append(item)
                else:
                    failed.append(replace(item, error=error))
        self._record(complete, self._store)
        self._record(failed, self._fail)

    def _join(self, result: UnitResult) -> FinishFailed | None:
        """Build the appearances of a unit that is a whole analysis; returns the error where that fails."""
        if not result.unit.is_whole or not 0 < result.face_count <= MAX_UNIT_FACES:
            return None
        try:
            self._joined[result.unit.unit_id] = join_unit(result, self._context.heads)
        except BaseException as err:  # noqa: BLE001 - this file caused it, whatever it is
            facts = {"action": "finish_failed", "unit_id": result.unit.unit_id, "error": described(err)}
            logger.warning("the faces of a file could not be joined to appearances", extra=facts)
            return FinishFailed(err)
        return None

    def _keep_crops(self, job: _Crops) -> None:
        """Append crops to the unit's strip; a new strip writes the one before it."""
        strip = self._strips.get(job.unit.unit_id)
        if strip is not None and strip.number == job.strip:
            strip.crops.append(job.crops)
            return
        self._close_strip(job.unit)
        self._strips[job.unit.unit_id] = _Strip(job.strip, [job.crops])

    def _close_strip(self, unit: LeasedUnit) -> None:
        strip = self._strips.pop(unit.unit_id, None)
        if strip is not None:
            self._context.crops.write(strip_name(unit, strip.number), np.concatenate(strip.crops))

    def _record(
        self, results: Sequence[UnitResult], write: Callable[[Session, Sequence[UnitResult]], list[bool]]
    ) -> None:
        if not results:
            return
        results = sorted(results, key=lambda result: (result.unit.media_id, result.unit.unit_id))
        changed = {result.unit.analysis_id for result in results if isinstance(result.error, MediaChanged)}

        def record(session: Session) -> list[bool]:
            lock_work(session, [result.unit for result in results], changed)
            ours = write(session, results)
            held = [result.unit for result, is_ours in zip(results, ours, strict=True) if is_ours]
            analyses.end_analyses(session, {unit.analysis_id: unit.unit_id in self._joined for unit in held})
            return ours

        stored = run_transaction(self._context.sessions, "store", record)
        for result, ours in zip(results, stored, strict=True):
            self._context.leases.drop(result.unit)
            self._joined.pop(result.unit.unit_id, None)
            self._count(result, ours=ours)
            if not ours:
                remove_attempt(self._context.crops, result.unit)
        stale = [result.unit.analysis_id for result in results if _leaves_crops(result)]
        remove_orphans(self._context.sessions, self._context.crops, stale)

    def _count(self, result: UnitResult, *, ours: bool) -> None:
        """Count the attempt in the metrics after its transaction committed."""
        reason = None if result.error is None else result.error.code
        if not ours:
            metrics.count_unit("lost")
        elif isinstance(result.error, MediaUnreachable):
            metrics.count_unit("left")
        elif isinstance(result.error, AttemptFailed):
            is_last = result.unit.attempts >= self._context.max_attempts
            metrics.count_unit("quarantined" if is_last else "failed", reason)
        else:
            rejected = isinstance(result.error, MediaChanged) or (reason is not None and not result.frame_count)
            metrics.count_unit("rejected" if rejected else "done", reason)
            metrics.count_work(result.frame_count, result.face_count, result.stage_seconds)

    def _store(self, session: Session, results: Sequence[UnitResult]) -> list[bool]:
        """Write complete units, the outcome of each first; return which of them were still held."""
        ours = [self._guarded(session, result, end_unit) for result in results]
        held = [result for result, is_ours in zip(results, ours, strict=True) if is_ours]
        units = [CompleteUnit(result, self._joined.get(result.unit.unit_id)) for result in held]
        store_rows(session, units, self._context.release)
        return ours

    def _fail(self, session: Session, results: Sequence[UnitResult]) -> list[bool]:
        """Write failed attempts; return which of them were still held."""
        return [self._guarded(session, result, self._fail_one) for result in results]

    def _fail_one(self, session: Session, result: UnitResult) -> None:
        if isinstance(result.error, MediaUnreachable):
            leave_unit(session, result.unit, result.error)
            return
        if isinstance(result.error, MediaChanged):
            reject_changed(session, result.unit, result.error)
            return
        reason = result.error.reason if result.error is not None else "unknown: no reason was given"
        ledger.fail_unit(session, result.unit, reason, self._context.max_attempts)

    def _guarded(self, session: Session, result: UnitResult, write: Callable[[Session, UnitResult], None]) -> bool:
        """Write one unit; returns False when its lease was lost, which shows before any row of it is written."""
        try:
            write(session, result)
        except LeaseLostError as err:
            facts = {"action": "lease_lost", "unit_id": result.unit.unit_id, "error": str(err)}
            logger.warning("lease lost", extra=facts)
            return False
        return True


def _leaves_crops(result: UnitResult) -> bool:
    """Return whether this attempt or an earlier one may have written crops that no row names."""
    return result.unit.token > 1 or isinstance(result.error, (AttemptFailed, MediaChanged))
