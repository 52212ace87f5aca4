"""Identification that fails at one file goes on with all others, and crowds come in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from worker.identity import identifier as people
from worker.identity.identifier import Identifier
from worker.identity.proposals import regroup_people
from worker.identity.regroup import Alarm
from worker.ledger import identify_attempts
from worker.ledger.status.health import run_health_checks

NEVER = Alarm(share=1.0, floor=0)


@pytest.fixture
def sessions(archive):
    return archive.sessions


def spoil(monkeypatch, media, error):
    """Make identification fail at some files."""
    place = people.place

    def place_or_fail(session, gallery, appearances, *more):
        if np.isin(appearances.media, media).any():
            raise error
        return place(session, gallery, appearances, *more)

    monkeypatch.setattr(people, "place", place_or_fail)


def without_people(crowd):
    return sorted({media for (media, _), person in crowd.who().items() if person is None})


@pytest.mark.parametrize("error", [MemoryError(), ValueError("no"), np.linalg.LinAlgError("singular")])
def test_a_file_at_which_it_fails_is_passed_over_and_all_others_get_people(crowd, sessions, monkeypatch, error):
    files = [crowd.photo(0, 1), crowd.film(2, 3, 4), crowd.photo(0), crowd.photo(1, 5)]
    crowd.session.commit()
    with monkeypatch.context() as patch:
        spoil(patch, files[1], error)
        identifier = Identifier(sessions, crowd.trunk_id)
        assert identifier.finish() == 5
        assert identifier.finish() == 0
    assert without_people(crowd) == [files[1]]
    who = crowd.who()
    assert who[files[0], 0] == who[files[2], 0]
    (told,) = [line for line in run_health_checks(crowd.session) if "regroup" in line]
    assert f"/crowd/{files[1]}" in told or "/crowd/" in told
    assert type(error).__name__ in told
    crowd.session.commit()
    with sessions.begin() as session:
        identify_attempts.retry_skipped(session, crowd.trunk_id)
    assert identifier.finish() == 3
    assert without_people(crowd) == []
    assert not [line for line in run_health_checks(crowd.session) if "regroup" in line]


def test_a_file_that_fails_under_one_trunk_gets_people_under_another_of_its_finder(crowd, sessions, monkeypatch):
    files = [crowd.photo(0, 1), crowd.photo(2)]
    other = crowd.register(trunk="of other weights")
    assert (other.finder_id == crowd.release.finder_id, other.trunk_id == crowd.trunk_id) == (True, False)
    crowd.session.execute(
        text("""INSERT INTO appearance (analysis_id, media_id, trunk_id, ordinal, start_seconds, end_seconds,
                                        face_count, quality, embedding)
                SELECT analysis_id, media_id, :trunk, ordinal, start_seconds, end_seconds, face_count, quality,
                       embedding
                FROM appearance"""),
        {"trunk": other.trunk_id},
    )
    crowd.session.commit()
    with monkeypatch.context() as patch:
        spoil(patch, files[0], ValueError("no"))
        assert Identifier(sessions, crowd.trunk_id).finish() == 1
    assert Identifier(sessions, other.trunk_id).finish() == 3
    assert Identifier(sessions, crowd.trunk_id).finish() == 0
    failures = text("SELECT trunk_id, attempts, error FROM identify_failure")
    assert crowd.session.execute(failures).all() == [(crowd.trunk_id, 3, "ValueError: no")]
    crowd.session.commit()
    with sessions.begin() as session:
        identify_attempts.retry_skipped(session, other.trunk_id)
    assert Identifier(sessions, crowd.trunk_id).finish() == 0
    with sessions.begin() as session:
        identify_attempts.retry_skipped(session, crowd.trunk_id)
    assert Identifier(sessions, crowd.trunk_id).finish() == 2
    assert crowd.session.execute(failures).all() == []


def test_a_worker_that_is_killed_leaves_a_mark(crowd, sessions, monkeypatch):
    """Three workers die at a file; the fourth passes it over."""
    crowd.photo(0, 1)
    bad = crowd.film(2, 3)
    crowd.session.commit()

    class Killed(BaseException):
        pass

    with monkeypatch.context() as patch:
        spoil(patch, [bad], Killed())
        for _ in range(3):
            with pytest.raises(Killed):
                Identifier(sessions, crowd.trunk_id).finish()
        assert Identifier(sessions, crowd.trunk_id).finish() == 0
    assert without_people(crowd) == [bad]
    crowd.photo(1)
    crowd.session.commit()
    assert Identifier(sessions, crowd.trunk_id).finish() == 1


def test_an_error_of_no_file_does_not_repeat_for_ever(crowd, sessions, monkeypatch):
    crowd.photo(0)
    crowd.session.commit()
    monkeypatch.setattr(people, "retire_superseded", lambda *_: 1 / 0)
    identifier = Identifier(sessions, crowd.trunk_id)
    nothing = people._Batch(people.read_stored_appearances(crowd.session, np.zeros(0, np.int64)), [])
    monkeypatch.setattr(people, "_read_batch", lambda *_, **__: nothing)
    with pytest.raises(ZeroDivisionError):
        identifier.finish()
    identifier._next_at = 0.0
    identifier.tick()  # the units in flight are not at fault


@pytest.mark.parametrize("batch", [3, 7, 1000])
def test_a_crowd_that_comes_in_pieces_is_the_same_people(crowd, sessions, monkeypatch, batch):
    monkeypatch.setattr(people, "BATCH_APPEARANCES", batch)
    film = crowd.film(*(list(range(8)) * 4))
    photo = crowd.photo(0, 1, 2, 3, 4, 5)
    crowd.session.commit()
    assert Identifier(sessions, crowd.trunk_id).finish() == 38
    who = crowd.who()
    assert len(set(who.values())) == 8
    assert all(who[film, n] == who[film, n % 8] for n in range(32))
    assert [who[photo, n] for n in range(6)] == [who[film, n] for n in range(6)]


def test_an_attempt_that_is_rolled_back_counts_no_person_twice(crowd, sessions, monkeypatch):
    crowd.photo(0, 1)
    crowd.session.commit()
    identifier = Identifier(sessions, crowd.trunk_id)
    identifier.finish()
    crowd.photo(0, 1, 2)
    crowd.session.commit()
    refresh = people.retire_superseded

    def read_and_fail(session, known):
        known.refresh(session)  # its own, which is about to be rolled back
        raise ValueError("no")

    with monkeypatch.context() as patch:
        patch.setattr(people, "retire_superseded", read_and_fail)
        assert people.identify_once(sessions, identifier._gallery, people.lock_people) is None
    monkeypatch.setattr(people, "retire_superseded", refresh)
    identifier.finish()
    stored = crowd.session.execute(text("SELECT person_id, embedding_weight FROM person_embedding ORDER BY 1")).all()
    assert [round(row.embedding_weight, 4) for row in stored] == [1.6, 1.6, 0.8]
    with sessions() as session:
        held = identifier._gallery.refresh(session)
    assert dict(zip(held.person.tolist(), np.round(held.weights, 4).tolist(), strict=True)) == pytest.approx(
        {row.person_id: row.embedding_weight for row in stored}
    )


def test_regrouping_applies_the_changes_that_still_fit(crowd, sessions, monkeypatch):
    """Two people are in two pieces each; while that is computed, one of them is corrected."""
    files = [crowd.photo(one) for one in (0, 0, 1, 1, 2)]
    crowd.session.commit()
    Identifier(sessions, crowd.trunk_id).finish()
    ids = {crowd.who()[file, 0] for file in files}
    assert len(ids) == 3
    split_off = [crowd.session.execute(text("INSERT INTO person DEFAULT VALUES RETURNING person_id"))
                 .scalar_one() for _ in range(2)]  # fmt: skip
    for file, person in ((files[1], split_off[0]), (files[3], split_off[1])):
        crowd.session.execute(
            text("UPDATE appearance SET person_id = :p WHERE media_id = :m"), {"p": person, "m": file}
        )
    crowd.session.commit()
    from worker.identity import proposals

    compute = proposals.compute

    def compute_during_a_correction(snapshot):
        found = compute(snapshot)
        with sessions.begin() as session:
            session.execute(
                text("UPDATE appearance SET person_id = (SELECT max(person_id) + 0 FROM person) WHERE media_id = :m"),
                {"m": files[2]},
            )
        return found

    monkeypatch.setattr(proposals, "compute", compute_during_a_correction)
    done = regroup_people(sessions, crowd.trunk_id, NEVER)
    who = crowd.who()
    assert done.changed == 1
    assert who[files[0], 0] == who[files[1], 0]
    assert who[files[2], 0] == who[files[3], 0] == split_off[1]
    monkeypatch.setattr(proposals, "compute", compute)
    assert regroup_people(sessions, crowd.trunk_id, NEVER).people_after == 3


def test_changes_of_a_settled_proposal_go(crowd, sessions):
    for one in (0, 0, 1, 1):
        crowd.photo(one)
    crowd.session.commit()
    Identifier(sessions, crowd.trunk_id).finish()
    crowd.session.execute(text("INSERT INTO person DEFAULT VALUES"))
    crowd.session.execute(
        text("UPDATE appearance SET person_id = (SELECT max(person_id) FROM person) WHERE appearance_id = 1")
    )
    crowd.session.commit()
    always = Alarm(share=0.0, floor=0)
    count = text("SELECT proposal_id, count(*) FROM regroup_change GROUP BY 1")
    first = regroup_people(sessions, crowd.trunk_id, always).proposal_id
    assert crowd.session.execute(count).all() == [(first, 1)]
    second = regroup_people(sessions, crowd.trunk_id, always).proposal_id
    crowd.session.commit()
    assert crowd.session.execute(count).all() == [(second, 1)]
    regroup_people(sessions, crowd.trunk_id, NEVER)
    crowd.session.commit()
    assert crowd.session.execute(count).all() == []
