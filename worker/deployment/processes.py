"""The processes of a deployment with a broker (worker, beat, Flower), and checks whether they run."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, closing
from multiprocessing import Event
from typing import TYPE_CHECKING

from celery import signals
from celery.worker import state

from worker.deployment.app import make_app
from worker.deployment.broker import REDIS_ERRORS, broker_reason, check_broker, count_messages, quieten_celery
from worker.deployment.exporter import serve_ledger, serve_processes
from worker.deployment.scheduler import RowScheduler, SchedulePoll
from worker.deployment.task_options import QUEUES
from worker.deployment.wakeups import Wakeups
from worker.deployment.watchdog import Watchdog
from worker.errors import FacetError, RetryableError
from worker.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from worker.config import Settings
    from worker.deployment.task_options import Duty

PING_SECONDS = 5.0  # for workers to answer `facet worker --check`


def run_worker(config: Settings, concurrency: int, duties: Sequence[Duty] = ("analysis", "upkeep")) -> None:
    """Run a worker until it is stopped. At its start it sends wake-ups, so that waiting units need no other message.

    Raises:
        FacetError: the worker stalled: it was idle while messages waited.
    """
    if config.threads is None:
        config = config.model_copy(update={"threads": max(1, (os.cpu_count() or 1) // concurrency)})
    quieten_celery()
    stop = Event()  # set in this process, seen by the processes of its pool
    app = make_app(config, stop)
    check_broker(config.broker_url or "")
    queues = [QUEUES[duty] for duty in duties]
    with open_database(config) as database, serve_processes(config) as listening:
        wakeups = Wakeups(make_app(config))  # an application of its own: no connection of it is forked with the pool
        wakeups.wake(database)
        if listening is not None:  # a process that outlives its parent must not keep the port
            signals.worker_process_init.connect(lambda **_: os.close(listening), weak=False)
        signals.worker_shutting_down.connect(lambda **_: stop.set(), weak=False)
        node = f"facet-{os.getpid()}@{socket.gethostname()}"
        options = ["--concurrency", str(concurrency), "--hostname", node, "--loglevel", "WARNING"]
        with _watchdog(config, queues, lambda: wakeups.wake(database)) as watchdog:
            app.worker_main(["worker", "--queues", ",".join(queues), "--without-mingle", "--without-gossip", *options])
    if watchdog.stalled:
        raise FacetError(
            f"this worker took none of the messages that waited for {config.watch_seconds:g} s, as happens after a "
            "connection to Redis broke; start it again, or let the service manager do so"
        )


def _watchdog(config: Settings, queues: Sequence[str], wake: Callable[[], object]) -> Watchdog:
    """Return the watchdog of this process's consumer; messages that are delayed do not make it busy."""
    return Watchdog(
        config.watch_seconds,
        taken=lambda: sum(state.total_count.values()),
        busy=lambda: bool(state.reserved_requests),
        messages=lambda: count_messages(config.broker_url or "", queues),
        wake=wake,
    )


def check_worker(config: Settings) -> None:
    """Check that a worker of this host answers.

    Raises:
        RetryableError: the broker cannot be reached.
        FacetError: no worker answers.
    """
    host = socket.gethostname()
    try:
        replies = make_app(config).control.ping(timeout=PING_SECONDS)
    except REDIS_ERRORS as err:
        raise RetryableError(broker_reason(err)) from err
    if not any(node.endswith(f"@{host}") for reply in replies for node in reply):
        raise FacetError(f"no worker answers on {host}; start one with `facet worker`")


def run_beat(config: Settings) -> None:
    """Run beat, which sends the messages of the schedules, until it is stopped."""
    quieten_celery()
    app = make_app(config)
    check_broker(config.broker_url or "")
    scheduler = f"{RowScheduler.__module__}:{RowScheduler.__qualname__}"
    files = ["--pidfile", str(_beat_pid(config)), "--scheduler", scheduler]
    with closing(SchedulePoll(app, config)) as poll, ExitStack() as opened:
        app.conf.beat_poll = poll
        if config.metrics_port is not None:
            database = opened.enter_context(open_database(config))
            opened.enter_context(serve_ledger(config, database.sessions))
        app.start(["beat", "--loglevel", "WARNING", *files])


def _beat_pid(config: Settings) -> Path:
    return config.home / "beat.pid"


def check_beat(config: Settings) -> None:
    """Check that this host's beat runs.

    Raises:
        FacetError: it does not.
    """
    try:
        pid = int(_beat_pid(config).read_text())
        os.kill(pid, 0)
    except (OSError, ValueError) as err:
        raise FacetError("no beat runs from this FACET_HOME; start one with `facet beat`") from err


def run_flower(config: Settings, address: str, port: int) -> None:
    """Serve Celery's monitoring page until stopped."""
    app = make_app(config)
    app.start(["flower", f"--address={address}", f"--port={port}"])
