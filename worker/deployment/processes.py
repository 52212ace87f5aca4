"""The processes of a deployment with a broker: worker, beat and Flower, and how to ask whether they live."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from celery import signals
from celery.worker import state

from worker.config import settings
from worker.deployment.broker import REDIS_ERRORS, check_broker, count_messages, why
from worker.deployment.exporter import serve_ledger, serve_processes
from worker.deployment.tasks import QUEUES, Bell, make_app, stopping
from worker.deployment.watchdog import Watch
from worker.errors import FacetError, RetryableError
from worker.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.config import Settings
    from worker.deployment.tasks import Work


def run_worker(config: Settings, concurrency: int, work: Sequence[Work] = ("analysis", "upkeep")) -> None:
    """Listen until stopped; rings for itself at the start, so that waiting work needs no message of anybody's.

    Raises:
        FacetError: the worker was deaf: idle, while messages waited.
    """
    app = make_app(config)
    check_broker(config.broker_url or "")
    if config.threads is None:
        os.environ["FACET_THREADS"] = str(max(1, (os.cpu_count() or 1) // concurrency))
        settings.cache_clear()
    queues = [QUEUES[one] for one in work]
    with open_database(config) as database, serve_processes(config) as listening:
        bell = Bell(config)
        bell.ring(database)
        if listening is not None:  # a process that outlives its parent must not keep the port
            signals.worker_process_init.connect(lambda **_: os.close(listening), weak=False)
        signals.worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)
        node = f"facet-{os.getpid()}@{socket.gethostname()}"
        options = ["--concurrency", str(concurrency), "--hostname", node, "--loglevel", "WARNING"]
        with _watch(config, queues, lambda: bell.ring(database)) as watch:
            app.worker_main(["worker", "--queues", ",".join(queues), "--without-mingle", "--without-gossip", *options])
    if watch.deaf:
        raise FacetError(
            f"this worker took none of the messages that waited for {config.watch_seconds:g} s, as happens after a "
            "connection to Redis broke; start it again, or let whatever started it do so"
        )


def _watch(config: Settings, queues: Sequence[str], ring: Callable[[], object]) -> Watch:
    """Watch over this process' consumer; messages that wait for their time are not in its hands."""
    return Watch(
        config.watch_seconds,
        taken=lambda: sum(state.total_count.values()),
        busy=lambda: bool(state.reserved_requests),
        messages=lambda: count_messages(config.broker_url or "", queues),
        ring=ring,
    )


def check_worker(config: Settings) -> None:
    """Ask this host's workers whether they live.

    Raises:
        FacetError: none answers.
    """
    host = socket.gethostname()
    try:
        replies = make_app(config).control.ping(timeout=5)
    except REDIS_ERRORS as err:
        raise RetryableError(why(err)) from err
    if not any(node.endswith(f"@{host}") for reply in replies for node in reply):
        raise FacetError(f"no worker answers on {host}; start one with `facet worker`")


def run_beat(config: Settings) -> None:
    """Ring at regular times until stopped."""
    app = make_app(config)
    check_broker(config.broker_url or "")
    files = ["--schedule", str(config.home / "beat-schedule.json"), "--pidfile", str(_beat_pid(config))]
    files += ["--scheduler", "worker.deployment.scheduler:JsonScheduler"]
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
