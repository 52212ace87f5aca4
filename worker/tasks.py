"""Celery: the bell that wakes workers, and the processes that listen to it.

A message says only "there may be work". Which unit to take, and whether it still needs anybody, is the ledger's to
say; so a message that is lost, doubled or late costs time and never a result. `facet beat` rings again for what was
forgotten.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import Event
from typing import TYPE_CHECKING

import redis
from celery import Celery, signals
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import text

from worker.absences import NOT_AWAY
from worker.config import settings
from worker.database import open_database
from worker.errors import FacetError, RetryableError, UsageError
from worker.exporter import count_in_process, serve_ledger, serve_processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.config import Settings
    from worker.database import Database
    from worker.runner import Worker

logger = logging.getLogger(__name__)

DRAIN = "facet.drain"
RECONCILE = "facet.reconcile"
REGROUP = "facet.regroup"
QUEUE = "facet"
MOST_BELLS = 32  # messages per ring: enough to wake that many processes, and each drains until nothing is due
DRAIN_SECONDS = 120.0  # after this a process takes no more units and lets other messages through
HARD_LIMIT_SECONDS = 3600  # of one drain: its budget and the longest unit that was begun within it
RECONCILE_SECONDS = 30.0
ERASE_SECONDS = 15.0  # of a reconciliation: it is killed after 60
BEAT_PATIENCE_SECONDS = 5.0  # for rows that somebody holds: the next reconciliation tries again
VISIBILITY_SECONDS = 2 * HARD_LIMIT_SECONDS  # a message in work is not delivered again before its task must have ended
RETRY_SECONDS = 10  # before a task whose database or disk is away tries again

_stopping = Event()
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
    retry_backoff_max: int = 300
    """Most seconds between two tries while a service is away."""


def register_task(app: Celery, options: TaskOptions, run: Callable[[], None]) -> None:
    """Add a task that takes nothing, and is tried again while a service is away."""
    app.task(
        run,
        name=options.name,
        shared=False,
        time_limit=options.time_limit,
        acks_late=options.acks_late,
        ignore_result=options.ignore_result,
        autoretry_for=(RetryableError,),
        retry_backoff=RETRY_SECONDS,
        retry_backoff_max=options.retry_backoff_max,
        retry_jitter=True,
        max_retries=None,
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
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": VISIBILITY_SECONDS},
        enable_utc=True,
        result_backend=None,
        task_default_queue=QUEUE,
        task_serializer="json",
        timezone="UTC",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_soft_shutdown_timeout=30.0,
    )

    def drain() -> None:
        _drain(app)

    def reconcile() -> None:
        _reconcile(config)

    def regroup() -> None:
        _regroup(config)

    register_task(app, TaskOptions(name=DRAIN, time_limit=HARD_LIMIT_SECONDS), drain)
    register_task(app, TaskOptions(name=RECONCILE, time_limit=60), reconcile)
    register_task(app, TaskOptions(name=REGROUP, time_limit=HARD_LIMIT_SECONDS), regroup)
    return app


def _schedule(config: Settings) -> dict[str, dict[str, object]]:
    """Give what beat does at regular times, in the form that Celery reads."""
    entries: dict[str, dict[str, object]] = {
        "reconcile": {"task": RECONCILE, "schedule": RECONCILE_SECONDS, "options": {"expires": 60}}
    }
    if config.regroup_hours:
        seconds = 3600 * config.regroup_hours
        entries["regroup"] = {"task": REGROUP, "schedule": seconds, "options": {"expires": seconds}}
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
        check_broker(config.broker_url or "")

    def ring(self, database: Database) -> int:
        """Send as many messages as there are units due, at most MOST_BELLS; returns how many."""
        with database.sessions.begin() as session:
            due = session.execute(
                text("""SELECT count(*) FROM (SELECT FROM unit WHERE (state = 'pending'
                        AND coalesce(not_before, '-infinity') <= now()) OR (state = 'leased' AND lease_until < now())
                        LIMIT :most) due"""),
                {"most": MOST_BELLS},
            ).scalar_one()
        try:
            for _ in range(due):
                self._app.send_task(DRAIN)
        except BrokerError as err:
            raise RetryableError(
                f"the broker does not take messages: {err}; the job is stored, start the broker"
            ) from err
        return int(due)


def check_broker(url: str) -> None:
    """Refuse a Redis that cannot be reached, or that may drop messages.

    Raises:
        RetryableError: it cannot be reached.
        FacetError: its eviction policy is not ``noeviction``.
    """
    client = redis.Redis.from_url(url, socket_connect_timeout=5)
    try:
        policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
    except redis.RedisError as err:
        where = url.rpartition("@")[2] if "@" in url else url.partition("://")[2]
        raise RetryableError(f"no Redis answers at {where}: {err}; start it or correct FACET_BROKER_URL") from err
    finally:
        client.close()
    if policy != "noeviction":
        raise FacetError(
            f"the broker's maxmemory-policy is {policy}, expected noeviction: a full Redis would drop messages; "
            "start it with --maxmemory-policy noeviction"
        )


_context = ExitStack()
_workers: dict[int, tuple[Worker, Database]] = {}


def _worker() -> tuple[Worker, Database]:
    """Give this process its worker: loaded once, at the first message."""
    state = _workers.get(os.getpid())
    if state is None:
        from worker.runner import Worker, load  # noqa: PLC0415 - health checks and the parent need no torch

        config = settings()
        count_in_process()
        database = _context.enter_context(open_database(config))
        state = _workers[os.getpid()] = (Worker(config, database, load(config)), database)
    return state


def _drain(app: Celery) -> None:
    worker, database = _worker()
    worker.drain(_stopping, seconds=DRAIN_SECONDS)
    if _stopping.is_set():
        return
    worker.identifier.finish()
    if _due(database, worker.absences.places()):
        app.send_task(DRAIN)


def _due(database: Database, away: list[str]) -> bool:
    """Whether a unit waits that this host may be able to read."""
    with database.sessions.begin() as session:
        statement = text(f"""SELECT EXISTS (SELECT FROM unit JOIN analysis AS a USING (analysis_id)
                             WHERE unit.state = 'pending' AND coalesce(not_before, '-infinity') <= now()
                               AND {NOT_AWAY})""")  # noqa: S608 - a constant
        return bool(session.execute(statement, {"away": away}).scalar_one())


def _reconcile(config: Settings) -> None:
    with open_database(config) as database:
        rung = Bell(config).ring(database)
        _erase_due(config, database)
    if rung:
        logger.info("rang for waiting units", extra={"action": "rang", "messages": rung})


def _erase_due(config: Settings, database: Database) -> None:
    """Erase files whose time is over, for some seconds, and remove files that earlier erasures left."""
    from worker.crops import CropStore  # noqa: PLC0415 - the parent and health checks need no numpy
    from worker.erasure.erase import Eraser  # noqa: PLC0415
    from worker.erasure.files import Stores  # noqa: PLC0415

    stores = Stores(CropStore(config.crops), config.staging.absolute())
    eraser = Eraser(database.sessions, stores, patience_seconds=BEAT_PATIENCE_SECONDS)
    eraser.finish_files()
    try:
        for receipt in eraser.erase_due(ERASE_SECONDS):
            facts = {"action": "erased", "media": len(receipt.media), "left": receipt.files.left}
            logger.info("erased files whose time is over", extra=facts)
    except RetryableError as err:
        logger.warning("erasure waits: %s", err, extra={"action": "erasure_waits"})


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


def run_worker(config: Settings, concurrency: int) -> None:
    """Listen until stopped; rings for itself at the start, so that waiting work needs no message of anybody's."""
    app = make_app(config)
    check_broker(config.broker_url or "")
    if config.threads is None:
        os.environ["FACET_THREADS"] = str(max(1, (os.cpu_count() or 1) // concurrency))
        settings.cache_clear()
    with open_database(config) as database, serve_processes(config) as listening:
        Bell(config).ring(database)
        if listening is not None:  # a process that outlives its parent must not keep the port
            signals.worker_process_init.connect(lambda **_: os.close(listening), weak=False)
        signals.worker_shutting_down.connect(lambda **_: _stopping.set(), weak=False)
        node = f"facet-{os.getpid()}@{socket.gethostname()}"
        options = ["--concurrency", str(concurrency), "--hostname", node, "--loglevel", "WARNING"]
        app.worker_main(["worker", "--queues", QUEUE, "--without-mingle", "--without-gossip", *options])


def check_worker(config: Settings) -> None:
    """Ask this host's workers whether they live.

    Raises:
        FacetError: none answers.
    """
    host = socket.gethostname()
    try:
        replies = make_app(config).control.ping(timeout=5)
    except BrokerError as err:
        raise RetryableError(f"the broker does not answer: {err}; start it or correct FACET_BROKER_URL") from err
    if not any(node.endswith(f"@{host}") for reply in replies for node in reply):
        raise FacetError(f"no worker answers on {host}; start one with `facet worker`")


def run_beat(config: Settings) -> None:
    """Ring at regular times until stopped."""
    app = make_app(config)
    check_broker(config.broker_url or "")
    files = ["--schedule", str(config.home / "beat-schedule"), "--pidfile", str(_beat_pid(config))]
    with ExitStack() as opened:
        if config.metrics_port is not None:
            database = opened.enter_context(open_database(config))
            opened.enter_context(serve_ledger(config, database.sessions))
        app.start(["beat", "--loglevel", "WARNING", *files])


def _beat_pid(config: Settings) -> os.PathLike[str]:
    return config.home / "beat.pid"


def check_beat(config: Settings) -> None:
    """Look whether this host's beat runs.

    Raises:
        FacetError: it does not.
    """
    try:
        pid = int((config.home / "beat.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError) as err:
        raise FacetError("no beat runs from this FACET_HOME; start one with `facet beat`") from err


def run_flower(config: Settings, address: str, port: int) -> None:
    """Serve Celery's monitoring page until stopped."""
    app = make_app(config)
    app.start(["flower", f"--address={address}", f"--port={port}"])
