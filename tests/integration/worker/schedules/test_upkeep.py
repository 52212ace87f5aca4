"""Schedules in a deployment: what beat finds due, what is late, and what status, doctor and metrics show."""

from __future__ import annotations

import re
import time

import pytest
from celery import Celery
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text

from db.engine import make_engine
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from worker.config import Settings
from worker.deployment import doctor
from worker.deployment import scheduler as scheduling
from worker.deployment.exporter import LedgerCollector
from worker.deployment.scheduler import SchedulePoll
from worker.deployment.tasks import Upkeep
from worker.ledger.status.health import run_health_checks
from worker.ledger.upkeep.runs import note_upkeep
from worker.schedules.rows import fail_run, read_now, read_schedules
from worker.schedules.runs import hold_run


def execute(plan, statement, **values):
    with plan.sessions.begin() as session:
        session.execute(text(statement), values)


def make_due(plan, number, ago="1 s"):
    execute(plan, f"UPDATE schedule SET next_at = now() - interval '{ago}' WHERE schedule_id = :id", id=number)


@pytest.fixture
def poll(plan, clean_database, tmp_path, monkeypatch):
    """Yield beat's look, and the messages that it sent."""
    sent = []
    app = Celery("t", broker="memory://", set_as_current=False)
    monkeypatch.setattr(app, "send_task", sent.append)
    monkeypatch.setattr(scheduling, "count_messages", lambda *_: 0)
    look = SchedulePoll(app, Settings(database_url=clean_database, home=tmp_path))
    look.sent = sent
    yield look
    look.close()


def test_beat_sends_a_message_for_what_is_due_and_is_not_run(plan, poll, database_now):
    plan.now = database_now
    numbers = [plan.add(kind, every="24h") for kind in ("regroup", "regroup", "retention")]
    poll()
    assert poll.sent == []
    for number in numbers:
        make_due(plan, number)
    with hold_run(plan.sessions, numbers[0]) as held:
        assert held
        poll()
    assert poll.sent == ["facet.schedules"], "one is run, and retention is part of reconciliations"
    poll()
    assert len(poll.sent) == 2


def test_the_setting_is_written_to_the_row_when_beat_starts(plan, clean_database, tmp_path):
    for hours in (5.0, 0.0):
        look = SchedulePoll(Celery(), Settings(database_url=clean_database, home=tmp_path, regroup_hours=hours))
        look()
        look.close()
        with plan.sessions() as session:
            (found,) = read_schedules(session)
        assert (found.times.every_seconds, found.enabled) == (18_000, hours > 0)


@pytest.mark.slow
def test_beat_goes_on_after_the_database_was_away(tmp_path, short_folder, monkeypatch, caplog):
    sent = []
    app = Celery("t", broker="memory://", set_as_current=False)
    monkeypatch.setattr(app, "send_task", sent.append)
    monkeypatch.setattr(scheduling, "count_messages", lambda *_: 0)
    with EmbeddedPostgres(short_folder) as server:
        url = server.url
        upgrade(url)
        engine = make_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE facet.schedule SET next_at = now() WHERE kind = 'regroup'"))
        engine.dispose()
        poll = SchedulePoll(app, Settings(database_url=url, home=tmp_path))
        poll()
    assert len(sent) == 1
    for _ in range(3):
        poll()
    assert [record.action for record in caplog.records] == ["beat_blind"]
    monkeypatch.setattr(scheduling, "RESEND_SECONDS", 0.0)
    with EmbeddedPostgres(short_folder):
        poll()
        assert len(sent) == 2
        poll.close()


def test_a_worker_runs_what_is_due(plan, clean_database, tmp_path, database_now):
    plan.now = database_now
    number = plan.add("regroup", every="24h")
    upkeep = Upkeep(Celery(), Settings(database_url=clean_database, home=tmp_path))
    upkeep.run_schedules()
    assert plan.read(number).last_started_at is None
    make_due(plan, number)
    upkeep.run_schedules()
    found = plan.read(number)
    assert found.last_result == "nothing was analysed yet"
    assert found.last_success_at is not None


@pytest.mark.parametrize(
    ("row", "complains"),
    {
        "no row": (None, True),
        "every half minute": ({"every": "30s"}, True),
        "nightly, not yet due": ({"cron": "0 3 * * *"}, False),
        "nightly, due since half an hour": ({"cron": "0 3 * * *", "ago": "30 m"}, False),
        "nightly, due since two hours": ({"cron": "0 3 * * *", "ago": "119 m"}, True),
        "nightly, due before the files were": ({"cron": "0 3 * * *", "ago": "200 m"}, False),
    }.values(),
)
def test_files_are_late_by_the_times_of_retention(plan, row, complains):
    """The files are due for three hours."""
    execute(plan, "INSERT INTO media_file (uri, reason) VALUES ('/a', 'unsupported: no')")
    execute(plan, "INSERT INTO job (name, keep_days, submitted_at) VALUES ('a', 1, now() - interval '27 hours')")
    execute(plan, "INSERT INTO job_item (job_id, item_no, uri, media_id, reason) VALUES (1, 1, '/a', 1, 'no')")
    if row is not None:
        ago = row.pop("ago", None)
        number = plan.add("retention", **row)
        execute(plan, "UPDATE schedule SET next_at = now() + interval '5 hours'")
        if ago is not None:
            make_due(plan, number, ago)
    with plan.sessions() as session:
        found = [one for one in run_health_checks(session) if "should have been erased" in one]
    assert bool(found) == complains
    if row is None:
        assert "facet schedule add retention" in found[0]


def test_a_run_that_fails_and_a_schedule_that_is_not_run_are_shown(plan):
    first, second, third = (plan.add("regroup", every="24h") for _ in range(3))
    execute(plan, "UPDATE schedule SET next_at = now() + interval '5 hours'")
    with plan.sessions.begin() as session:
        fail_run(session, first, "the disk is full", read_now(session))
        assert [one.partition(";")[0] for one in run_health_checks(session)] == [
            f"schedule {first} (regroup) failed: the disk is full"
        ]
    make_due(plan, second, "3 hours")
    make_due(plan, third, "1 hour")
    with plan.sessions() as session:
        assert len(run_health_checks(session)) == 1, "no upkeep ever ended: there is no beat"
    note_upkeep(plan.sessions, "reconcile")
    with plan.sessions() as session:
        assert run_health_checks(session)[1].startswith(f"schedule {second} (regroup) has been due for 3:00:00; start")
    execute(plan, "UPDATE schedule SET enabled = false")
    with plan.sessions() as session:
        assert run_health_checks(session) == []


def test_schedules_are_metrics(plan):
    first, second = (plan.add("regroup", every="24h") for _ in range(2))
    execute(plan, "UPDATE schedule SET last_success_at = now() WHERE schedule_id = :id", id=first)
    with plan.sessions.begin() as session:
        fail_run(session, second, "the disk is full", read_now(session))
    registry = CollectorRegistry()
    registry.register(LedgerCollector(plan.sessions))
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("facet_schedule_")]
    found = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def name(metric, number):
        return f'facet_schedule_{metric}{{kind="regroup",schedule="{number}"}}'

    assert abs(found[name("last_success_timestamp_seconds", first)] - time.time()) < 300
    assert name("last_success_timestamp_seconds", second) not in found
    assert abs(found[name("next_due_timestamp_seconds", first)] - plan.read(first).next_at.timestamp()) < 1
    assert (found[name("failed", first)], found[name("failed", second)]) == (0, 1)
    assert found[name("held", first)] == 0


def test_doctor_describes_each_schedule(plan, clean_database, tmp_path, database_now):
    plan.now = database_now
    config = Settings(database_url=clean_database, home=tmp_path)

    assert doctor._schedules(config) == "none: nothing comes again by itself"
    first, second = plan.add("regroup", every="24h"), plan.add("retention", every="30s")
    make_due(plan, second, "90 s")
    execute(plan, "UPDATE schedule SET last_success_at = now() - interval '2 hours' WHERE schedule_id = :id", id=first)
    assert re.fullmatch(
        rf"regroup \({first}\) ended well 2:00:\d\d ago, due in (1 day, 0:00:00|23:59:\d\d); "
        rf"retention \({second}\) has not run yet, due since 0:01:\d\d",
        doctor._schedules(config),
    )
