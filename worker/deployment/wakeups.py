"""Wake-ups: messages that mean only that there may be work. The ledger decides which units are due.

So a message that is lost, doubled or late costs time and never a result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from worker.deployment.broker import REDIS_ERRORS, broker_reason, check_broker, count_messages
from worker.deployment.task_options import DRAIN, QUEUES
from worker.errors import RetryableError
from worker.ledger.due import count_due
from worker.storage.database import database_failure

if TYPE_CHECKING:
    from celery import Celery

    from worker.storage.database import Database

MAX_WAKEUPS = 32  # messages in the queue: they wake that many processes, and each drains until no unit is due


class Wakeups:
    """Wakes the workers of a deployment.

    Args:
        app: of the deployment.

    Raises:
        RetryableError: the broker is unreachable.
        FacetError: the broker may drop messages when its memory is full.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._url = str(app.conf.broker_url)
        check_broker(self._url)

    def wake(self, database: Database) -> int:
        """Send a message for each due unit, until MAX_WAKEUPS messages are in the queue; return how many were sent.

        Raises:
            RetryableError: database or broker are unreachable, or the broker's memory is full.
        """
        try:
            with database.sessions.begin() as session:
                due = count_due(session, MAX_WAKEUPS)
        except DBAPIError as err:
            raise database_failure(err) from err
        wanted = min(due, MAX_WAKEUPS - count_messages(self._url, [QUEUES["analysis"]])) if due else 0
        for _ in range(wanted):
            send_wakeup(self._app)
        return max(0, wanted)


def send_wakeup(app: Celery) -> None:
    """Send one wake-up.

    Raises:
        RetryableError: the broker is unreachable or full.
    """
    try:
        app.send_task(DRAIN)
    except REDIS_ERRORS as err:
        raise RetryableError(broker_reason(err)) from err
