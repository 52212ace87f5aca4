"""Checks of the broker, a Redis: whether it keeps its messages, and how many wait in it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis
from kombu.exceptions import OperationalError as BrokerError

from worker.errors import FacetError, RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONNECT_SECONDS = 5.0
REDIS_ERRORS = (redis.RedisError, BrokerError, OSError)  # of a Redis that is unreachable, starting or full


@contextmanager
def _client(url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS)
    try:
        yield client
    except redis.RedisError as err:
        where = url.rpartition("@")[2] if "@" in url else url.partition("://")[2]
        raise RetryableError(f"no Redis answers at {where}: {err}; start it or correct FACET_BROKER_URL") from err
    finally:
        client.close()


def check_broker(url: str) -> None:
    """Refuse a Redis that cannot be reached, or that may drop messages.

    Raises:
        RetryableError: it cannot be reached.
        FacetError: its eviction policy is not ``noeviction``.
    """
    with _client(url) as client:
        policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        raise FacetError(
            f"the broker's maxmemory-policy is {policy}, expected noeviction: a full Redis would drop messages; "
            "start it with --maxmemory-policy noeviction"
        )


def count_messages(url: str, queues: Iterable[str]) -> int:
    """Count the messages that wait in queues and that no worker has taken.

    Raises:
        RetryableError: the broker cannot be reached.
    """
    with _client(url) as client:
        return sum(int(client.llen(queue)) for queue in queues)


def broker_reason(err: BaseException) -> str:
    """Return in one line why the broker failed, and the remedy."""
    if "OOM" in str(err) or "'maxmemory'" in str(err):
        return "the broker's memory is full, so that it takes no messages; raise its maxmemory, or find what fills it"
    return f"the broker does not take messages: {err}; start it or correct FACET_BROKER_URL"
