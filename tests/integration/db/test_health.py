"""Facts about work that does not progress, on a real PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from db.engine import make_engine, session_factory
from db.status import health
from worker.ledger.releases import code_version
from worker.ledger.status.health import check_units, run_health_checks


@pytest.fixture
def session(archive_url):
    engine = make_engine(archive_url)
    with session_factory(engine)() as session:
        yield session
        session.rollback()
    engine.dispose()


def units(session, change):
    session.execute(text(f"UPDATE unit SET {change} WHERE state = 'pending'"))


def test_a_unit_that_no_worker_takes(session):
    session.execute(text("UPDATE unit SET finished_at = finished_at - interval '1 hour'"))
    found = health.read_health(session)
    assert (found.fresh, found.suspects, found.in_flight, found.abandoned, found.workers) == (1, 0, 0, 0, 0)
    assert found.oldest_seconds > 0
    (finding,) = check_units(found)
    assert finding.startswith("no worker is running: 1 units wait")
    assert "start one (`facet worker`)" in finding


def test_a_worker_that_is_at_work_is_healthy(session):
    units(session, "state = 'leased', attempts = 1, owner = 'a', lease_until = now() + interval '1 minute'")
    found = health.read_health(session)
    assert (found.in_flight, found.workers, found.waiting) == (1, 1, 0)
    assert check_units(found) == []


def test_a_lease_that_ran_out_and_a_suspect(session):
    units(session, "state = 'leased', attempts = 1, owner = 'a', lease_until = now() - interval '1 minute'")
    assert any("1 units have an expired lease" in one for one in run_health_checks(session))
    session.execute(text("UPDATE unit SET state = 'pending' WHERE state = 'leased'"))
    assert any("1 units failed and are tried again" in one for one in run_health_checks(session))


def test_files_of_a_release_that_another_version_of_the_program_computes(session):
    session.execute(text("UPDATE release SET code_version = :ours"), {"ours": code_version()})
    assert not any("files wait for release" in one for one in run_health_checks(session))
    session.execute(text("UPDATE release SET code_version = '0+pipeline999'"))
    assert any("version 0+pipeline999 of the program computes" in one for one in run_health_checks(session))


def test_an_empty_ledger_is_healthy(session):
    session.execute(text("DELETE FROM job_item"))
    session.execute(text("DELETE FROM analysis"))
    assert run_health_checks(session) == []


@pytest.mark.parametrize("job_id", [None, 1])
def test_reasons_are_counted(session, job_id):
    found = health.read_reasons(session, job_id=job_id)
    assert sum(one.files for one in found) == 2
    assert all(one.example.startswith(one.code) and one.first_at <= one.last_at for one in found)
    assert health.read_reasons(session, job_id=99) == []
