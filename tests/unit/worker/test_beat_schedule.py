import json
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

from worker.beat_schedule import JsonScheduler


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


def test_a_disk_that_is_full_does_not_stop_the_bell(beat, tmp_path, caplog):
    scheduler = beat()
    (tmp_path / "beat.partial").mkdir()
    scheduler.sync()
    assert "cannot write" in caplog.text
