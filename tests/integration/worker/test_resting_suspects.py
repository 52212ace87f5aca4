"""Suspects that rest: no lease reads them, and none rests longer than its pause."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from worker.ledger import due
from worker.ledger import units as ledger
from worker.ledger.due import count_due, has_rested_suspect, read_due_releases, wake_suspects


@pytest.fixture
def suspects(archive):
    """Return forty units that failed once and rest for a minute."""
    for _ in range(40):
        archive.add()
    with archive.sessions.begin() as session:
        units = ledger.lease_units(session, archive.lease(), 40)
        for unit in units:
            ledger.fail_unit(session, unit, "crashed", 3)
        session.execute(text("UPDATE unit SET not_before = now() + interval '1 minute'"))
    return [unit.unit_id for unit in units]


def lease(archive, owner="one"):
    with archive.sessions.begin() as session:
        return [unit.unit_id for unit in ledger.lease_units(session, archive.lease(owner), 10, suspects=True)]


def end_pause(archive, units):
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE unit SET not_before = now() WHERE unit_id = ANY (:ids)"), {"ids": units})


def ask(archive, query):
    with archive.sessions.begin() as session:
        return query(session)


def removed_units(plan):
    """Count the units that a plan read and dropped, in all of its nodes."""
    removed = [value for key, value in plan.items() if key.startswith("Rows Removed")]
    dropped = sum(removed) * plan["Actual Loops"] if plan.get("Relation Name") == "unit" else 0
    return dropped + sum(removed_units(child) for child in plan.get("Plans", []))


@pytest.mark.parametrize("statement", ["lease", "due"])
def test_no_unit_that_rests_is_read(archive, suspects, statement):
    lease_one = archive.lease()
    values = {
        "release_id": lease_one.release_id, "owner": "one", "seconds": 1, "limit": 1, "held": [], "job_id": None,
        "max_attempts": 3, "stages": ["analyse", "finish"],
    }  # fmt: skip
    query = {"lease": ledger._LEASE_SUSPECT, "due": due._DUE_RELEASES}[statement].text
    with archive.sessions() as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))  # a table of forty rows is cheaper to read whole
        plan = session.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}"), values).scalar_one()
    assert removed_units(plan[0]["Plan"]) == 0


def test_a_suspect_is_due_when_its_pause_is_over_and_not_before(archive, suspects):
    assert lease(archive) == []
    assert ask(archive, read_due_releases) == []
    assert ask(archive, lambda session: count_due(session, 100)) == 0
    end_pause(archive, suspects[3:5])
    release_id = archive.lease().release_id
    assert [one.release_id for one in ask(archive, read_due_releases)] == [release_id]
    assert ask(archive, lambda session: count_due(session, 100)) == 2
    assert ask(archive, lambda session: has_rested_suspect(session, release_id))
    ask(archive, wake_suspects)
    assert ask(archive, lambda session: count_due(session, 100)) == 2
    assert ask(archive, lambda session: has_rested_suspect(session, release_id))
    assert [lease(archive), lease(archive, "two"), lease(archive, "three")] == [[suspects[3]], [suspects[4]], []]


def test_those_that_one_waking_leaves_are_woken_by_the_next(archive, suspects, monkeypatch):
    monkeypatch.setattr(due, "SUSPECTS_PER_WAKING", 15)
    end_pause(archive, suspects)
    assert sorted(unit for _ in suspects for unit in lease(archive)) == suspects


def test_waking_waits_for_no_row(archive, suspects):
    end_pause(archive, suspects)
    with archive.sessions() as other:
        other.execute(text("SELECT FROM unit WHERE unit_id = :id FOR UPDATE"), {"id": suspects[0]})
        with archive.sessions.begin() as session:
            session.execute(text("SET LOCAL lock_timeout = '1s'"))
            wake_suspects(session)
            resting = session.scalars(text("SELECT unit_id FROM unit WHERE not_before IS NOT NULL")).all()
    assert resting == [suspects[0]]
