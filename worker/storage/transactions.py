"""Transactions that are retried after a deadlock or a failed serialization.

After either (``40P01``, ``40001``) the database is reachable and has rolled one transaction back; the same transaction
succeeds a moment later. The order of locks (``worker.ledger.locks``) prevents deadlocks within this
program. A program of another version beside it, or a query by hand, may not know that order.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError

from worker import metrics
from worker.errors import RetryableError
from worker.storage.database import is_conflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

logger = logging.getLogger(__name__)

MAX_TRIES = 10
FIRST_PAUSE_SECONDS = 0.02  # at most; doubles with every try, so the last pause is at most five seconds
Result = TypeVar("Result")


def run_transaction(sessions: sessionmaker[Session], kind: str, work: Callable[[Session], Result]) -> Result:
    """Run a function in a transaction of its own, again from its beginning after a deadlock.

    Args:
        sessions: of the database.
        kind: name of the transaction for metrics and log.
        work: called once for each try; its effects outside of the database must allow that.

    Raises:
        RetryableError: every try ended in a deadlock.
        sqlalchemy.exc.DBAPIError: any other failure of the database, without a retry.
    """
    return retry_conflicts(kind, lambda: _run(sessions, work))


def retry_conflicts(kind: str, attempt: Callable[[], Result]) -> Result:
    """Retry a function that opens its own transaction; otherwise as `run_transaction`."""
    for number in range(MAX_TRIES):
        try:
            return attempt()
        except DBAPIError as err:
            if not is_conflict(err):
                raise
            metrics.count_conflict(kind)
            facts = {"action": "transaction_retried", "kind": kind, "tries": number + 1, "error": str(err.orig)}
            logger.warning("a transaction met another one and is tried again", extra=facts)
        time.sleep(random.uniform(0, FIRST_PAUSE_SECONDS * 2**number))  # noqa: S311 - jitter needs no secrecy
    raise RetryableError(
        f"the transaction '{kind}' met a deadlock {MAX_TRIES} times in a row; see PostgreSQL's log for the other side, "
        "then run it again"
    )


def _run(sessions: sessionmaker[Session], work: Callable[[Session], Result]) -> Result:
    with sessions.begin() as session:
        return work(session)
