"""Constraints and violations: corrections compared with the people as they are."""

from __future__ import annotations

import numpy as np

from worker.identity.corrections.conflicts import constraints_for, find_violations, people_of_groups
from worker.identity.corrections.name_assignment import assign_names
from worker.identity.corrections.replay import ResolvedCorrection, replay


def ids(*appearances):
    return np.array(appearances, np.int64)


def correction(kind, subject, rest=(), name=None):
    return ResolvedCorrection(1, kind, ids(*subject), ids(*rest), name)


def people(corrections, of):
    return ids(*(of.get(appearance, -1) for appearance in corrections.appearance.tolist()))


def test_a_group_is_the_person_that_most_members_have():
    assert people_of_groups(ids(0, 0, 0, 1, 2), ids(7, 8, 8, 5, -1)).tolist() == [8, 5, -1]
    assert people_of_groups(ids(0, 0), ids(9, 4)).tolist() == [4]
    assert people_of_groups(ids(), ids()).shape == (0,)


def test_an_appearance_of_a_group_with_a_person_is_pinned():
    corrections = replay([correction("merge", [1, 2, 3])])
    found = constraints_for(corrections, ids(3, 40), people(corrections, {1: 7, 2: 7}))
    assert found.pinned.tolist() == [7, -1]
    assert len(found.excluded) == 0


def test_an_appearance_that_was_sent_away_is_excluded():
    corrections = replay([correction("not", [3], [1, 2])])
    found = constraints_for(corrections, ids(3, 40), people(corrections, {1: 7, 2: 8}))
    assert found.pinned.tolist() == [-1, -1]
    assert (found.excluded.row.tolist(), found.excluded.person.tolist()) == ([0, 0], [7, 8])


def test_a_named_appearance_is_excluded_from_people_of_another_name():
    corrections = replay([correction("name", [1], name="Ada"), correction("name", [2, 3], name="Bo")])
    excluded = constraints_for(corrections, ids(3), people(corrections, {1: 7, 2: 8})).excluded
    assert (excluded.row.tolist(), excluded.person.tolist()) == ([0], [7])


def test_people_that_obey_all_corrections_have_no_violation():
    corrections = replay(
        [correction("merge", [1, 2]), correction("split", [3], [1, 2]), correction("name", [1, 2], name="Ada")]
    )
    assert find_violations(corrections, people(corrections, {1: 7, 2: 7, 3: 8})).tolist() == []


def test_a_torn_group_joins_the_person_with_most_of_it():
    corrections = replay([correction("merge", [1, 2, 3])])
    assert find_violations(corrections, people(corrections, {1: 7, 2: 8, 3: 8})).tolist() == [1]


def test_of_two_groups_that_cannot_link_the_smaller_leaves():
    corrections = replay([correction("split", [1, 2], [3]), correction("merge", [3, 4, 5])])
    assert find_violations(corrections, people(corrections, dict.fromkeys(range(1, 6), 7))).tolist() == [1, 2]


def test_the_group_with_most_conflicts_leaves():
    corrections = replay([correction("not", [1], [2, 3, 4])])
    assert find_violations(corrections, people(corrections, dict.fromkeys(range(1, 5), 7))).tolist() == [1]


def test_of_two_names_in_one_person_the_smaller_group_leaves():
    corrections = replay([correction("name", [1, 2], name="Ada"), correction("name", [3], name="Bo")])
    assert find_violations(corrections, people(corrections, {1: 7, 2: 7, 3: 7})).tolist() == [3]


def test_a_name_belongs_to_the_person_with_most_of_its_appearances():
    corrections = replay([correction("name", [1, 2, 3], name="Ada"), correction("name", [4, 5], name="Bo")])
    assert assign_names(corrections, people(corrections, {1: 7, 2: 8, 3: 8, 4: 9, 5: 6})) == {8: "Ada", 6: "Bo"}
    assert assign_names(corrections, people(corrections, {})) == {}


def test_an_appearance_without_a_person_excludes_nobody():
    corrections = replay([correction("not", [3], [1, 2])])
    found = constraints_for(corrections, ids(3), people(corrections, {1: 7}))
    assert found.excluded.person.tolist() == [7]
    assert len(constraints_for(corrections, ids(3), people(corrections, {})).excluded) == 0
