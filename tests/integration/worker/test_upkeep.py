"""The end of upkeep, and the work that it left, are dated by the database's clock."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from worker.ledger.status.health import run_health_checks
from worker.ledger.upkeep.runs import describe_runs, note_upkeep, read_runs


@pytest.fixture
def session(archive):
    with archive.sessions() as session:
        yield session


def age(session, name, seconds):
    statement = "UPDATE upkeep_run SET ended_at = now() - make_interval(secs => :seconds) WHERE name = :name"
    session.execute(text(statement), {"name": name, "seconds": seconds})


def keep(session, job_id, days, hours_ago):
    statement = """UPDATE job SET keep_days = :days, submitted_at = now() - make_interval(secs => 3600 * :hours)
                   WHERE job_id = :job_id"""
    session.execute(text(statement), {"job_id": job_id, "days": days, "hours": hours_ago})


def test_runs_are_noted_and_told_latest_first(archive, session):
    assert describe_runs(read_runs(session)).startswith("no upkeep ended yet")
    session.rollback()
    for name in ("regroup", "reconcile", "reconcile"):
        note_upkeep(archive.sessions, name)
    age(session, "regroup", 7200)
    assert list(read_runs(session)) == ["reconcile", "regroup"]
    assert describe_runs(read_runs(session)).endswith("regroup ended 2:00:00 ago")
    assert session.execute(text("SELECT runs FROM upkeep_run WHERE name = 'reconcile'")).scalar_one() == 2


@pytest.mark.parametrize(
    ("days", "hours_ago", "complains"), [(1, 24, False), (1, 24.5, False), (1, 25.2, True), (2, 25.2, False)]
)
def test_files_that_are_due_for_more_than_an_hour_are_told(archive, session, days, hours_ago, complains):
    archive.submit(archive.files(2, 1))
    job_id = session.execute(text("SELECT max(job_id) FROM job")).scalar_one()
    session.execute(text("UPDATE unit SET state = 'done', finished_at = now()"))
    keep(session, job_id, days, hours_ago)
    told = run_health_checks(session)
    assert any(one.startswith("1 files should have been erased more than an hour ago") for one in told) == complains
    session.execute(text("INSERT INTO job (name) VALUES ('keeps')"))
    session.execute(
        text("INSERT INTO job_item SELECT job_id + 1, item_no, uri, media_id FROM job_item WHERE job_id = :id"),
        {"id": job_id},
    )
    assert not any("should have been erased" in one for one in run_health_checks(session))


def test_upkeep_that_stopped_is_told_where_something_waits_for_it(archive, session):
    note_upkeep(archive.sessions, "reconcile")
    age(session, "reconcile", 700)
    assert run_health_checks(session) == []
    session.execute(text("INSERT INTO job (name, keep_days) VALUES ('kept', 30)"))
    assert [one.split(":")[0] for one in run_health_checks(session)] == ["upkeep stopped"]
    age(session, "reconcile", 500)
    assert run_health_checks(session) == []
