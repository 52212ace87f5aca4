"""Celery: the bell that wakes workers, and what they do when they hear it.

A message says only "there may be work". Which unit to take, and whether it still needs anybody, is the ledger's to
say; so a message that is lost, doubled or late costs time and never a result. `facet beat` rings again for what was
forgotten.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from multiprocessing import Event
from typing import TYPE_CHECKING, Literal

from billiard import current_process
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import task_revoked
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from worker.config import settings
from worker.deployment.broker import REDIS_ERRORS, check_broker, count_messages, why
from worker.deployment.exporter import count_in_process
from worker.errors import RetryableError, UsageError
from worker.ledger.upkeep.runs import note_upkeep
from worker.ledger.waiting import NOT_AWAY
from worker.storage.database import database_failure, open_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.worker.request import Request

    from worker.analysis.runner import Worker
    from worker.config import Settings
    from worker.erasure.erase import Eraser
    from worker.storage.database import Database

logger = logging.getLogger(__name__)

DRAIN = "facet.drain"
RECONCILE = "facet.reconcile"
REGROUP = "facet.regroup"
Work = Literal["analysis", "upkeep"]
QUEUES: dict[Work, str] = {"analysis": "facet", "upkeep": "facet-upkeep"}
"""Analysis needs the network and, where there is one, the GPU; upkeep rings, erases and regroups, and needs neither."""
MOST_BELLS = 32  # messages that lie in the queue: they wake that many processes, and each drains until nothing is due
DRAIN_SECONDS = 120.0  # after this a process takes no more units and lets other messages through
HARD_LIMIT_SECONDS = 3600  # of one drain: its budget and the longest unit that was begun within it
SOFT_SHARE = 0.95  # of the hard limit: what is in work then counts as a failed attempt, and the process lives
RECONCILE_SECONDS = 30.0
FINISH_SECONDS = 8.0  # of a reconciliation, which is killed after 60: for files that earlier erasures left
ERASE_SECONDS = 15.0  # for files whose time is over
WALK_SECONDS = 3.0  # for crops that no row names
REST_SHARE = 20  # times as long as a look for files that are due took in vain: no further one in this process
MAX_REST_SECONDS = 3600.0  # of such a rest; a look is long where other jobs keep a million files of jobs that are over
BEAT_PATIENCE_SECONDS = 5.0  # for rows that somebody holds: the next reconciliation tries again
VISIBILITY_SECONDS = 900  # then the message of a worker that is gone comes again; one in work wakes somebody in vain
RETRY_SECONDS = 10  # before a task whose database or disk is away tries again

stopping = Event()
"""Set in the parent when it is told to stop, seen by its pool processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What every task says of itself; an option that is not here is a mistake that Celery would swallow."""

    name: str
    time_limit: int
    """Seconds after which the process is killed."""
    acks_late: bool = True
    """The message is answered after the work, so that it survives a worker that dies."""
    ignore_result: bool = True
    max_retries: int | None = None
    """Tries after the first while a service is away; None for no end."""
    retry_backoff_max: int = 300
    """Most seconds between two tries while a service is away; below VISIBILITY_SECONDS, or tries would double."""

    @property
    def soft_time_limit(self) -> int:
        """Seconds after which the task is interrupted, and may still say so."""
        return int(SOFT_SHARE * self.time_limit)


def register_task(app: Celery, options: TaskOptions, run: Callable[[], None]) -> None:
    """Add a task that takes nothing, and is tried again while a service is away."""

    @wraps(run)
    def guarded() -> None:
        try:
            run()
        except DBAPIError as err:
            raise database_failure(err) from err
        except SoftTimeLimitExceeded:
            logger.warning(
                "a task was interrupted at its time limit", extra={"action": "soft_limit", "task": options.name}
            )

    app.task(
        guarded,
        name=options.name,
        shared=False,
        time_limit=options.time_limit,
        soft_time_limit=options.soft_time_limit,
        acks_late=options.acks_late,
        ignore_result=options.ignore_result,
        autoretry_for=(RetryableError,),
        retry_backoff=RETRY_SECONDS,
        retry_backoff_max=options.retry_backoff_max,
        retry_jitter=True,
        max_retries=options.max_retries,
    )


def make_app(config: Settings) -> Celery:
    """Make the Celery application of this deployment.

    Raises:
        UsageError: no broker is configured.
    """
    if config.broker_url is None:
        raise UsageError("FACET_BROKER_URL is not set; set it to a Redis (redis://host:6379/0), or use `facet analyze`")
    app = Celery("facet", broker=config.broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        beat_schedule=_schedule(config),
        broker_channel_error_retry=True,  # a full Redis refuses every write: wait for it, as for one that is away
        broker_connection_max_retries=None,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": VISIBILITY_SECONDS},
        enable_utc=True,
        event_serializer="json",
        result_accept_content=["json"],
        result_backend=None,
        result_serializer="json",
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,  # the ledger counts attempts; a message that came again would not
        task_default_queue=QUEUES["analysis"],
        task_ignore_result=True,
        task_reject_on_worker_lost=False,
        task_routes={name: {"queue": QUEUES["upkeep"]} for name in (RECONCILE, REGROUP)},
        task_serializer="json",
        task_soft_time_limit=int(SOFT_SHARE * HARD_LIMIT_SECONDS),
        task_time_limit=HARD_LIMIT_SECONDS,
        timezone="UTC",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_max_memory_per_child=config.worker_memory_bytes >> 10,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_soft_shutdown_timeout=30.0,
    )

    task_revoked.connect(_log_revoked, dispatch_uid="facet.revoked")

    def drain() -> None:
        _drain(app)

    def reconcile() -> None:
        _reconcile(config)

    def regroup() -> None:
        _regroup(config)

    register_task(app, TaskOptions(name=DRAIN, time_limit=HARD_LIMIT_SECONDS), drain)
    register_task(app, TaskOptions(name=RECONCILE, time_limit=60), reconcile)
    register_task(app, TaskOptions(name=REGROUP, time_limit=HARD_LIMIT_SECONDS, max_retries=5), regroup)
    return app


def _log_revoked(request: Request, *, expired: bool = False, **_: object) -> None:
    """Log a task that is not carried out, because its message has expired or because somebody revoked it."""
    why_not = "its message has expired; compare the clocks of the hosts" if expired else "it was revoked"
    facts = {"action": "task_revoked", "task": request.name}
    logger.warning("the task %s is not carried out: %s", request.name, why_not, extra=facts)


def _schedule(config: Settings) -> dict[str, dict[str, object]]:
    """Give what beat does at regular times, in the form that Celery reads.

    Messages do not expire: a worker would decide that by its own clock. The schedule sends none that nobody takes.
    """
    entries: dict[str, dict[str, object]] = {"reconcile": {"task": RECONCILE, "schedule": RECONCILE_SECONDS}}
    if config.regroup_hours:
        seconds = 3600 * config.regroup_hours
        entries["regroup"] = {"task": REGROUP, "schedule": seconds}
    return entries


class Bell:
    """Wakes the workers of a deployment.

    Raises:
        UsageError: no broker is configured.
        RetryableError: it cannot be reached.
        FacetError: it may drop messages when its memory is full.
    """

    def __init__(self, config: Settings) -> None:
        self._app = make_app(config)
        self._url = config.broker_url or ""
        check_broker(self._url)

    def ring(self, database: Database) -> int:
        """Send as many messages as there are units due, as far as fewer than MOST_BELLS lie there; returns how many.

        Raises:
            RetryableError: database or broker are away, or the broker's memory is full.
        """
        try:
            with database.sessions.begin() as session:
                due = session.execute(_DUE, {"most": MOST_BELLS}).scalar_one()
        except DBAPIError as err:
            raise database_failure(err) from err
        wanted = min(due, MOST_BELLS - count_messages(self._url, [QUEUES["analysis"]])) if due else 0
        for _ in range(wanted):
            _send_drain(self._app)
        return max(0, int(wanted))


# Each half reads the first rows of its index, however many are done.
_DUE = text("""
    SELECT count(*) FROM (
        (SELECT FROM unit WHERE state = 'pending' AND attempts = 0 LIMIT :most)
        UNION ALL
        (SELECT FROM unit WHERE state IN ('pending', 'leased') AND attempts > 0
           AND CASE state WHEN 'pending' THEN coalesce(not_before, '-infinity') ELSE lease_until END <= now()
         LIMIT :most)
        LIMIT :most) due""")


def _send_drain(app: Celery) -> None:
    """Ring once.

    Raises:
        RetryableError: the broker is away or full.
    """
    try:
        app.send_task(DRAIN)
    except REDIS_ERRORS as err:
        raise RetryableError(why(err)) from err


_rests = {"retention": 0.0}
_context = ExitStack()
_workers: dict[int, tuple[Worker, Database]] = {}


def _worker() -> tuple[Worker, Database]:
    """Give this process its worker: loaded once, at the first message."""
    state = _workers.get(os.getpid())
    if state is None:
        # health checks and the parent need no torch
        from worker.analysis.runner import Worker, load  # noqa: PLC0415
        from worker.deployment.devices import device_of_process  # noqa: PLC0415

        config = settings()
        number = getattr(current_process(), "index", 0)
        config = config.model_copy(update={"device": device_of_process(config.device, number)})
        count_in_process()
        database = _context.enter_context(open_database(config))
        state = _workers[os.getpid()] = (Worker(config, database, load(config)), database)
    return state


def _drain(app: Celery) -> None:
    worker, database = _worker()
    worker.drain(stopping, seconds=DRAIN_SECONDS)
    if stopping.is_set():
        return
    worker.identifier.finish()
    if _due(database, worker):
        _send_drain(app)


def _due(database: Database, worker: Worker) -> bool:
    """Whether a unit waits that this worker may be able to read; those of other releases are for other workers."""
    away = worker.unreachable.places()
    parameters = {"release_id": worker.release_id, "away": away}
    with database.sessions.begin() as session:
        if not worker.unreachable.search.is_vain(away) and session.execute(_FRESH_DUE, parameters).scalar_one():
            return True
        return bool(session.execute(_SUSPECT_DUE, parameters).scalar_one())


_FRESH_DUE = text("""SELECT EXISTS (SELECT FROM unit
                     WHERE release_id = :release_id AND state = 'pending' AND attempts = 0)""")
_SUSPECT_DUE = text(f"""SELECT EXISTS (SELECT FROM unit JOIN analysis AS a USING (analysis_id)
                        WHERE unit.release_id = :release_id AND unit.state = 'pending' AND unit.attempts > 0
                          AND coalesce(not_before, '-infinity') <= now()
                          AND (unit.stage = 'finish' OR {NOT_AWAY}))""")  # noqa: S608 - a constant


def _reconcile(config: Settings) -> None:
    with open_database(config) as database:
        rung = Bell(config).ring(database)
        if rung:
            logger.info("rang for waiting units", extra={"action": "rang", "messages": rung})
        _erase_due(config, database)
        note_upkeep(database.sessions, "reconcile")


def _erase_for_a_while(eraser: Eraser) -> int:
    """Erase files whose time is over, for some seconds; returns how many."""
    erased = 0
    for receipt in eraser.erase_due(ERASE_SECONDS, again=False):
        facts = {"action": "erased", "media": len(receipt.media), "left": receipt.files.left}
        if receipt.media:
            logger.info("erased files whose time is over", extra=facts)
        erased += len(receipt.media)
    return erased


def _erase_due(config: Settings, database: Database) -> None:
    """Erase files whose time is over, and remove files that erasures and broken-off attempts left, each for a while."""
    from worker.erasure.erase import Eraser  # noqa: PLC0415
    from worker.erasure.files import Stores  # noqa: PLC0415
    from worker.ledger.upkeep.crop_walk import walk_crops  # noqa: PLC0415 - the parent and health checks need no numpy
    from worker.storage.crops import CropStore  # noqa: PLC0415

    stores = Stores(CropStore(config.crops), config.staging.absolute())
    eraser = Eraser(database.sessions, stores, lock_wait_seconds=BEAT_PATIENCE_SECONDS, files_seconds=FINISH_SECONDS)
    began = time.monotonic()
    if began >= _rests["retention"]:
        erased = _erase_for_a_while(eraser)
        note_upkeep(database.sessions, "retention")
        spent = time.monotonic() - began
        _rests["retention"] = began if erased else began + min(MAX_REST_SECONDS, REST_SHARE * spent)
    eraser.finish_files(FINISH_SECONDS, again=False)
    try:
        walk_crops(database.sessions, stores.crops, WALK_SECONDS)
    except RetryableError as err:
        logger.warning("the crop store is not walked: %s", err, extra={"action": "walk_waits"})


def _regroup(config: Settings) -> None:
    from worker.identity.proposals import regroup_people  # noqa: PLC0415 - the parent and health checks need no faiss
    from worker.identity.regroup import alarm_of  # noqa: PLC0415

    with open_database(config) as database:
        with database.sessions.begin() as session:
            release = session.execute(text("SELECT release_id FROM release WHERE active")).scalar()
        if release is not None:
            done = regroup_people(database.sessions, release, alarm_of(config))
            facts = {"action": "regrouped", "changed": done.changed, "proposal_id": done.proposal_id}
            logger.info("people were regrouped", extra=facts)
            if done.proposal_id is not None:
                logger.warning("regrouping waits as proposal %s: %s", done.proposal_id, done.reason, extra=facts)
        note_upkeep(database.sessions, "regroup")
