"""The tasks' names and queues, and the one way to register a task with Celery."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Literal

from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import DBAPIError

from worker.errors import RetryableError
from worker.storage.database import database_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

logger = logging.getLogger(__name__)

DRAIN = "facet.drain"
RECONCILE = "facet.reconcile"
SCHEDULES = "facet.schedules"
Duty = Literal["analysis", "upkeep"]
QUEUES: dict[Duty, str] = {"analysis": "facet", "upkeep": "facet-upkeep"}
"""Analysis needs the model and, where there is one, the GPU; upkeep (wake-ups, erasure, regrouping) needs neither."""
SOFT_SHARE = 0.95  # of the hard limit: units in flight then count a failed attempt, and the process lives
RETRY_SECONDS = 10  # before a task whose database or disk is unreachable is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Options of one task. Celery would silently accept an unknown option; this class refuses it."""

    name: str
    time_limit: int
    """Seconds after which the process is killed."""
    acks_late: bool = True
    """The message is acknowledged after the work, so that it survives a worker that dies."""
    ignore_result: bool = True
    max_retries: int | None = None
    """Retries while a service is unreachable; None for no limit."""
    retry_backoff_max: int = 300
    """Maximum of seconds between two retries; below VISIBILITY_SECONDS, or messages would double."""

    @property
    def soft_time_limit(self) -> int:
        """Seconds after which the task is interrupted by an exception that it can log."""
        return int(SOFT_SHARE * self.time_limit)


def register_task(app: Celery, options: TaskOptions, run: Callable[[], None]) -> None:
    """Register a task that takes no arguments and is retried while a service is unreachable."""

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
