"""Answers to merge candidates on a real PostgreSQL: they hold through regrouping, and an undo opens the question."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from worker.errors import UsageError
from worker.identity import correct
from worker.identity.corrections.history import read_history
from worker.identity.gallery import Gallery, lock_people
from worker.identity.identifier import identify_pending
from worker.identity.merge_candidates import answer_pair, read_merge_candidates, read_open_pair
from worker.identity.proposals import regroup_people
from worker.identity.regroup import Alarm
from worker.identity.search.likeness import SFACE, Comparisons, prior_of, probability
from worker.identity.search.searcher import Searcher
from worker.visible import counted

NEVER = Alarm(share=1.0, floor=0)


def identify(crowd):
    lock_people(crowd.session)
    gallery = Gallery(crowd.trunk_id)
    while identify_pending(crowd.session, gallery):
        pass
    crowd.session.flush()


@pytest.fixture
def pair(crowd):
    """One person who was found twice because the first images differ, and then once more, in between; two people."""
    centre, away = crowd.centres[0].copy(), crowd.centres[1].copy()
    away -= (away @ centre) * centre
    for side in (-1.0, 1.0):
        crowd.centres[0] = centre + side * 0.75 * away / np.linalg.norm(away)
        crowd.centres[0] /= np.linalg.norm(crowd.centres[0])
        crowd.noise = 0.1
        crowd.photo(0)
    crowd.photo(2)
    identify(crowd)
    crowd.centres[0] = centre
    crowd.photo(0)
    identify(crowd)
    first, second, other = [crowd.who()[media, 0] for media in sorted(crowd.files)[:3]]
    assert len({first, second, other}) == 3
    crowd.session.execute(
        text("""INSERT INTO person_alike (trunk_id, first_person_id, second_person_id) VALUES (:t, :a, :b)
                ON CONFLICT DO NOTHING"""),
        {"t": crowd.trunk_id, "a": min(first, second), "b": max(first, second)},
    )
    return min(first, second), max(first, second)


def open_pairs(crowd):
    found, counts = read_open_pair(crowd.session)
    assert counts.open == (found is not None)
    return [] if found is None else [(found.first.person_id, found.second.person_id)]


def count_answers(session):
    return read_open_pair(session)[1]


def regroup(crowd, archive):
    crowd.session.commit()
    regroup_people(archive.sessions, crowd.trunk_id, NEVER, force=True)


def test_yes_merges_into_the_named_one_and_an_undo_asks_again(crowd, pair):
    assert open_pairs(crowd) == [pair]
    correct.name_people(crowd.session, [correct.NewName(pair[1], "Ada")])
    before = crowd.who()
    number = answer_pair(crowd.session, pair, "same", made_by="ines")
    assert open_pairs(crowd) == []
    assert crowd.names() == {pair[1]: "Ada"}
    assert pair[0] not in crowd.who().values()
    counts = count_answers(crowd.session)
    assert (counts.same, counts.different, counts.skipped, counts.open) == (1, 0, 0, 0)
    assert read_history(crowd.session)[0].made_by == "ines"
    correct.undo_correction(crowd.session, number)
    assert crowd.who() == before
    assert open_pairs(crowd) == [pair]
    assert count_answers(crowd.session).same == 0


def test_no_keeps_two_people_apart_when_they_are_regrouped(crowd, archive, pair):
    correct.name_people(crowd.session, [correct.NewName(person, "Ada") for person in pair])
    [candidate] = read_merge_candidates(crowd.session)
    assert (candidate.first.name, candidate.second.name) == ("Ada", "Ada")
    before = crowd.who()
    answer_pair(crowd.session, (pair[1], pair[0]), "different", made_by="ines")
    assert crowd.names() == dict.fromkeys(pair, "Ada")  # both keep the name
    assert crowd.who() == before
    assert read_merge_candidates(crowd.session) == []
    assert count_answers(crowd.session).different == 1
    # Images between the two would join them now, but for the answer.
    for _ in range(12):
        crowd.photo(0)
    identify(crowd)
    regroup(crowd, archive)
    after = crowd.who()
    first, second, *_ = sorted(crowd.files)
    assert after[first, 0] != after[second, 0]
    assert sorted(crowd.names().values()) == ["Ada", "Ada"]
    [past, *_] = read_history(crowd.session)
    told = counted(past.appearances, "appearance is", "appearances are")
    assert past.description() == f"{told} not person {pair[0]} but {pair[1]}"


def test_without_the_answer_the_regrouping_joins_them(crowd, archive, pair):
    for _ in range(12):
        crowd.photo(0)
    identify(crowd)
    regroup(crowd, archive)
    assert len({crowd.who()[media, 0] for media in sorted(crowd.files)[:2]}) == 1


def test_a_skipped_pair_is_listed_but_never_asked_again(crowd, pair):
    assert answer_pair(crowd.session, pair, "skipped", made_by="ines") is None
    assert open_pairs(crowd) == []
    assert len(read_merge_candidates(crowd.session)) == 1
    assert count_answers(crowd.session).skipped == 1
    answer_pair(crowd.session, pair, "same")  # a later answer counts
    counts = count_answers(crowd.session)
    assert (counts.same, counts.skipped) == (1, 0)


def test_people_shows_who_waits_for_an_answer_and_an_undo_asks_again(crowd, pair):
    def waiting():
        return set(crowd.session.scalars(text("SELECT person_id FROM people WHERE has_merge_candidate")))

    assert waiting() == set(pair)
    number = answer_pair(crowd.session, pair, "different", made_by="ada")
    assert waiting() == set()
    correct.undo_correction(crowd.session, number)
    assert waiting() == set(pair)


def test_a_hidden_person_is_asked_about_no_more(crowd, pair):
    crowd.session.execute(text("UPDATE person SET hidden_at = now() WHERE person_id = :p"), {"p": pair[0]})
    assert open_pairs(crowd) == []


def test_the_probability_is_calibrated_where_the_trunk_is_known(crowd, pair):
    assert read_merge_candidates(crowd.session)[0].probability is None
    crowd.session.execute(
        text("""UPDATE release SET manifest =
                    jsonb_set(manifest, '{files,trunk.safetensors}', to_jsonb(cast(:sha AS text)))"""),
        {"sha": SFACE.trunk_sha256},
    )
    crowd.session.commit()
    [candidate] = read_merge_candidates(crowd.session)
    one, other = (
        Searcher(crowd.session.get_bind().url.render_as_string(hide_password=False)).person(person) for person in pair
    )
    pairs = Comparisons(
        cosine=np.array([one.embedding @ other.embedding]),
        quality=np.array([min(one.quality, other.quality)]),
        agreement=np.array([one.agreement * other.agreement]),
    )
    assert candidate.probability == pytest.approx(probability(pairs, prior_of(3))[0], abs=0.01)


@pytest.mark.parametrize("answer", ["same", "different", "skipped"])
def test_a_person_who_is_not_there_is_wrong_use(crowd, pair, answer):
    with pytest.raises(UsageError, match="there is no person 999"):
        answer_pair(crowd.session, (pair[0], 999), answer)
    with pytest.raises(UsageError, match="twice"):
        answer_pair(crowd.session, (pair[0], pair[0]), answer)
    assert count_answers(crowd.session).same == 0
