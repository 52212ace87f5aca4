"""Full regrouping on a real PostgreSQL: changes, proposals, and appearances that come meanwhile."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from worker.errors import UsageError
from worker.identity import correct, proposals
from worker.identity.gallery import Gallery, lock_people, refresh_people
from worker.identity.identifier import Identifier, identify_pending
from worker.identity.merge_candidates import read_merge_candidates
from worker.identity.proposals import apply_proposal, discard_proposal, read_proposals, regroup_people
from worker.identity.regroup import Alarm, apply, compute, is_current, take_snapshot

NEVER = Alarm(share=1.0, floor=0)
ALWAYS = Alarm(share=0.0, floor=0)


def identify(crowd):
    lock_people(crowd.session)
    known = Gallery(crowd.trunk_id)
    while identify_pending(crowd.session, known):
        pass


def scatter(crowd, media_id):
    """Make every appearance of a file a person of its own, as if none had been recognised."""
    crowd.session.execute(
        text("""WITH lost AS (SELECT appearance_id, nextval('facet.person_person_id_seq') AS person_id
                              FROM appearance WHERE media_id = :m),
                     made AS (INSERT INTO person (person_id) SELECT person_id FROM lost)
                UPDATE appearance SET person_id = lost.person_id FROM lost
                WHERE appearance.appearance_id = lost.appearance_id"""),
        {"m": media_id},
    )
    people = crowd.session.scalars(text("SELECT person_id FROM person")).all()
    refresh_people(crowd.session, crowd.trunk_id, np.array(people, np.int64))


@pytest.fixture
def torn(crowd, archive):
    """Three people, four images each; in one file none was recognised. The people, committed."""
    for _ in range(3):
        crowd.photo(0, 1, 2)
    identify(crowd)
    people = [crowd.who()[1, somebody] for somebody in range(3)]
    scatter(crowd, crowd.photo(0, 1, 2))
    crowd.session.commit()
    return people


def test_people_keep_their_numbers_and_take_back_their_appearances(crowd, torn, archive):
    correct.name_people(crowd.session, [correct.NewName(torn[1], "Ada")])
    crowd.session.commit()
    done = regroup_people(archive.sessions, crowd.trunk_id, NEVER)
    assert (done.changed, done.appearances, done.people_before, done.people_after) == (3, 12, 6, 3)
    assert [crowd.who()[media, n] for media in range(1, 5) for n in range(3)] == torn * 4
    assert crowd.names() == {torn[1]: "Ada"}
    assert regroup_people(archive.sessions, crowd.trunk_id, ALWAYS).changed == 0


def test_a_regrouping_beyond_the_alarm_waits_as_a_proposal(crowd, torn, archive):
    before = crowd.who()
    done = regroup_people(archive.sessions, crowd.trunk_id, ALWAYS)
    crowd.session.commit()
    assert crowd.who() == before
    assert done.reason == "3 of 12 appearances would change their person"
    [waiting] = read_proposals(crowd.session)
    assert (waiting.proposal_id, waiting.people_before, waiting.people_after) == (done.proposal_id, 6, 3)
    assert {(shift.to_person_id, shift.appearances) for shift in waiting.shifts} == {(who, 1) for who in torn}
    apply_proposal(crowd.session, waiting.proposal_id)
    assert [crowd.who()[4, n] for n in range(3)] == torn
    assert read_proposals(crowd.session) == []
    with pytest.raises(UsageError, match="no open proposal"):
        apply_proposal(crowd.session, waiting.proposal_id)


def test_a_vanishing_of_people_is_too_much_as_well(crowd, torn, archive):
    done = regroup_people(archive.sessions, crowd.trunk_id, Alarm(share=0.3, floor=0))
    assert done.reason == "of 6 people 3 would be left"
    assert regroup_people(archive.sessions, crowd.trunk_id, Alarm(share=0.3, floor=3)).reason is None


def test_a_newer_proposal_takes_the_place_of_the_older(crowd, torn, archive):
    first = regroup_people(archive.sessions, crowd.trunk_id, ALWAYS).proposal_id
    second = regroup_people(archive.sessions, crowd.trunk_id, ALWAYS).proposal_id
    assert [waiting.proposal_id for waiting in read_proposals(crowd.session)] == [second]
    with pytest.raises(UsageError, match=f"no open proposal {first}"):
        discard_proposal(crowd.session, first)
    discard_proposal(crowd.session, second)
    assert read_proposals(crowd.session) == []


@pytest.mark.parametrize("change", ["correction", "undo", "analysis"])
def test_a_proposal_that_no_longer_fits_is_refused(crowd, torn, archive, change):
    if change == "undo":
        correct.name_people(crowd.session, [correct.NewName(torn[0], "Ada")])
        crowd.session.commit()
    number = regroup_people(archive.sessions, crowd.trunk_id, ALWAYS).proposal_id
    if change == "correction":
        correct.name_people(crowd.session, [correct.NewName(torn[0], "Ada")])
    elif change == "undo":
        correct.undo_correction(crowd.session)
    else:
        crowd.analyse(1)
        identify(crowd)
    with pytest.raises(UsageError, match="no longer fits: people were changed since"):
        apply_proposal(crowd.session, number)


def test_appearances_after_a_proposal_are_placed_when_it_is_applied(crowd, torn, archive):
    number = regroup_people(archive.sessions, crowd.trunk_id, ALWAYS).proposal_id
    late = crowd.photo(2, 1)
    stranger = crowd.photo(5)
    identify(crowd)
    somebody = crowd.who()[stranger, 0]
    apply_proposal(crowd.session, number)
    assert [crowd.who()[late, n] for n in range(2)] == [torn[2], torn[1]]
    assert crowd.who()[stranger, 0] == somebody
    assert [crowd.who()[4, n] for n in range(3)] == torn


def test_corrections_hold_in_a_regrouping(crowd, torn, archive):
    mistaken = crowd.ids(torn[0])[0]
    correct.merge_people(crowd.session, torn[1:])
    correct.not_person(crowd.session, torn[0], [mistaken])
    crowd.session.commit()
    regroup_people(archive.sessions, crowd.trunk_id, NEVER)
    assert mistaken not in crowd.ids(torn[0])
    assert len(crowd.ids(torn[0])) == 3
    assert crowd.who()[1, 1] == crowd.who()[1, 2]


def test_a_correction_while_it_is_computed_is_not_lost(crowd, torn, archive, monkeypatch):
    """Leave people who were corrected meanwhile as they are; regroup the others."""
    computed = []

    def compute_slowly(snapshot):
        regrouping = compute(snapshot)
        if not computed:
            with archive.sessions.begin() as session:
                correct.split_person(session, torn[0], crowd.ids(torn[0])[:1])
        computed.append(regrouping)
        return regrouping

    monkeypatch.setattr(proposals, "compute", compute_slowly)
    regroup_people(archive.sessions, crowd.trunk_id, NEVER)
    assert len(computed) == 1
    assert crowd.who()[1, 0] != crowd.who()[2, 0]
    assert set(computed[0].before.tolist()) - set(crowd.who().values()) == set(computed[0].before[1:].tolist())


def test_identification_while_it_is_computed_does_not_delay_it(crowd, torn, archive):
    snapshot = take_snapshot(crowd.session, crowd.trunk_id)
    late = crowd.photo(1)
    identify(crowd)
    regrouping = compute(snapshot)
    assert is_current(crowd.session, regrouping)
    apply(crowd.session, Gallery(crowd.trunk_id), regrouping)
    assert crowd.who()[late, 0] == torn[1]


def test_an_empty_archive_can_be_regrouped(crowd, archive):
    done = regroup_people(archive.sessions, crowd.trunk_id, ALWAYS)
    assert (done.changed, done.appearances, done.people_after) == (0, 0, 0)


def similar_crowd(crowd):
    """Two people who were found as two and came to look like one."""
    between = crowd.centres[0] + crowd.centres[1]
    crowd.centres[2] = between / np.linalg.norm(between)
    crowd.noise = 0.05
    for one in range(2):
        tilted = crowd.centres[one] + 0.55 * crowd.centres[2]
        crowd.centres[one] = tilted / np.linalg.norm(tilted)
    crowd.photo(0)
    crowd.photo(1)
    scatter(crowd, 1)
    scatter(crowd, 2)
    for _ in range(3):
        crowd.photo(2)
    identify(crowd)


def test_merge_candidates_are_listed_until_a_correction_decides(crowd):
    similar_crowd(crowd)
    [pair] = read_merge_candidates(crowd.session)
    assert pair.first.person_id < pair.second.person_id
    assert pair.similarity > 0.5
    correction = correct.merge_people(crowd.session, [pair.first.person_id, pair.second.person_id])
    assert read_merge_candidates(crowd.session) == []
    correct.undo_correction(crowd.session, correction)
    [again] = read_merge_candidates(crowd.session)
    assert (again.first, again.second) == (pair.first, pair.second)
    assert again.similarity == pytest.approx(pair.similarity, abs=1e-6)  # summed up in another order
    correct.name_people(crowd.session, [correct.NewName(pair.first.person_id, "Ada")])
    correct.name_people(crowd.session, [correct.NewName(pair.second.person_id, "Bo")])
    assert read_merge_candidates(crowd.session) == []


def test_a_worker_goes_on_after_people_it_held_are_gone(crowd, archive):
    crowd.photo(0)
    crowd.photo(1)
    crowd.session.commit()
    identifier = Identifier(archive.sessions, crowd.trunk_id)
    assert identifier.finish() == 2
    gone = crowd.who()[1, 0]
    crowd.session.execute(text("UPDATE appearance SET person_id = NULL WHERE person_id = :p"), {"p": gone})
    crowd.session.execute(text("DELETE FROM person WHERE person_id = :p"), {"p": gone})
    crowd.photo(0)
    crowd.session.commit()
    assert identifier.finish() == 2
    assert crowd.who()[1, 0] == crowd.who()[3, 0] != gone


def test_people_of_a_program_without_sums_are_summed_up(crowd, archive):
    crowd.photo(0)
    identify(crowd)
    person = crowd.who()[1, 0]
    crowd.session.execute(text("UPDATE person_embedding SET revision = 0, embedding_sum = NULL, embedding_weight = 0"))
    media_id = crowd.photo(0)
    identify(crowd)
    assert crowd.who()[media_id, 0] == person
    weight = text("SELECT embedding_weight FROM person_embedding WHERE person_id = :p")
    assert crowd.session.execute(weight, {"p": person}).scalar_one() == pytest.approx(1.6)


def test_a_workers_role_may_do_all_of_it(crowd, torn, archive):
    with archive.sessions.begin() as session:
        session.execute(text("DISCARD TEMP"))  # a pooled connection may keep a table of another role
        session.execute(text("SET LOCAL ROLE facet_worker"))
        number = correct.merge_people(session, torn[:2])
        new = correct.split_person(session, torn[2], crowd.ids(torn[2])[:1]).correction_id
        correct.undo_correction(session, new)
        correct.undo_correction(session, number)
        known = Gallery(crowd.trunk_id)
        apply(session, known, compute(take_snapshot(session, crowd.trunk_id)))
    assert [crowd.who()[4, n] for n in range(3)] == torn
