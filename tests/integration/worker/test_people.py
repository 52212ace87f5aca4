"""People and corrections on a real PostgreSQL: a correction holds, survives new analyses, and can be undone."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from worker.errors import UsageError
from worker.identity import correct
from worker.identity.corrections.history import read_history
from worker.identity.gallery import Gallery, refresh_people
from worker.identity.identifier import identify_pending, show_release

DUMP = (
    """SELECT person_id, trunk_id, name, created_at, embedding_weight, is_good, correction_id
       FROM person JOIN person_embedding USING (person_id) ORDER BY 1, 2""",
    "SELECT appearance_id, person_id FROM appearance ORDER BY 1",
)


def identify(crowd, release=None):
    known = Gallery((release or crowd.release).trunk_id)
    while identify_pending(crowd.session, known):
        pass
    crowd.session.flush()


def dump(crowd):
    """Return everything that users see of people."""
    return [[tuple(row) for row in crowd.session.execute(text(query))] for query in DUMP]


def sums(crowd):
    query = text("SELECT cast(embedding_sum AS real[]) FROM person_embedding WHERE trunk_id = :t ORDER BY person_id")
    return np.array(list(crowd.session.execute(query, {"t": crowd.trunk_id}).scalars()), np.float32)


@pytest.fixture
def people(crowd):
    """Three people, four images each, and one image with all three; the person of each."""
    for _ in range(4):
        for somebody in range(3):
            crowd.photo(somebody)
    crowd.photo(0, 1, 2)
    identify(crowd)
    last = max(crowd.files)
    return [crowd.who()[last, somebody] for somebody in range(3)]


def test_people_are_found_and_summed_up(crowd, people):
    assert len(set(people)) == 3
    assert [len(crowd.ids(person)) for person in people] == [5, 5, 5]
    before = sums(crowd)
    refresh_people(crowd.session, crowd.trunk_id, np.array(people))
    assert np.allclose(before, sums(crowd), atol=1e-5)


def test_a_correction_names_who_made_and_who_undid_it(crowd, people):
    correct.name_people(crowd.session, [correct.NewName(people[0], "Ada")], made_by="ines")
    correct.merge_people(crowd.session, people[:2], made_by="jo")
    correct.split_person(crowd.session, people[0], crowd.ids(people[0])[-1:], made_by="kim")
    correct.not_person(crowd.session, people[0], crowd.ids(people[0])[:1], made_by="lea")
    correct.undo_correction(crowd.session, made_by="max")
    shown = crowd.session.execute(text("SELECT kind, made_by, undone_by FROM corrections ORDER BY correction_id")).all()
    assert [tuple(row) for row in shown] == [
        ("name", "ines", None), ("merge", "jo", None), ("split", "kim", None), ("not", "lea", "max"),
    ]  # fmt: skip
    assert [(one.made_by, one.undone_by) for one in read_history(crowd.session)][:2] == [("lea", "max"), ("kim", None)]


def test_a_name_is_given_and_taken_back(crowd, people):
    before = dump(crowd)
    number = correct.name_people(crowd.session, [correct.NewName(people[0], " Ada ", "her daughter said so")])[0]
    assert crowd.names() == {people[0]: "Ada"}
    [past] = read_history(crowd.session)
    assert past.description() == f"person {people[0]} is called Ada"
    assert (past.reason, past.lost) == ("her daughter said so", 0)
    assert correct.undo_correction(crowd.session) == number
    assert dump(crowd) == before
    [told] = read_history(crowd.session)
    assert told.undone_at is not None


def test_a_merge_keeps_the_first_number_and_the_first_name(crowd, people):
    correct.name_people(crowd.session, [correct.NewName(people[1], "Bo")])
    before = dump(crowd)
    correct.merge_people(crowd.session, people[:2])
    assert len(crowd.ids(people[0])) == 10
    assert crowd.ids(people[1]) == []
    assert crowd.names() == {people[0]: "Bo"}
    shown = crowd.session.scalars(text("SELECT person_id FROM people ORDER BY 1")).all()
    assert shown == [people[0], people[2]]
    correct.undo_correction(crowd.session)
    assert dump(crowd) == before


def test_a_split_makes_a_new_person_and_its_undo_takes_it_away(crowd, people):
    correct.name_people(crowd.session, [correct.NewName(people[0], "Ada")])
    before = dump(crowd)
    some = crowd.ids(people[0])[:2]
    new = correct.split_person(crowd.session, people[0], some).person_id
    assert crowd.ids(new) == some
    assert crowd.names() == {people[0]: "Ada"}
    correct.undo_correction(crowd.session)
    assert dump(crowd) == before


def test_not_sends_appearances_to_a_similar_person_or_a_new_one(crowd, people):
    correct.merge_people(crowd.session, people[:2])
    before = dump(crowd)
    of_the_second = crowd.ids(people[0])[-1:]
    now = correct.not_person(crowd.session, people[0], of_the_second).people
    assert now[of_the_second[0]] not in people
    correct.undo_correction(crowd.session)
    assert dump(crowd) == before


def test_wrong_use_is_refused(crowd, people):
    session = crowd.session
    first, second = crowd.ids(people[0]), crowd.ids(people[1])
    for wrong, message in (
        (lambda: correct.name_people(session, [correct.NewName(999, "Ada")]), "there is no person 999"),
        (lambda: correct.name_people(session, [correct.NewName(people[0], " ")]), "the name is empty"),
        (lambda: correct.merge_people(session, [people[0], people[0]]), "fewer than two"),
        (lambda: correct.split_person(session, people[0], second[:1]), "are not of person"),
        (lambda: correct.split_person(session, people[0], []), "none; expected"),
        (lambda: correct.not_person(session, people[0], first), "all 5 appearances"),
        (lambda: correct.undo_correction(session), "no correction is active"),
        (lambda: correct.undo_correction(session, 7), "there is no correction 7"),
    ):
        with pytest.raises(UsageError, match=message):
            wrong()


def test_a_correction_with_later_ones_on_it_is_undone_last(crowd, people):
    first = correct.merge_people(crowd.session, people[:2])
    second = correct.name_people(crowd.session, [correct.NewName(people[0], "Ada")])[0]
    other = correct.name_people(crowd.session, [correct.NewName(people[2], "Eve")])[0]
    with pytest.raises(UsageError, match=f"undo {second} first"):
        correct.undo_correction(crowd.session, first)
    correct.undo_correction(crowd.session, second)
    with pytest.raises(UsageError, match="was undone"):
        correct.undo_correction(crowd.session, second)
    correct.undo_correction(crowd.session, first)
    assert len(crowd.ids(people[1])) == 5
    assert crowd.names() == {people[2]: "Eve"}
    assert correct.undo_correction(crowd.session) == other


def test_corrections_survive_another_analysis(crowd, people):
    correct.merge_people(crowd.session, people[:2])
    correct.name_people(crowd.session, [correct.NewName(people[0], "Ada")])
    new = correct.split_person(crowd.session, people[2], crowd.ids(people[2])[:2]).person_id
    before = crowd.who()
    for media_id in crowd.files:
        crowd.analyse(media_id, jitter=12.0)
        identify(crowd)
    assert crowd.who() == before
    assert crowd.names() == {people[0]: "Ada"}
    assert [told.lost for told in read_history(crowd.session)] == [0, 0, 0]
    correct.undo_correction(crowd.session)
    assert crowd.ids(new) == []
    assert len(crowd.ids(people[2])) == 5
    refreshed = sums(crowd)
    refresh_people(crowd.session, crowd.trunk_id, np.array([*people, new]))
    assert np.allclose(refreshed[: len(people)], sums(crowd)[: len(people)], atol=1e-5)


def test_corrections_hold_for_another_release(crowd, people):
    correct.merge_people(crowd.session, people[:2])
    correct.name_people(crowd.session, [correct.NewName(people[0], "Ada")])
    other = crowd.register("next", detector="next")
    for media_id in crowd.files:
        crowd.analyse(media_id, jitter=12.0, release=other)
    identify(crowd, other)
    show_release(crowd.session, "next")
    found = crowd.session.execute(text("SELECT name, appearance_count FROM people ORDER BY person_id")).all()
    assert [tuple(row) for row in found] == [("Ada", 10), (None, 5)]


def test_corrections_hold_for_a_release_that_was_identified_before_them(crowd, people):
    other = crowd.register("next", detector="next")
    for media_id in crowd.files:
        crowd.analyse(media_id, jitter=12.0, release=other)
    identify(crowd, other)
    correct.merge_people(crowd.session, people[:2])
    correct.name_people(crowd.session, [correct.NewName(people[0], "Ada")])
    correct.name_people(crowd.session, [correct.NewName(people[2], "Cyd")])
    shown = text("SELECT name, appearance_count FROM people ORDER BY person_id")
    assert show_release(crowd.session, "next") == "next"
    assert crowd.session.execute(shown).all() == [("Ada", 10), ("Cyd", 5)]
    correct.undo_correction(crowd.session)
    assert show_release(crowd.session, "test") == "test"
    assert crowd.session.execute(shown).all() == [("Ada", 10), (None, 5)]


def test_an_anchor_whose_file_is_not_analysed_is_counted_and_waits(crowd, people):
    correct.name_people(crowd.session, [correct.NewName(people[0], "Ada")])
    media_id = next(iter(crowd.files))
    crowd.session.execute(text("UPDATE analysis SET is_current = false WHERE media_id = :m"), {"m": media_id})
    assert [told.lost for told in read_history(crowd.session)] == [1]
    crowd.analyse(media_id)
    identify(crowd)
    assert [told.lost for told in read_history(crowd.session)] == [0]


def test_appearances_that_a_new_analysis_no_longer_finds_leave_the_sums(crowd, people):
    media_id = crowd.photo(0)
    identify(crowd)
    assert crowd.who()[media_id, 0] == people[0]
    before = sums(crowd)
    crowd.files[media_id] = []
    crowd.analyse(media_id)
    identify(crowd)
    assert not np.allclose(before, sums(crowd), atol=1e-3)
    refresh_people(crowd.session, crowd.trunk_id, np.array(people))
    assert len(crowd.ids(people[0])) == 5
