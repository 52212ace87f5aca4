from __future__ import annotations

import pytest
from sqlalchemy import text

from db.engine import make_engine, session_factory
from db.status import jobs as queries


@pytest.fixture
def session(archive_url):
    engine = make_engine(archive_url)
    with session_factory(engine)() as session:
        yield session
        session.rollback()
    engine.dispose()


@pytest.mark.parametrize("job_id", [None, 1])
def test_a_job_and_its_units_in_numbers(session, job_id):
    [job] = queries.read_jobs(session, job_id=job_id)
    assert (job.submitted, job.done, job.rejected, job.quarantined, job.pending) == (8, 5, 1, 1, 1)
    assert queries.count_units(session, job_id=job_id) == {"done": 4, "pending": 1, "quarantined": 1}


def test_an_unknown_job_is_empty(session):
    assert queries.read_jobs(session, job_id=99) == []
    assert queries.count_units(session, job_id=99) == {}
    assert queries.read_pace(session, job_id=99).units == 0
    assert queries.read_failures(session, job_id=99) == []
    assert queries.read_troubled_units(session, job_id=99) == []


def test_pace_counts_what_ended_lately(session):
    session.execute(text("UPDATE unit SET frame_count = 30, face_count = 12 WHERE state = 'done'"))
    session.execute(text("UPDATE unit SET finished_at = now() - interval '1 hour' WHERE unit_id = 1"))
    pace = queries.read_pace(session, job_id=1, seconds=60)
    assert (pace.units, pace.frames, pace.faces) == (4, 90, 36)
    assert pace.frames_per_second == pytest.approx(1.5)
    assert pace.faces_per_second == pytest.approx(0.6)
    assert pace.units_per_second == pytest.approx(4 / 60)


def test_the_pace_of_work_that_has_just_begun_is_that_of_the_time_it_has_run(session):
    session.execute(text("UPDATE unit SET frame_count = 30, started_at = now() - interval '10 seconds'"))
    pace = queries.read_pace(session, job_id=1, seconds=60)
    assert pace.seconds == pytest.approx(10)
    assert pace.frames_per_second == pytest.approx(pace.frames / 10)


def test_failures_come_with_their_reasons(session):
    found = {(file.state, file.reason.split(":")[0]) for file in queries.read_failures(session, job_id=1)}
    assert found == {("rejected", "truncated"), ("quarantined", "crashed")}
    assert len(queries.read_failures(session, limit=1)) == 1


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        ("attempts = 2, last_error = 'no memory'", "failing"),
        (
            "state = 'leased', attempts = 1, owner = 'w1', started_at = now(), lease_until = now() - interval '1 s'",
            "abandoned",
        ),
        (
            "state = 'leased', attempts = 1, owner = 'w1', started_at = '-infinity', lease_until = 'infinity'",
            "slow",
        ),
        (
            "state = 'leased', attempts = 1, owner = 'w1', started_at = now(), lease_until = now() + interval '1 s'",
            None,
        ),
    ],
)
def test_units_in_trouble_are_named(session, change, trouble):
    session.execute(text(f"UPDATE unit SET {change} WHERE state = 'pending'"))
    found = queries.read_troubled_units(session, job_id=1)
    assert [unit.trouble for unit in found] == ([trouble] if trouble else [])
    assert all(unit.uri == "/archive/1975/later.mp4" for unit in found)
