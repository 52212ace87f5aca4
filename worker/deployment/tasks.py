"""Bodies of the Celery tasks. A message only wakes a worker; the ledger decides what there is to do.

`Drainer` analyses units, `Upkeep` sends lost wake-ups again, removes orphans and runs due schedules. Each process of a
worker's pool has its own state in them, made at its first message.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from billiard import current_process

from worker.deployment.exporter import count_in_process
from worker.deployment.scheduled.upkeep import FINISH_SECONDS, make_eraser, regrouping, reprocessing, retention
from worker.deployment.wakeups import Wakeups, send_wakeup
from worker.errors import RetryableError
from worker.ledger.upkeep.runs import note_upkeep
from worker.schedules.runs import run_due
from worker.storage.database import open_database

if TYPE_CHECKING:
    from celery import Celery

    from db.schema.schedule_tables import ScheduleKind
    from worker.analysis.pipeline import StopSignal
    from worker.config import Settings
    from worker.releases.serving import ReleaseWorkers
    from worker.reprocess.runner import Reprocessor
    from worker.schedules.runs import Action
    from worker.storage.database import Database

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 120.0  # after them a process takes no more units and lets other messages through
RECONCILE_SHELVE_SECONDS = 10.0  # of a reconciliation, for units of jobs that were paused or resumed
RETIRE_SECONDS = 5.0  # of a reconciliation, for rows of retired releases
WALK_SECONDS = 3.0  # of a reconciliation, for crops that no row names


class Drainer:
    """Analyses due units in a process of the pool, then fills in what releases lack.

    Args:
        app: sends a wake-up where units remain.
        config: of the deployment.
        stop: is set when the parent process has to stop.
    """

    def __init__(self, app: Celery, config: Settings, stop: StopSignal) -> None:
        self._app = app
        self._config = config
        self._stop = stop
        self._opened = ExitStack()
        self._workers: dict[int, tuple[ReleaseWorkers, Reprocessor]] = {}
        """By process id: a forked process must not use its parent's connections."""

    def drain(self) -> None:
        """Work until no unit is due, DRAIN_SECONDS are over or the parent process stops."""
        workers, reprocessor = self._process_workers()
        began = time.monotonic()
        workers.drain(self._stop, seconds=DRAIN_SECONDS)
        if self._stop.is_set():
            return
        workers.finish()
        seconds = max(0.0, DRAIN_SECONDS - (time.monotonic() - began))
        reprocessor.drain(self._stop, seconds=seconds, yields=workers.has_work)
        if self._stop.is_set():
            return
        if reprocessor.has_work() or workers.has_work():
            send_wakeup(self._app)

    def _process_workers(self) -> tuple[ReleaseWorkers, Reprocessor]:
        """Return the workers of this process; they are made at the first message."""
        state = self._workers.get(os.getpid())
        if state is None:
            # health checks and the parent need no torch
            from worker.deployment.devices import device_of_process  # noqa: PLC0415
            from worker.releases.serving import ReleaseWorkers  # noqa: PLC0415
            from worker.reprocess.runner import make_reprocessor  # noqa: PLC0415

            number = getattr(current_process(), "index", 0)
            config = self._config.model_copy(update={"device": device_of_process(self._config.device, number)})
            count_in_process()
            database = self._opened.enter_context(open_database(config))
            state = ReleaseWorkers(config, database), make_reprocessor(config, database)
            self._workers[os.getpid()] = state
        return state


class Upkeep:
    """Keeps a deployment in order, in a process of the pool.

    Args:
        app: sends wake-ups.
        config: of the deployment.
    """

    def __init__(self, app: Celery, config: Settings) -> None:
        self._app = app
        self._config = config

    def reconcile(self) -> None:
        """Send wake-ups for units that wait, erase files that are due, and remove files that no row names."""
        with open_database(self._config) as database:
            sent = Wakeups(self._app).wake(database)
            if sent:
                logger.info("wake-ups were sent for waiting units", extra={"action": "woken", "messages": sent})
            self.shelve(database)
            self.erase_due(database)
            note_upkeep(database.sessions, "reconcile")

    def shelve(self, database: Database) -> None:
        """Go on with units of jobs that were paused or resumed, where the command was broken off."""
        from worker.ledger.submission.shelving import shelve  # noqa: PLC0415 - as below

        shelve(database.sessions, seconds=RECONCILE_SHELVE_SECONDS)

    def erase_due(self, database: Database) -> None:
        """Run retention if it is due, and remove the files that erasures and killed processes left, each for a while.

        Retention has no message of its own: reconciliations come often, whatever else the processes do.
        """
        # the parent and health checks need no numpy
        from worker.ledger.upkeep.crop_walk import walk_crops  # noqa: PLC0415
        from worker.storage.crops import CropStore  # noqa: PLC0415

        run_due(database.sessions, {"retention": retention(self._config, database)})
        self.retire_due(database)
        make_eraser(self._config, database).finish_files(FINISH_SECONDS, again=False)
        try:
            walk_crops(database.sessions, CropStore(self._config.crops), WALK_SECONDS)
        except RetryableError as err:
            logger.warning("the crop store is not walked: %s", err, extra={"action": "walk_waits"})

    def retire_due(self, database: Database) -> None:
        """Go on with the retirement of releases for a while."""
        from worker.releases.retiring import continue_retirements, due_retirements  # noqa: PLC0415 - as above

        if not due_retirements(database.sessions):
            return
        from worker.releases.folders import ReleaseFolders  # noqa: PLC0415 - it imports torch

        try:
            waiting = continue_retirements(ReleaseFolders(self._config, database.sessions), RETIRE_SECONDS)
        except RetryableError as err:
            logger.warning("a release is not retired yet: %s", err, extra={"action": "retirement_waits"})
        else:
            if waiting:
                logger.info("rows of retired releases remain", extra={"action": "retiring", "releases": waiting})

    def run_schedules(self) -> None:
        """Run the due schedules for which beat sends messages."""
        with open_database(self._config) as database:
            woken: dict[ScheduleKind, Action] = {
                "regroup": regrouping(self._config, database),
                "reprocess": reprocessing(self._config, database),
            }
            run_due(database.sessions, woken)
