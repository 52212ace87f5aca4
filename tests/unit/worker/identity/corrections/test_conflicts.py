"""What humans said, held against the people as they are."""

from __future__ import annotations

import numpy as np

from worker.identity.corrections.conflicts import find_violations, group_people, rule
from worker.identity.corrections.name_assignment import assign_names
from worker.identity.corrections.replay import ResolvedCorrection, replay


def ids(*appearances):
    return np.array(appearances, np.int64)


def word(kind, subject, rest=(), name=None):
    return ResolvedCorrection(1, kind, ids(*subject), ids(*rest), name)


def people(said, of):
    return ids(*(of.get(appearance, -1) for appearance in said.appearance.tolist()))


def test_a_group_is_the_person_that_most_of_it_have():
    assert group_people(ids(0, 0, 0, 1, 2), ids(7, 8, 8, 5, -1)).tolist() == [8, 5, -1]
    assert group_people(ids(0, 0), ids(9, 4)).tolist() == [4]
    assert group_people(ids(), ids()).shape == (0,)


def test_who_belongs_to_a_known_person_is_pinned():
    said = replay([word("merge", [1, 2, 3])])
    found = rule(said, ids(3, 40), people(said, {1: 7, 2: 7}))
    assert found.pinned.tolist() == [7, -1]
    assert found.banned.shape == (0, 2)


def test_who_was_sent_away_may_not_come_back():
    said = replay([word("not", [3], [1, 2])])
    found = rule(said, ids(3, 40), people(said, {1: 7, 2: 8}))
    assert found.pinned.tolist() == [-1, -1]
    assert found.banned.tolist() == [[0, 7], [0, 8]]


def test_a_named_appearance_is_nobody_of_another_name():
    said = replay([word("name", [1], name="Ada"), word("name", [2, 3], name="Bo")])
    assert rule(said, ids(3), people(said, {1: 7, 2: 8})).banned.tolist() == [[0, 7]]


def test_nothing_is_violated_where_all_is_true():
    said = replay([word("merge", [1, 2]), word("split", [3], [1, 2]), word("name", [1, 2], name="Ada")])
    assert find_violations(said, people(said, {1: 7, 2: 7, 3: 8})).tolist() == []


def test_a_torn_group_comes_together_where_most_of_it_is():
    said = replay([word("merge", [1, 2, 3])])
    assert find_violations(said, people(said, {1: 7, 2: 8, 3: 8})).tolist() == [1]


def test_of_two_that_are_apart_the_smaller_leaves():
    said = replay([word("split", [1, 2], [3]), word("merge", [3, 4, 5])])
    assert find_violations(said, people(said, dict.fromkeys(range(1, 6), 7))).tolist() == [1, 2]


def test_one_against_many_leaves():
    said = replay([word("not", [1], [2, 3, 4])])
    assert find_violations(said, people(said, dict.fromkeys(range(1, 5), 7))).tolist() == [1]


def test_two_names_in_one_person():
    said = replay([word("name", [1, 2], name="Ada"), word("name", [3], name="Bo")])
    assert find_violations(said, people(said, {1: 7, 2: 7, 3: 7})).tolist() == [3]


def test_a_name_goes_to_whoever_has_most_of_its_appearances():
    said = replay([word("name", [1, 2, 3], name="Ada"), word("name", [4, 5], name="Bo")])
    assert assign_names(said, people(said, {1: 7, 2: 8, 3: 8, 4: 9, 5: 6})) == {8: "Ada", 6: "Bo"}
    assert assign_names(said, people(said, {})) == {}
