"""The faults of ``chaos.py``: each happens to a running deployment and returns its name, or nothing if it could not."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import psutil
import redis
from chaos_deployment import PAUSE_SECONDS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from chaos_deployment import Deployment

QUEUE = "facet"


def kill_worker(deployment: Deployment, chance: random.Random) -> str:
    """Kill a worker or the process in its pool."""
    found = deployment.pool()
    if not found:
        return ""
    with suppress(psutil.Error):
        chance.choice(found).kill()
    return "worker killed"


def kill_decoder(deployment: Deployment, chance: random.Random) -> str:
    """Kill a decode child."""
    found = deployment.decoders()
    if not found:
        return ""
    with suppress(psutil.Error):
        chance.choice(found).kill()
    return "decode child killed"


def kill_redis(deployment: Deployment, chance: random.Random) -> str:
    """Kill Redis; half of the time its data are gone as well."""
    process = deployment.processes["redis"]
    process.kill()
    process.wait()
    if chance.random() < 0.5:
        return "Redis killed"
    for path in (*deployment.folder.glob("*.rdb"), *deployment.folder.glob("*.aof")):
        path.unlink()
    shutil.rmtree(deployment.folder / "appendonlydir", ignore_errors=True)
    return "Redis killed and emptied"


def kill_postgres(deployment: Deployment, _: random.Random) -> str:
    """Kill PostgreSQL's first process; the others end with it."""
    pid = int((deployment.folder / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])
    children = psutil.Process(pid).children(recursive=True)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs(children, timeout=20)
    return "PostgreSQL killed"


def pause_worker(deployment: Deployment, chance: random.Random) -> str:
    """Stop a worker's process until its leases are over."""
    found = [process for process in deployment.pool() if process.pid not in deployment.asleep]
    if not found:
        return ""
    process = chance.choice(found)
    with suppress(psutil.Error):
        process.suspend()
        deployment.asleep[process.pid] = time.monotonic() + PAUSE_SECONDS
    return "worker asleep beyond its lease"


def drop_messages(deployment: Deployment, _: random.Random) -> str:
    """Empty the queue."""
    with suppress(redis.RedisError):
        deployment.broker.delete(QUEUE)
    return "messages dropped"


def double_messages(deployment: Deployment, _: random.Random) -> str:
    """Put every waiting message into the queue once more."""
    with suppress(redis.RedisError):
        waiting = cast("list[bytes]", deployment.broker.lrange(QUEUE, 0, -1))
        if waiting:
            deployment.broker.rpush(QUEUE, *waiting)
    return "messages doubled"


FAULTS: tuple[Callable[[Deployment, random.Random], str], ...] = (
    kill_worker, kill_worker, kill_decoder, kill_decoder, kill_redis, kill_postgres, pause_worker, drop_messages,
    double_messages,
)  # fmt: skip
