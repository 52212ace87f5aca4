"""Bodies of the Celery tasks. A message only wakes a worker; the ledger decides what there is to do.

`Drainer` analyses units, `Upkeep` erases, removes orphans, sends lost wake-ups again and regroups people. Each process
of a worker's pool has its own state in them, made at its first message.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from billiard import current_process

from worker.deployment.exporter import count_in_process
from worker.deployment.wakeups import Wakeups, send_wakeup
from worker.errors import RetryableError
from worker.ledger.due import has_fresh, has_rested_suspect
from worker.ledger.releases import find_active
from worker.ledger.upkeep.runs import note_upkeep
from worker.storage.database import open_database

if TYPE_CHECKING:
    from celery import Celery

    from worker.analysis.pipeline import StopSignal
    from worker.analysis.runner import Worker
    from worker.config import Settings
    from worker.erasure.erase import Eraser
    from worker.storage.database import Database

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 120.0  # after them a process takes no more units and lets other messages through
FINISH_SECONDS = 8.0  # of a reconciliation, which is killed after 60: for files that earlier erasures left
ERASE_SECONDS = 15.0  # for files that are due
WALK_SECONDS = 3.0  # for crops that no row names
REST_SHARE = 20  # a look for due files that found none is repeated after this multiple of its own time
MAX_REST_SECONDS = 3600.0  # of such a rest; a look is long where jobs without an end keep a million files of others
ERASE_LOCK_WAIT_SECONDS = 5.0  # for locked rows: the next reconciliation tries again


class Drainer:
    """Analyses due units in a process of the pool.

    Args:
        app: sends a wake-up where units remain.
        config: of the deployment.
        stop: is set when the parent process was told to stop.
    """

    def __init__(self, app: Celery, config: Settings, stop: StopSignal) -> None:
        self._app = app
        self._config = config
        self._stop = stop
        self._opened = ExitStack()
        self._workers: dict[int, tuple[Worker, Database]] = {}
        """By process id: a forked process must not use its parent's connections."""

    def drain(self) -> None:
        """Work until no unit is due, DRAIN_SECONDS are over or the parent process stops."""
        worker, database = self._worker()
        worker.drain(self._stop, seconds=DRAIN_SECONDS)
        if self._stop.is_set():
            return
        worker.identifier.finish()
        if _has_work(database, worker):
            send_wakeup(self._app)

    def _worker(self) -> tuple[Worker, Database]:
        """Return the worker of this process; it is loaded at the first message."""
        state = self._workers.get(os.getpid())
        if state is None:
            # health checks and the parent need no torch
            from worker.analysis.runner import Worker, load  # noqa: PLC0415
            from worker.deployment.devices import device_of_process  # noqa: PLC0415

            number = getattr(current_process(), "index", 0)
            config = self._config.model_copy(update={"device": device_of_process(self._config.device, number)})
            count_in_process()
            database = self._opened.enter_context(open_database(config))
            state = self._workers[os.getpid()] = (Worker(config, database, load(config)), database)
        return state


def _has_work(database: Database, worker: Worker) -> bool:
    """Whether a unit waits that this worker may be able to read; units of other releases are left to other workers."""
    places = worker.unreachable.places()
    with database.sessions.begin() as session:
        if not worker.unreachable.search.is_vain(places) and has_fresh(session, worker.ids.release_id):
            return True
        return has_rested_suspect(session, worker.ids.release_id, places)


class Upkeep:
    """Keeps a deployment in order, in a process of the pool.

    Args:
        app: sends wake-ups.
        config: of the deployment.
    """

    def __init__(self, app: Celery, config: Settings) -> None:
        self._app = app
        self._config = config
        self._look_at = 0.0
        """Time of the monotonic clock before which no further look for due files is taken."""

    def reconcile(self) -> None:
        """Send wake-ups for units that wait, erase files that are due, and remove files that no row names."""
        with open_database(self._config) as database:
            sent = Wakeups(self._app).wake(database)
            if sent:
                logger.info("wake-ups were sent for waiting units", extra={"action": "woken", "messages": sent})
            self.erase_due(database)
            note_upkeep(database.sessions, "reconcile")

    def erase_due(self, database: Database) -> None:
        """Erase files that are due, and remove the files that erasures and killed processes left, each for a while."""
        # the parent and health checks need no numpy
        from worker.erasure.erase import Eraser  # noqa: PLC0415
        from worker.erasure.files import Stores  # noqa: PLC0415
        from worker.ledger.upkeep.crop_walk import walk_crops  # noqa: PLC0415
        from worker.storage.crops import CropStore  # noqa: PLC0415

        stores = Stores(CropStore(self._config.crops), self._config.staging.absolute())
        eraser = Eraser(
            database.sessions, stores, lock_wait_seconds=ERASE_LOCK_WAIT_SECONDS, files_seconds=FINISH_SECONDS
        )
        began = time.monotonic()
        if began >= self._look_at:
            erased = _erase_for_a_while(eraser)
            note_upkeep(database.sessions, "retention")
            spent = time.monotonic() - began
            self._look_at = began if erased else began + min(MAX_REST_SECONDS, REST_SHARE * spent)
        eraser.finish_files(FINISH_SECONDS, again=False)
        try:
            walk_crops(database.sessions, stores.crops, WALK_SECONDS)
        except RetryableError as err:
            logger.warning("the crop store is not walked: %s", err, extra={"action": "walk_waits"})

    def regroup(self) -> None:
        """Regroup all people of the active release; a result that changes much is stored as a proposal."""
        # the parent and health checks need no faiss
        from worker.identity.proposals import regroup_people  # noqa: PLC0415
        from worker.identity.regroup import alarm_of  # noqa: PLC0415

        with open_database(self._config) as database:
            with database.sessions.begin() as session:
                active = find_active(session)
            if active is not None:
                done = regroup_people(database.sessions, active.trunk_id, alarm_of(self._config))
                facts = {"action": "regrouped", "changed": done.changed, "proposal_id": done.proposal_id}
                logger.info("people were regrouped", extra=facts)
                if done.proposal_id is not None:
                    logger.warning("regrouping waits as proposal %s: %s", done.proposal_id, done.reason, extra=facts)
            note_upkeep(database.sessions, "regroup")


def _erase_for_a_while(eraser: Eraser) -> int:
    """Erase due files for ERASE_SECONDS; return how many were erased."""
    erased = 0
    for receipt in eraser.erase_due(ERASE_SECONDS, again=False):
        facts = {"action": "erased", "media": len(receipt.media), "left": receipt.files.left}
        if receipt.media:
            logger.info("erased files whose time is over", extra=facts)
        erased += len(receipt.media)
    return erased
