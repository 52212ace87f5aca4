"""The finisher: one thread that runs the finish units of a worker beside the model and the writer."""

from __future__ import annotations

import logging
import queue
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Self

from sqlalchemy.exc import DBAPIError

from worker import metrics
from worker.analysis.store.finish import finish_leased
from worker.errors import FinishFailed, LeaseLostError, RetryableError
from worker.ledger import analyses
from worker.ledger import units as ledger
from worker.ledger.locks import lock_work
from worker.masking import masked
from worker.storage.database import database_failure, is_unreachable
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy.orm import Session

    from worker.analysis.store.writer import WriterContext
    from worker.ledger.units import LeasedUnit

logger = logging.getLogger(__name__)


class _Stopped(Exception):
    """The worker ends."""


class Finisher:
    """Joins the faces of analyses to appearances; an error counts as an attempt of its own unit alone."""

    def __init__(self, context: WriterContext) -> None:
        self._context = context
        self._queue: queue.Queue[LeasedUnit | None] = queue.Queue()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="finisher", daemon=True)
        self.seconds = 0.0
        """Time spent finishing."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._queue.put(None)
        self._thread.join()

    @property
    def is_busy(self) -> bool:
        """Whether a unit waits or is being finished.

        Raises:
            RetryableError: the database is unreachable.
        """
        if self._error is not None:
            raise self._error
        return self._queue.unfinished_tasks > 0

    def submit(self, unit: LeasedUnit) -> None:
        """Queue a leased unit of the finish stage."""
        self._queue.put(unit)

    def _serve(self) -> None:
        while (unit := self._queue.get()) is not None:
            if self._error is None and not self._stop.is_set():
                self._try(unit)
            self._queue.task_done()

    def _try(self, unit: LeasedUnit) -> None:
        started = time.perf_counter()
        try:
            self._finish(unit)
        except _Stopped:
            pass
        except DBAPIError as err:
            self._error = database_failure(err) if is_unreachable(err) else err
        except BaseException as err:  # noqa: BLE001 - handed to the pipeline's thread, which raises it
            self._error = err
        spent = time.perf_counter() - started
        self.seconds += spent
        metrics.count_seconds("finish", spent)

    def _finish(self, unit: LeasedUnit) -> None:
        outcome, context = "done", self._context
        try:
            work = partial(finish_leased, unit=unit, release=context.release, heads=context.heads, check=self._check)
            run_transaction(context.sessions, "finish", work)
        except LeaseLostError:
            outcome = "lost"
        except (_Stopped, RetryableError):
            raise
        except BaseException as err:  # lack of memory, a library's exit: this file caused it
            if is_unreachable(err):
                raise
            outcome = self._fail(unit, FinishFailed(err))
        self._context.leases.drop(unit)
        metrics.count_unit(outcome, "finish" if outcome in {"failed", "quarantined"} else None)

    def _fail(self, unit: LeasedUnit, error: FinishFailed) -> str:
        """Count a failed attempt, and return its outcome."""
        facts = {"action": "finish_failed", "unit_id": unit.unit_id, "analysis_id": unit.analysis_id}
        logger.warning("the faces of a file could not be joined to appearances: %s", error, extra=facts)

        def record(session: Session) -> bool:
            lock_work(session, [unit])
            is_last = ledger.fail_unit(session, unit, masked(error.reason), self._context.max_attempts)
            analyses.end_analysis(session, unit.analysis_id)
            return is_last

        try:
            return "quarantined" if run_transaction(self._context.sessions, "fail", record) else "failed"
        except LeaseLostError:
            return "lost"

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Stopped
