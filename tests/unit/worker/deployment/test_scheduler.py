"""Beat's scheduler: entries, the look for due schedules beside them, and services that are away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from celery import Celery

from worker.config import Settings
from worker.deployment import scheduler as scheduling
from worker.deployment.app import make_app
from worker.deployment.scheduler import RowScheduler, SchedulePoll
from worker.deployment.task_options import SCHEDULES

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
def beat():
    app = Celery("t", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {"daily": {"task": "t.daily", "schedule": 86_400.0}}
    app.conf.beat_poll = lambda: None
    return RowScheduler(app)


@pytest.mark.parametrize("ahead", [timedelta(minutes=2), timedelta(days=400)])
def test_a_clock_that_was_set_back_does_not_stop_the_schedule(beat, ahead):
    """Else nothing would be sent until that time has come."""
    entry = beat.schedule["daily"]
    entry.last_run_at = datetime.now(UTC) + ahead
    assert beat.is_due(entry).is_due
    assert not beat.is_due(beat.reserve(entry)).is_due


def test_due_schedules_are_looked_for_every_ten_seconds(beat, monkeypatch):
    now, looks = [1000.0], []
    beat.app.conf.beat_poll = lambda: looks.append(now[0])
    monkeypatch.setattr(scheduling.time, "monotonic", lambda: now[0])
    for _ in range(50):
        wait = beat.tick()
        assert 0 <= wait <= 10
        now[0] += max(wait, 0.5)
    assert len(looks) == 50
    assert {after - before for before, after in pairwise(looks)} == {10.0}


def test_no_reconciliation_is_added_to_many_messages_that_wait(monkeypatch):
    app = make_app(Settings(broker_url="memory://"))
    sent, waiting = [], [0]
    monkeypatch.setattr(app, "send_task", lambda task, *_, **__: sent.append(task))
    monkeypatch.setattr(scheduling, "count_messages", lambda _, queues: waiting[0] if queues == ["facet-upkeep"] else 0)
    scheduler = RowScheduler(app)
    for waits, count in ((0, 1), (1, 1), (2, 0)):
        waiting[0] = waits
        sent.clear()
        scheduler.apply_entry(scheduler.schedule["reconcile"])
        assert sent == ["facet.reconcile"] * count


def test_a_broker_that_is_away_does_not_keep_the_schedule_from_trying(monkeypatch):
    app = make_app(Settings(broker_url="redis://127.0.0.1:1/0"))
    sent = []
    monkeypatch.setattr(app, "send_task", lambda task, *_, **__: sent.append(task))
    scheduler = RowScheduler(app)
    scheduler.apply_entry(scheduler.schedule["reconcile"])
    assert sent == ["facet.reconcile"]


def test_a_database_that_is_away_is_logged_once_and_ends_nothing(caplog):
    config = Settings(broker_url="redis://127.0.0.1:1/0", database_url="postgresql://nobody@127.0.0.1:1/nothing")
    poll = SchedulePoll(make_app(config), config)
    poll()
    poll()
    poll.close()
    assert [record.action for record in caplog.records] == ["beat_blind"]
    assert "127.0.0.1" in caplog.text


def test_a_message_is_repeated_after_a_minute_and_not_added_to_many(monkeypatch):
    app = make_app(Settings(broker_url="memory://"))
    sent, waiting, now = [], [0], [1000.0]
    monkeypatch.setattr(app, "send_task", sent.append)
    monkeypatch.setattr(scheduling, "count_messages", lambda _, __: waiting[0])
    monkeypatch.setattr(scheduling.time, "monotonic", lambda: now[0])
    poll = SchedulePoll(app, Settings())
    poll._send({1: NOON, 2: NOON})
    poll._send({1: NOON})
    assert sent == [SCHEDULES] * 2
    now[0] += 59
    poll._send({1: NOON})
    assert len(sent) == 2
    now[0] += 1
    poll._send({1: NOON})
    assert len(sent) == 3
    waiting[0] = 32
    now[0] += 60
    poll._send({1: NOON, 2: NOON})
    assert len(sent) == 3


def test_a_schedule_that_is_due_again_within_the_minute_has_a_message_of_its_own(monkeypatch):
    app = make_app(Settings(broker_url="memory://"))
    sent = []
    monkeypatch.setattr(app, "send_task", sent.append)
    monkeypatch.setattr(scheduling, "count_messages", lambda *_: 0)
    poll = SchedulePoll(app, Settings())
    for due in ({1: NOON}, {1: NOON}, {1: NOON + timedelta(seconds=30), 2: NOON}, {}):
        poll._send(due)
    assert sent == [SCHEDULES] * 3
    assert poll._sent == {}, "it forgets what is over"
