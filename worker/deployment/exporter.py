"""Serves metrics to Prometheus: those of worker processes from their parent, those of the ledger from beat.

Worker processes write their counters to files, which the parent adds up (the client library's multi-process mode); the
counts of a replaced process are kept. The ledger, its schedules and its reprocess jobs are read by one query each; the
answers are cached for a time that grows with their cost.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psutil
from sqlalchemy.exc import SQLAlchemyError

from db.status.health import sum_ledger
from db.status.reprocess import read_reprocessing
from db.status.schedules import read_schedule_health
from worker import metrics
from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric
    from sqlalchemy.orm import Session, sessionmaker

    from db.status.health import LedgerSums
    from db.status.reprocess import ReprocessHealth
    from db.status.schedules import ScheduleHealth
    from worker.config import Settings

SHARED_FILES = "PROMETHEUS_MULTIPROC_DIR"  # the library reads it when it is imported
KEEP_SECONDS = 10.0  # minimum age of the cached answer before the ledger is read again
KEEP_SHARE = 20.0  # and this multiple of its cost, so that the query takes at most a twentieth of the time


@contextmanager
def serve_analysis(config: Settings, sessions: sessionmaker[Session]) -> Iterator[None]:
    """Serve all metrics of `facet analyze` while it runs, if a port is set.

    Raises:
        UsageError: the port cannot be used.
    """
    if config.metrics_port is None:
        yield
        return
    registry = _registry()
    metrics.start_metrics(registry)
    registry.register(LedgerCollector(sessions))
    with _serving(config, registry):
        yield


@contextmanager
def serve_ledger(config: Settings, sessions: sessionmaker[Session]) -> Iterator[None]:
    """Serve the metrics of the ledger."""
    registry = _registry()
    registry.register(LedgerCollector(sessions))
    with _serving(config, registry):
        yield


@contextmanager
def serve_processes(config: Settings) -> Iterator[int | None]:
    """Serve the sums of processes that are forked within; yield the socket that they have to close, or None."""
    if config.metrics_port is None:
        yield None
        return
    with ExitStack() as opened:
        folder = opened.enter_context(TemporaryDirectory(prefix="facet-metrics-"))
        os.environ[SHARED_FILES] = folder
        opened.callback(os.environ.pop, SHARED_FILES, None)
        registry = _registry()
        registry.register(ProcessCollector(Path(folder)))
        yield opened.enter_context(_serving(config, registry))


def count_in_process() -> None:
    """Start counting in a forked process, if its parent serves metrics."""
    if SHARED_FILES in os.environ:
        metrics.start_metrics(_registry())


class ProcessCollector:
    """Adds up the files of all processes; of ended ones, counters are kept and gauges dropped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Return the sums of all files."""
        from prometheus_client import multiprocess  # noqa: PLC0415 - see begin

        for pid in {int(path.stem.rpartition("_")[2]) for path in self._folder.glob("gauge_live*.db")}:
            if not psutil.pid_exists(pid):
                multiprocess.mark_process_dead(pid, str(self._folder))
        found: list[Metric] = list(multiprocess.MultiProcessCollector(None, str(self._folder)).collect())
        return found


class LedgerCollector:
    """Reads the ledger, at most a twentieth of the time."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._sums: LedgerSums | None = None
        self._schedules: list[ScheduleHealth] = []
        self._reprocessing: list[ReprocessHealth] = []
        self._until = 0.0

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that no query runs at registration."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics; if the database is unreachable, only that."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - see begin

        sums = self._read()
        yield GaugeMetricFamily("facet_ledger_up", "Whether the database answers.", value=sums is not None)
        if sums is None:
            return
        units = GaugeMetricFamily("facet_ledger_units", "Units by state.", labels=["state"])
        for state, count in sums.units.items():
            units.add_metric([state], count)
        yield units
        for name, meaning, value in (
            ("frames", "Frames looked at, of all units.", sums.frames),
            ("faces", "Faces found, of all units.", sums.faces),
            ("attempts", "Attempts at units.", sums.attempts),
            ("workers", "Worker processes that hold a unit.", sums.workers),
            ("oldest_waiting_seconds", "Age of the oldest file that has not ended.", sums.oldest_seconds or 0.0),
        ):
            yield GaugeMetricFamily(f"facet_ledger_{name}", meaning, value=value)
        yield from _of_schedules(self._schedules)
        yield from _of_reprocessing(self._reprocessing)

    def _read(self) -> LedgerSums | None:
        started = time.monotonic()
        if started >= self._until:
            try:
                with self._sessions() as session:
                    self._sums, self._schedules = sum_ledger(session), read_schedule_health(session)
                    self._reprocessing = read_reprocessing(session)
            except SQLAlchemyError:
                self._sums = None
            spent = time.monotonic() - started
            self._until = time.monotonic() + max(KEEP_SECONDS, KEEP_SHARE * spent)
        return self._sums


def _of_schedules(schedules: Sequence[ScheduleHealth]) -> Iterable[Metric]:
    """Return the metrics of the enabled schedules."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - see begin

    for name, meaning, value in (
        ("last_success_timestamp_seconds", "When a run last ended well.", lambda one: one.success_epoch),
        ("next_due_timestamp_seconds", "When it is due next, or tried again.", lambda one: one.next_epoch),
        ("failed", "Whether its last run failed.", lambda one: float(one.has_failed)),
        ("held", "Whether a release waits for a user.", lambda one: float(one.held_reason is not None)),
    ):
        family = GaugeMetricFamily(f"facet_schedule_{name}", meaning, labels=["schedule", "kind"])
        for one in schedules:
            if value(one) is not None:
                family.add_metric([str(one.schedule_id), one.kind], value(one))
        yield family


def _of_reprocessing(jobs: Sequence[ReprocessHealth]) -> Iterable[Metric]:
    """Return the metrics of the reprocess jobs that have not ended."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - see begin

    for name, meaning, value in (
        ("pending_faces", "Faces of batches that wait or are computed.", lambda one: one.pending),
        ("quarantined_faces", "Faces of batches that were given up.", lambda one: one.quarantined),
        ("gap_faces", "Faces without any source.", lambda one: one.gaps),
        ("paused", "Whether the job is paused.", lambda one: float(one.is_paused)),
    ):
        family = GaugeMetricFamily(f"facet_reprocess_{name}", meaning, labels=["job", "release"])
        for one in jobs:
            family.add_metric([str(one.job_id), one.release], value(one))
        yield family


def _registry() -> CollectorRegistry:
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - loaded only where figures are wanted

    return CollectorRegistry()


@contextmanager
def _serving(config: Settings, registry: CollectorRegistry) -> Iterator[int]:
    from prometheus_client import start_http_server  # noqa: PLC0415 - see _registry

    port = config.metrics_port or 0
    try:
        server, thread = start_http_server(port, config.metrics_address, registry)
    except OSError as err:
        raise UsageError(
            f"metrics cannot be served at {config.metrics_address}:{port}: {err.strerror}; give each program of this "
            "host its own FACET_METRICS_PORT, or none"
        ) from err
    try:
        yield server.socket.fileno()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
