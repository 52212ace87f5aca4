"""Replay: later corrections win, and the result contains no contradiction."""

from __future__ import annotations

from itertools import count

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.identity.corrections.replay import ResolvedCorrection, replay

numbers = count(1)


def ids(*appearances):
    return np.array(sorted(appearances), np.int64)


def name(what, *subject):
    return ResolvedCorrection(next(numbers), "name", ids(*subject), ids(), what)


def merge(*subject, called=None):
    return ResolvedCorrection(next(numbers), "merge", ids(*subject), ids(), called)


def split(subject, rest):
    return ResolvedCorrection(next(numbers), "split", ids(*subject), ids(*rest), None)


def deny(subject, rest):
    return ResolvedCorrection(next(numbers), "not", ids(*subject), ids(*rest), None)


def groups(replayed):
    found = {}
    for appearance, group in zip(replayed.appearance.tolist(), replayed.group.tolist(), strict=True):
        found.setdefault(group, []).append(appearance)
    return sorted(found.values())


def apart(replayed, one, other):
    pair = sorted(replayed.group[replayed.rows_of(ids(one, other))].tolist())
    return pair in replayed.cannot_link.tolist()


def names(replayed):
    return {int(a): str(n) for a, n in zip(replayed.appearance, replayed.names(), strict=True) if n}


def test_no_correction_is_no_constraint():
    replayed = replay([])
    assert (replayed.appearance.shape, replayed.cannot_link.shape) == ((0,), (0, 2))
    constraints = replayed.constraints(ids(4, 7))
    assert (constraints.must_link.tolist(), constraints.name.tolist()) == ([-1, -1], [-1, -1])


def test_a_merge_links_and_a_split_separates():
    replayed = replay([merge(1, 2, 3, 4), split([3, 4], [1, 2])])
    assert groups(replayed) == [[1, 2], [3, 4]]
    assert apart(replayed, 1, 3)


def test_a_merge_after_a_split_makes_them_one_again():
    assert groups(replay([split([3, 4], [1, 2]), merge(1, 2, 3, 4)])) == [[1, 2, 3, 4]]


def test_not_separates_and_links_nothing():
    replayed = replay([deny([1, 2], [3, 4])])
    assert groups(replayed) == [[1], [2], [3], [4]]
    assert apart(replayed, 1, 3)
    assert not apart(replayed, 1, 2)
    assert not apart(replayed, 3, 4)


def test_a_statement_against_the_consequence_of_later_ones_is_passed_over():
    # 1 and 2 are one, 2 and 3 are two: the earlier statement that 1 and 3 are one is passed over
    replayed = replay([merge(1, 3), merge(1, 2), deny([3], [2])])
    assert groups(replayed) == [[1, 2], [3]]
    assert apart(replayed, 1, 3)


def test_a_merge_joins_as_many_as_later_corrections_allow():
    replayed = replay([merge(1, 2, 3, 4), deny([4], [1])])
    assert groups(replayed) == [[1, 2, 3], [4]]


def test_the_last_name_counts_and_a_split_takes_it_away():
    replayed = replay([name("Ada", 1, 2, 3), name("Eve", 3), split([2], [1])])
    assert names(replayed) == {1: "Ada", 3: "Eve"}


def test_a_merge_decides_the_name():
    assert names(replay([name("Ada", 1), name("Bo", 2), merge(1, 2, called="Ada")])) == {1: "Ada", 2: "Ada"}


def test_two_names_prevent_an_earlier_merge_but_not_a_later_one():
    earlier = replay([merge(1, 2), name("Ada", 1), name("Bo", 2)])
    assert groups(earlier) == [[1], [2]]
    assert groups(replay([name("Ada", 1), name("Bo", 2), merge(1, 2, called="Bo")])) == [[1, 2]]


def test_constraints_cover_the_given_rows_only():
    replayed = replay([name("Ada", 5, 9), merge(5, 9, 12), split([20, 21], [5, 9, 12]), name("Ada", 20)])
    found = replayed.constraints(ids(9, 12, 15, 21))
    assert found.must_link[0] == found.must_link[1] >= 0
    assert found.must_link[2] == -1
    assert found.must_link[3] not in (found.must_link[0], -1)
    assert found.cannot_link.tolist() in ([[0, 3]], [[3, 0]])
    assert (found.name >= 0).tolist() == [True, False, False, False]


corrections = st.builds(
    lambda kind, sides, called: ResolvedCorrection(
        next(numbers),
        kind,
        ids(*(a for a, side in sides.items() if side == 0)),
        ids(*(a for a, side in sides.items() if side == 1)) if kind in ("split", "not") else ids(),
        called if kind in ("name", "merge") else None,
    ),
    st.sampled_from(["name", "merge", "split", "not"]),
    st.dictionaries(st.integers(1, 12), st.integers(0, 1), min_size=1),
    st.sampled_from(["Ada", "Bo", "Eve"]),
)


@given(st.lists(corrections, max_size=12))
@settings(max_examples=300, deadline=None)
def test_the_result_has_no_contradiction(in_order):
    replayed = replay(in_order)
    assert not (replayed.cannot_link[:, 0] == replayed.cannot_link[:, 1]).any()
    for members in groups(replayed):
        assert len({names(replayed)[member] for member in members if member in names(replayed)}) <= 1
    if in_order and in_order[-1].kind == "merge":
        assert len(set(replayed.group[replayed.rows_of(in_order[-1].subject)].tolist())) <= 1
    if in_order and in_order[-1].kind in ("split", "not"):
        last = in_order[-1]
        assert all(apart(replayed, int(a), int(b)) for a in last.subject for b in last.rest)


def test_constraints_are_those_of_all_corrected_appearances_from_the_first_on():
    corrections = replay([merge(1, 2), name("Ada", 5)])
    found = corrections.constraints(ids(1, 2, 4, 5))
    assert found.must_link.tolist() == [corrections.group[0], corrections.group[1], -1, corrections.group[2]]
    assert found.must_link[0] == found.must_link[1] != found.must_link[3]
    assert [one >= 0 for one in found.name.tolist()] == [False, False, False, True]
