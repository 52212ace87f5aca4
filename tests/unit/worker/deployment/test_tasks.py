"""The settings of Celery, one by one, and tasks whose service is unreachable."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import task_revoked
from sqlalchemy.exc import OperationalError

from worker.config import Settings
from worker.deployment.app import VISIBILITY_SECONDS, make_app
from worker.deployment.task_options import DRAIN, RECONCILE, SCHEDULES, TaskOptions, register_task
from worker.deployment.tasks import DRAIN_SECONDS
from worker.errors import RetryableError, UsageError


@pytest.fixture
def app():
    return make_app(Settings(broker_url="redis://127.0.0.1:1/0", worker_memory_bytes=3 << 30))


@pytest.mark.parametrize(
    ("setting", "value"),
    {
        "accept_content": ["json"],
        "broker_channel_error_retry": True,
        "broker_connection_max_retries": None,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {"visibility_timeout": 900},
        "event_serializer": "json",
        "result_accept_content": ["json"],
        "result_backend": None,
        "result_serializer": "json",
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": True,
        "task_default_queue": "facet",
        "task_ignore_result": True,
        "task_reject_on_worker_lost": False,
        "task_routes": {RECONCILE: {"queue": "facet-upkeep"}, SCHEDULES: {"queue": "facet-upkeep"}},
        "task_serializer": "json",
        "task_soft_time_limit": 3420,
        "task_time_limit": 3600,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_max_memory_per_child": 3 << 20,  # KiB
        "worker_prefetch_multiplier": 1,
        "worker_soft_shutdown_timeout": 30.0,
    }.items(),
)
def test_no_setting_is_left_to_chance(app, setting, value):
    assert setting in app.conf.changes
    assert app.conf[setting] == value


@pytest.mark.parametrize(("name", "seconds"), [(DRAIN, 3600), (RECONCILE, 60), (SCHEDULES, 3600)])
def test_every_task_says_what_it_needs(app, name, seconds):
    task = app.tasks[name]
    assert (task.acks_late, task.ignore_result, task.time_limit) == (True, True, seconds)
    assert 0.9 * seconds < task.soft_time_limit < seconds
    assert app.amqp.router.route({}, name)["queue"].name == ("facet" if name == DRAIN else "facet-upkeep")


def test_no_message_of_beat_expires_by_the_clock_of_a_worker():
    app = make_app(Settings(broker_url="redis://127.0.0.1:1/0"))
    assert set(app.conf.beat_schedule) == {"reconcile"}
    assert all(set(entry) == {"task", "schedule"} for entry in app.conf.beat_schedule.values())


def test_a_task_that_is_not_carried_out_is_logged(app, caplog):
    request = SimpleNamespace(name=RECONCILE)
    task_revoked.send(sender=app.tasks[RECONCILE], request=request, terminated=False, signum=None, expired=True)
    task_revoked.send(sender=app.tasks[RECONCILE], request=request, terminated=True, signum=15, expired=False)
    assert [record.action for record in caplog.records] == ["task_revoked", "task_revoked"]
    assert "compare the clocks" in caplog.text
    assert "was revoked" in caplog.text


def test_waiting_and_leases_are_shorter_than_the_time_after_which_a_message_comes_again():
    assert TaskOptions(name="x", time_limit=1).retry_backoff_max < VISIBILITY_SECONDS
    assert Settings().lease_seconds < VISIBILITY_SECONDS
    assert DRAIN_SECONDS < VISIBILITY_SECONDS


def test_an_option_that_celery_would_swallow_is_refused():
    with pytest.raises(TypeError):
        TaskOptions(name="x", time_limit=1, ignore_results=True)


def test_a_database_that_is_away_is_tried_again(app):
    def fail():
        raise OperationalError("SELECT", {}, Exception("the server closed the connection"))

    register_task(app, TaskOptions(name="away", time_limit=10), fail)
    task = app.tasks["away"]
    assert task.autoretry_for == (RetryableError,)
    with pytest.raises(RetryableError, match="closed the connection"):
        task._orig_run()


def test_a_task_at_its_time_limit_ends_with_a_word(app, caplog):
    def hang():
        raise SoftTimeLimitExceeded

    register_task(app, TaskOptions(name="slow", time_limit=10), hang)
    app.tasks["slow"]._orig_run()
    assert [record.action for record in caplog.records] == ["soft_limit"]


def test_without_a_broker_there_is_no_application():
    with pytest.raises(UsageError, match="FACET_BROKER_URL"):
        make_app(Settings())
