"""The Celery application of a deployment: its configuration and its tasks."""

from __future__ import annotations

import logging
from threading import Event
from typing import TYPE_CHECKING

from celery import Celery
from celery.signals import task_revoked

from worker.deployment.broker import require_redis
from worker.deployment.task_options import DRAIN, QUEUES, RECONCILE, SCHEDULES, SOFT_SHARE, TaskOptions, register_task
from worker.deployment.tasks import Drainer, Upkeep
from worker.errors import UsageError

if TYPE_CHECKING:
    from celery.worker.request import Request

    from worker.analysis.pipeline import StopSignal
    from worker.config import Settings

logger = logging.getLogger(__name__)

IN_MEMORY = "memory://"  # a broker inside this process, for tests
HARD_LIMIT_SECONDS = 3600  # of one drain: its budget and the longest unit that was begun within it
RECONCILE_SECONDS = 30.0  # between two reconciliations
RECONCILE_LIMIT_SECONDS = 60
SCHEDULES_RETRIES = 5  # while the database is away; beat sends another message for what is due then
VISIBILITY_SECONDS = 900  # until Redis delivers an unacknowledged message again; a task in work wakes one in vain
SOFT_SHUTDOWN_SECONDS = 30.0  # for units in flight to be returned


def make_app(config: Settings, stop: StopSignal | None = None) -> Celery:
    """Return the Celery application of a deployment.

    Args:
        config: of the deployment.
        stop: ends the work of pool processes when it is set; only a worker has one.

    Raises:
        UsageError: no broker is configured, or one that is no Redis.
    """
    if config.broker_url is None:
        raise UsageError("FACET_BROKER_URL is not set; set it to a Redis (redis://host:6379/0), or use `facet analyze`")
    if config.broker_url != IN_MEMORY:
        require_redis(config.broker_url)
    app = Celery("facet", broker=config.broker_url, set_as_current=False)
    _configure(app, config)
    task_revoked.connect(_log_revoked, dispatch_uid="facet.revoked")
    drainer, upkeep = Drainer(app, config, stop or Event()), Upkeep(app, config)
    register_task(app, TaskOptions(name=DRAIN, time_limit=HARD_LIMIT_SECONDS), drainer.drain)
    register_task(app, TaskOptions(name=RECONCILE, time_limit=RECONCILE_LIMIT_SECONDS), upkeep.reconcile)
    schedules = TaskOptions(name=SCHEDULES, time_limit=HARD_LIMIT_SECONDS, max_retries=SCHEDULES_RETRIES)
    register_task(app, schedules, upkeep.run_schedules)
    return app


def _configure(app: Celery, config: Settings) -> None:
    app.conf.update(
        accept_content=["json"],
        # Messages do not expire: a worker would decide that by its own clock. The scheduler sends few of them.
        beat_schedule={"reconcile": {"task": RECONCILE, "schedule": RECONCILE_SECONDS}},
        broker_channel_error_retry=True,  # a full Redis refuses every write: wait for it, as for an unreachable one
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
        task_routes={name: {"queue": QUEUES["upkeep"]} for name in (RECONCILE, SCHEDULES)},
        task_serializer="json",
        task_soft_time_limit=int(SOFT_SHARE * HARD_LIMIT_SECONDS),
        task_time_limit=HARD_LIMIT_SECONDS,
        timezone="UTC",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_max_memory_per_child=config.worker_memory_bytes >> 10,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_soft_shutdown_timeout=SOFT_SHUTDOWN_SECONDS,
    )


def _log_revoked(request: Request, *, expired: bool = False, **_: object) -> None:
    """Log a task that does not run, because its message has expired or was revoked."""
    reason = "its message has expired; compare the clocks of the hosts" if expired else "it was revoked"
    facts = {"action": "task_revoked", "task": request.name}
    logger.warning("the task %s is not carried out: %s", request.name, reason, extra=facts)
