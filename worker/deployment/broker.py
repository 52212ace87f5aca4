"""The broker, a Redis: whether it keeps its messages, how many wait in it, and one log line where it is absent."""

from __future__ import annotations

import logging
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from kombu.exceptions import OperationalError as BrokerError

from worker.errors import FacetError, RetryableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
NOISY = ("celery.worker.consumer.consumer", "celery.beat")
ABSENCES = ("Connection to broker lost", "Cannot connect to", "Connection error", "Message Error")
"""Beginnings of messages, some with long tracebacks, that come with every attempt to reach the broker."""
NEEDLESS = (SecurityWarning, CPendingDeprecationWarning)
"""Root is dangerous with pickled messages: here they are JSON. What Celery 6 changes is set here already."""
RECOVERY_SECONDS = 120.0  # without such a message until the next one counts as another absence; Celery waits up to 32 s
SCHEMES = ("redis", "rediss", "unix")
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


def require_redis(url: str) -> None:
    """Refuse the address of another kind of broker.

    Raises:
        UsageError: it is no Redis.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise UsageError(
            f"FACET_BROKER_URL begins with {scheme}://, expected redis:// or rediss://: messages only wake workers, "
            "and Facet sends them through Redis alone"
        )


def check_broker(url: str) -> None:
    """Refuse a Redis that cannot be reached, or that may drop messages.

    Raises:
        UsageError: it is no Redis.
        RetryableError: it cannot be reached.
        FacetError: its eviction policy is not ``noeviction``.
    """
    require_redis(url)
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


class AbsenceFilter(logging.Filter):
    """Logs the first of a row of messages on an absent broker as one line, and drops the others."""

    def __init__(self) -> None:
        super().__init__()
        self._seen_at = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether Celery's record is shown."""
        message = record.getMessage()
        if not any(absence in message for absence in ABSENCES):
            return True
        now = time.monotonic()
        if now - self._seen_at > RECOVERY_SECONDS:
            logger.warning(
                "Redis does not answer, and is asked again until it does; is it running, and FACET_BROKER_URL right?",
                extra={"action": "broker_away"},
            )
        self._seen_at = now
        return False


class WarningFilter(logging.Filter):
    """Drops warnings of Celery, which sets filters of its own for them and logs them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a warning is shown."""
        message = record.getMessage()
        return not any(kind.__name__ in message for kind in NEEDLESS)


def quieten_celery() -> None:
    """Set the filters of this process; workers that it forks inherit them."""
    absences = AbsenceFilter()
    for name in NOISY:
        logging.getLogger(name).addFilter(absences)
    logging.getLogger("py.warnings").addFilter(WarningFilter())
    for kind in NEEDLESS:
        warnings.filterwarnings("ignore", category=kind)
