"""The ledger on a real PostgreSQL: who gets what, who may store, and how units end."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import text

from worker.errors import LeaseLostError
from worker.ledger import analyses
from worker.ledger import units as ledger


def take(archive, owner="one", limit=10, **options):
    lease = archive.lease(owner, **options)
    with archive.sessions.begin() as session:
        return ledger.lease_units(session, lease, limit)


def end(archive, unit, outcome="done", note=None):
    with archive.sessions.begin() as session:
        ledger.finish_unit(session, unit, outcome, note)
        analyses.end_analysis(session, unit.analysis_id)
        return ending(session, unit.analysis_id)


def ending(session, analysis_id):
    """Return state and reason of an analysis, None while it is open."""
    query = text("SELECT state, reason FROM analysis WHERE analysis_id = :id AND finished_at IS NOT NULL")
    return session.execute(query, {"id": analysis_id}).one_or_none()


def make_due(archive):
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE unit SET not_before = NULL"))


def test_a_unit_is_leased_once_and_its_range_and_sampling_come_with_it(archive):
    archive.add(units=3, kind="video")
    first, second = take(archive, limit=2), take(archive, "two", limit=5)
    assert [unit.ordinal for unit in first] == [0, 1]
    assert [unit.ordinal for unit in second] == [2]
    assert {(unit.kind, unit.sampling_fps, unit.attempts, unit.token) for unit in first} == {("video", 2.0, 1, 1)}


def test_many_workers_at_once_never_share_a_unit(archive):
    for _ in range(60):
        archive.add()
    taken: list[int] = []
    lock = threading.Lock()

    def work(name):
        while units := take(archive, name, limit=3):
            with lock:
                taken.extend(unit.unit_id for unit in units)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 61))


def test_whoever_lost_the_lease_cannot_store(archive):
    archive.add()
    (stale,) = take(archive)
    archive.expire_leases()
    with archive.sessions.begin() as session:
        (current,) = ledger.lease_units(session, archive.lease("two"), 1, suspects=True)
    with pytest.raises(LeaseLostError, match="no longer held"):
        end(archive, stale)
    assert end(archive, current).state == "done"
    with pytest.raises(LeaseLostError):
        end(archive, current)


def test_a_heartbeat_keeps_a_lease_and_a_foreign_one_does_not(archive):
    archive.add()
    (unit,) = take(archive)
    archive.expire_leases()
    with archive.sessions.begin() as session:
        assert ledger.heartbeat(session, [], 60) == 0
        assert ledger.heartbeat(session, [replace(unit, token=unit.token - 1)], 60) == 0
        assert ledger.heartbeat(session, [unit], 60) == 1
    with archive.sessions.begin() as session:
        assert ledger.lease_units(session, archive.lease("two"), 1, suspects=True) == []


def test_a_unit_that_failed_waits_then_goes_alone_then_is_quarantined(archive):
    archive.add()
    archive.add()
    guilty, innocent = take(archive, limit=2)
    with archive.sessions.begin() as session:
        assert not ledger.fail_unit(session, guilty, "crashed: first", 3)
        assert not ledger.fail_unit(session, innocent, "crashed: first", 3)
    assert take(archive) == []
    with archive.sessions.begin() as session:
        assert ledger.lease_units(session, archive.lease(), 5, suspects=True) == [], "it must wait for its backoff"
    for attempt in (2, 3):
        make_due(archive)
        with archive.sessions.begin() as session:
            (alone,) = ledger.lease_units(session, archive.lease(), 5, suspects=True)
            assert (alone.unit_id, alone.attempts) == (guilty.unit_id, attempt)
            assert ledger.fail_unit(session, alone, f"crashed: attempt {attempt}", 3) == (attempt == 3)
            analyses.end_analysis(session, alone.analysis_id)
            settled = ending(session, alone.analysis_id)
    assert settled == ("quarantined", "crashed: attempt 3")
    assert archive.job() == {"submitted": 2, "done": 0, "rejected": 0, "quarantined": 1, "pending": 1}


def test_a_unit_whose_workers_all_died_is_quarantined_with_a_reason(archive):
    archive.add()
    take(archive, max_attempts=1)
    archive.expire_leases()
    with archive.sessions.begin() as session:
        lease = archive.lease(max_attempts=1)
        assert ledger.quarantine_exhausted(session, lease) == [1]
        assert ledger.lease_units(session, lease, 5, suspects=True) == []
        reason = session.execute(text("SELECT last_error FROM unit")).scalar_one()
    assert reason == "worker_died: 1 workers died or stalled while they held it"


def test_a_clean_stop_gives_the_attempt_back(archive):
    archive.add()
    units = take(archive)
    with archive.sessions.begin() as session:
        ledger.release_units(session, units)
    (again,) = take(archive, "two")
    assert (again.attempts, again.token) == (1, 2)


def test_a_film_is_settled_by_its_last_unit_and_unreadable_parts_are_named(archive):
    analysis_id = archive.add(units=3, kind="video")
    one, two, three = take(archive)
    assert end(archive, two) is None
    assert end(archive, three, "rejected", "corrupt: range 2") is None
    assert archive.job()["pending"] == 1
    assert end(archive, one) == ("done", "corrupt: range 2")
    with archive.sessions.begin() as session:
        row = session.execute(text("SELECT state, is_current FROM analysis WHERE analysis_id = :a"), {"a": analysis_id})
        assert tuple(row.one()) == ("done", True)
    assert archive.job() == {"submitted": 1, "done": 1, "rejected": 0, "quarantined": 0, "pending": 0}


def test_the_first_in_line_come_first_and_priority_overtakes(archive):
    for _ in range(3):
        archive.add()
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE unit SET priority = 5 WHERE unit_id = 3"))
    assert [take(archive, limit=1)[0].unit_id for _ in range(3)] == [3, 1, 2]


def test_a_heartbeat_waits_for_no_unit_that_is_being_stored(archive):
    for _ in range(3):
        archive.add()
    with archive.sessions.begin() as session:
        units = ledger.lease_units(session, archive.lease(), 3)
    with archive.sessions.begin() as storing:
        ledger.finish_unit(storing, units[1], "done")
        with archive.sessions.begin() as session:
            session.execute(text("SET LOCAL lock_timeout = '1s'"))
            assert ledger.heartbeat(session, units, 60) == 2


def test_only_units_of_the_stages_that_are_asked_for_are_leased(archive):
    archive.add(units=2)
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE unit SET stage = 'finish' WHERE unit_id = 2"))
    for stage, unit_id in (("analyse", 1), ("finish", 2)):
        with archive.sessions.begin() as session:
            (unit,) = ledger.lease_units(session, archive.lease(), 9, stages=(stage,))
        assert (unit.unit_id, unit.stage) == (unit_id, stage)


@pytest.mark.parametrize(("kind", "units", "whole"), [("image", 1, True), ("video", 1, True), ("video", 2, False)])
def test_a_unit_is_a_whole_file_where_no_other_range_is(archive, kind, units, whole):
    archive.add(units=units, kind=kind)
    assert [unit.is_whole for unit in take(archive)] == [whole] * units


def test_each_failure_doubles_the_pause_of_its_unit(archive):
    archive.add()
    archive.add()
    first, second = take(archive)
    with archive.sessions.begin() as session:
        ledger.fail_unit(session, first, "crashed", 9)
        ledger.fail_unit(session, replace(second, attempts=4), "crashed", 9)
        pauses = session.scalars(
            text("SELECT extract(epoch FROM not_before - now())::float FROM unit ORDER BY unit_id")
        ).all()
    assert pauses == [ledger.BACKOFF_SECONDS, 8 * ledger.BACKOFF_SECONDS]


def test_a_unit_is_held_under_its_latest_token_until_it_ends(archive):
    archive.add()
    (stale,) = take(archive)
    archive.expire_leases()
    with archive.sessions.begin() as session:
        (current,) = ledger.lease_units(session, archive.lease("two"), 1, suspects=True)
        assert [ledger.is_held(session, unit) for unit in (stale, current)] == [False, True]
        ledger.finish_unit(session, current, "done")
        assert not ledger.is_held(session, current)
