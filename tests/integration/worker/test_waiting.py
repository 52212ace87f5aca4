"""A host that lacks the place of a large job finds the few units that it can read, in order, a window at a time."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from worker.errors import MediaUnreachable
from worker.ledger import units as ledger
from worker.ledger.leases import LeaseHolder
from worker.ledger.unreachable import waiting
from worker.ledger.unreachable.places import UnreachablePlaces
from worker.ledger.unreachable.waiting import WindowSearch

AWAY = "/nas"


@pytest.fixture(autouse=True)
def window(monkeypatch):
    monkeypatch.setattr("worker.ledger.unreachable.waiting.WINDOW", 5)


def add(archive, places, priority=0, turn=None):
    """Add a file below each place; turns go on from the last one."""
    for place in places:
        analysis_id = archive.add()
        with archive.sessions.begin() as session:
            session.execute(
                text("""UPDATE media_file SET location = :place || '/' || media_file.media_id FROM analysis
                        WHERE analysis.media_id = media_file.media_id AND analysis_id = :id"""),
                {"place": place, "id": analysis_id},
            )
            session.execute(
                text("UPDATE unit SET turn = coalesce(:turn, unit_id), priority = :priority WHERE analysis_id = :id"),
                {"turn": turn, "priority": priority, "id": analysis_id},
            )


@pytest.fixture
def unreachable():
    unreachable = UnreachablePlaces()
    unreachable.note(0, MediaUnreachable(AWAY, "not here"))
    return unreachable


def take(archive, unreachable, limit=2, **options):
    """Take units as a worker does, and end them; return their numbers."""
    with LeaseHolder(archive.sessions, archive.lease(), unreachable=unreachable) as leases:
        units = leases.take(limit, **options)
        with archive.sessions.begin() as session:
            for unit in units:
                ledger.finish_unit(session, unit, "done")
                leases.drop(unit)
    return [unit.unit_id for unit in units]


def looked_at(monkeypatch):
    """Count the units that are looked at."""
    counts = []
    original = waiting._sorted
    monkeypatch.setattr(
        "worker.ledger.unreachable.waiting._sorted", lambda rows: counts.append(len(rows)) or original(rows)
    )
    return counts


def test_units_behind_many_that_are_away_are_found_in_order(archive, unreachable):
    add(archive, [AWAY] * 23 + ["/here"] * 3 + [AWAY] * 7 + ["/here"])
    assert [take(archive, unreachable) for _ in range(4)] == [[24, 25], [26], [34], []]


def test_those_that_are_away_are_looked_at_once_for_all_that_is_found(archive, unreachable, monkeypatch):
    add(archive, [AWAY] * 20 + ["/here"] * 6)
    counts = looked_at(monkeypatch)
    assert [take(archive, unreachable) for _ in range(3)] == [[21, 22], [23, 24], [25, 26]]
    assert sum(counts) <= 20 + 3 * 5


def test_a_round_in_vain_is_not_repeated(archive, unreachable, monkeypatch):
    add(archive, [AWAY] * 33)
    counts = looked_at(monkeypatch)
    assert take(archive, unreachable) == []
    assert sum(counts) == 33
    assert unreachable.search.is_vain(unreachable.places())
    for _ in range(5):
        assert take(archive, unreachable) == []
    assert sum(counts) == 33


def test_a_place_that_may_be_there_again_begins_a_round(archive, unreachable, monkeypatch):
    add(archive, [AWAY] * 12)
    unreachable.note(0, MediaUnreachable("/other", "not here either"))
    assert take(archive, unreachable) == []
    monkeypatch.setattr("worker.ledger.unreachable.places.UnreachablePlaces.places", lambda _: ["/other"])
    assert not unreachable.search.is_vain(["/other"])
    assert take(archive, unreachable) == [1, 2]


def test_a_round_in_vain_counts_for_a_while(archive, unreachable):
    add(archive, [AWAY] * 3 + ["/here"])
    set_state = "UPDATE unit SET state = '{}', owner = 'x', lease_until = now() + interval '1 day' WHERE unit_id = 4"
    for state, found in (("leased", []), ("pending", [])):
        with archive.sessions.begin() as session:
            session.execute(text(set_state.format(state)))
        assert take(archive, unreachable) == found
    unreachable.search._again_at = 0.0
    assert take(archive, unreachable) == [4]


def test_what_is_submitted_meanwhile_is_found_at_once(archive, unreachable, monkeypatch):
    add(archive, [AWAY] * 30)
    assert take(archive, unreachable) == []
    counts = looked_at(monkeypatch)
    add(archive, [AWAY] * 7 + ["/here"])
    assert take(archive, unreachable) in ([], [38])
    assert take(archive, unreachable) in ([38], [])
    assert sum(counts) <= 8


def test_a_higher_priority_that_comes_in_the_middle_of_a_round_goes_first(archive, unreachable):
    add(archive, [AWAY] * 8 + ["/here"] * 4)
    assert take(archive, unreachable, limit=1) == [9]
    add(archive, [AWAY, "/here"], priority=5)
    add(archive, ["/here"], priority=-5)
    assert take(archive, unreachable, limit=1) == [14]
    assert take(archive, unreachable, limit=9) == [10, 11, 12, 15]


def test_priorities_are_gone_through_from_above(archive, unreachable):
    for priority in (0, 7, -3, 7, 2):
        add(archive, [AWAY] * 6 + ["/here"], priority=priority)
    found = []
    while units := take(archive, unreachable, limit=1):
        found += units
    assert found == [14, 28, 35, 7, 21]


def test_units_of_one_turn_are_all_found(archive, unreachable):
    add(archive, [AWAY] * 13 + ["/here"] * 4, turn=1)
    found = []
    while units := take(archive, unreachable, limit=3):
        found += units
    assert found == [14, 15, 16, 17]


def test_ranges_that_are_given_back_are_found_again(archive, unreachable):
    add(archive, [AWAY] * 6)
    archive.add(units=5, kind="video")
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE media_file SET location = '/here/film' WHERE kind = 'video'"))
        session.execute(text("UPDATE unit SET turn = unit_id"))
    assert [take(archive, unreachable, limit=4, videos=2) for _ in range(4)] == [[7, 8], [9, 10], [11], []]


def test_another_worker_takes_what_this_one_looks_at(archive, unreachable):
    add(archive, [AWAY] * 4 + ["/here"] * 4)
    other = UnreachablePlaces()
    other.note(0, MediaUnreachable(AWAY, "not here"))
    with LeaseHolder(archive.sessions, archive.lease("two"), unreachable=other) as leases:
        assert [unit.unit_id for unit in leases.take(2)] == [5]
        assert [take(archive, unreachable) for _ in range(2)] == [[6], [7, 8]]


def test_a_call_without_a_search_looks_at_one_window(archive):
    add(archive, [AWAY] * 3 + ["/here"])
    lease = ledger.Lease(owner="a", release_id=archive.release_id, seconds=9, max_attempts=3, unreachable=(AWAY,))
    with archive.sessions.begin() as session:
        assert [unit.unit_id for unit in ledger.lease_units(session, lease, 3)] == [4]


def test_a_search_has_places_of_its_own():
    assert not WindowSearch().is_vain([])
