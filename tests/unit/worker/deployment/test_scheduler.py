import json
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

from worker.config import Settings
from worker.deployment.app import make_app
from worker.deployment.scheduler import JsonScheduler


@pytest.fixture
def beat(tmp_path):
    app = Celery("t", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {"daily": {"task": "t.daily", "schedule": 86_400.0}}

    def beat():
        return JsonScheduler(app, schedule_filename=str(tmp_path / "beat.json"))

    return beat


def test_what_was_due_is_remembered_over_a_restart(beat, tmp_path):
    first = beat()
    at = datetime.now(UTC) - timedelta(hours=23)
    first.schedule["daily"].last_run_at = at
    first.close()
    assert json.loads((tmp_path / "beat.json").read_text()) == {"daily": at.isoformat()}
    due, seconds = beat().schedule["daily"].is_due()
    assert not due
    assert 0 < seconds < 3_700


@pytest.mark.parametrize(
    "text", ["", "[]", "\x80\x04pickle", '{"daily": 3}', '{"daily": "no time"}', '{"other": "2026-01-01"}']
)
def test_a_file_that_cannot_be_read_is_started_afresh(beat, tmp_path, text):
    (tmp_path / "beat.json").write_text(text)
    assert list(beat().schedule) == ["daily"]


def test_a_disk_that_is_full_does_not_stop_the_schedule(beat, tmp_path, caplog):
    scheduler = beat()
    (tmp_path / "beat.partial").mkdir()
    scheduler.sync()
    assert "cannot write" in caplog.text


@pytest.mark.parametrize("ahead", [timedelta(minutes=2), timedelta(days=400)])
def test_a_clock_that_was_set_back_does_not_stop_the_schedule(beat, tmp_path, ahead):
    """Else nothing would be sent until that time has come, over a restart too."""
    (tmp_path / "beat.json").write_text(json.dumps({"daily": (datetime.now(UTC) + ahead).isoformat()}))
    scheduler = beat()
    entry = scheduler.schedule["daily"]
    assert scheduler.is_due(entry).is_due
    assert not scheduler.is_due(scheduler.reserve(entry)).is_due


def test_no_message_is_added_to_many_that_wait(tmp_path, monkeypatch):
    app = make_app(Settings(broker_url="memory://", regroup_hours=24))
    sent, waiting = [], {"facet-upkeep": 0}
    monkeypatch.setattr(app, "send_task", lambda task, *_, **__: sent.append(task))
    monkeypatch.setattr(
        "worker.deployment.scheduler.count_messages", lambda _, queues: sum(waiting[queue] for queue in queues)
    )
    scheduler = JsonScheduler(app, schedule_filename=str(tmp_path / "beat.json"))
    for waits, expected in ((0, ["reconcile", "regroup"]), (2, ["regroup"]), (32, [])):
        waiting["facet-upkeep"] = waits
        sent.clear()
        for entry in scheduler.schedule.values():
            scheduler.apply_entry(entry)
        assert [task.removeprefix("facet.") for task in sorted(sent)] == expected


def test_a_broker_that_is_away_does_not_keep_the_schedule_from_trying(tmp_path, monkeypatch):
    app = make_app(Settings(broker_url="redis://127.0.0.1:1/0"))
    sent = []
    monkeypatch.setattr(app, "send_task", lambda task, *_, **__: sent.append(task))
    scheduler = JsonScheduler(app, schedule_filename=str(tmp_path / "beat.json"))
    scheduler.apply_entry(scheduler.schedule["reconcile"])
    assert sent == ["facet.reconcile"]
