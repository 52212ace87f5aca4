"""What corrections say together: later words win, and nothing that is left contradicts itself."""

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


def groups(said):
    found = {}
    for appearance, group in zip(said.appearance.tolist(), said.group.tolist(), strict=True):
        found.setdefault(group, []).append(appearance)
    return sorted(found.values())


def apart(said, one, other):
    pair = sorted(said.group[said.rows_of(ids(one, other))].tolist())
    return pair in said.apart.tolist()


def names(said):
    return {int(a): str(n) for a, n in zip(said.appearance, said.names(), strict=True) if n}


def test_nothing_said():
    said = replay([])
    assert (said.appearance.shape, said.apart.shape) == ((0,), (0, 2))
    constraints = said.constraints(ids(4, 7))
    assert (constraints.together.tolist(), constraints.name.tolist()) == ([-1, -1], [-1, -1])


def test_merged_are_one_and_split_are_two():
    said = replay([merge(1, 2, 3, 4), split([3, 4], [1, 2])])
    assert groups(said) == [[1, 2], [3, 4]]
    assert apart(said, 1, 3)


def test_a_merge_after_a_split_makes_them_one_again():
    assert groups(replay([split([3, 4], [1, 2]), merge(1, 2, 3, 4)])) == [[1, 2, 3, 4]]


def test_not_links_nobody_together():
    said = replay([deny([1, 2], [3, 4])])
    assert groups(said) == [[1], [2], [3], [4]]
    assert apart(said, 1, 3)
    assert not apart(said, 1, 2)
    assert not apart(said, 3, 4)


def test_what_follows_from_later_words_counts_too():
    # 1 and 2 are one, 2 and 3 are two: the earlier word that 1 and 3 are one is passed over
    said = replay([merge(1, 3), merge(1, 2), deny([3], [2])])
    assert groups(said) == [[1, 2], [3]]
    assert apart(said, 1, 3)


def test_whom_later_words_part_is_joined_as_far_as_they_allow():
    said = replay([merge(1, 2, 3, 4), deny([4], [1])])
    assert groups(said) == [[1, 2, 3], [4]]


def test_the_last_name_counts_and_leaves_with_nobody():
    said = replay([name("Ada", 1, 2, 3), name("Eve", 3), split([2], [1])])
    assert names(said) == {1: "Ada", 3: "Eve"}


def test_a_merge_decides_the_name():
    assert names(replay([name("Ada", 1), name("Bo", 2), merge(1, 2, called="Ada")])) == {1: "Ada", 2: "Ada"}


def test_two_names_are_no_reason_against_a_later_merge_but_against_an_earlier_one():
    earlier = replay([merge(1, 2), name("Ada", 1), name("Bo", 2)])
    assert groups(earlier) == [[1], [2]]
    assert groups(replay([name("Ada", 1), name("Bo", 2), merge(1, 2, called="Bo")])) == [[1, 2]]


def test_constraints_speak_of_the_rows_that_are_there():
    said = replay([name("Ada", 5, 9), merge(5, 9, 12), split([20, 21], [5, 9, 12]), name("Ada", 20)])
    found = said.constraints(ids(9, 12, 15, 21))
    assert found.together[0] == found.together[1] >= 0
    assert found.together[2] == -1
    assert found.together[3] not in (found.together[0], -1)
    assert found.apart.tolist() in ([[0, 3]], [[3, 0]])
    assert (found.name >= 0).tolist() == [True, False, False, False]


words = st.builds(
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


@given(st.lists(words, max_size=12))
@settings(max_examples=300, deadline=None)
def test_what_is_left_contradicts_nothing(said_in_order):
    said = replay(said_in_order)
    assert not (said.apart[:, 0] == said.apart[:, 1]).any()
    for members in groups(said):
        assert len({names(said)[member] for member in members if member in names(said)}) <= 1
    if said_in_order and said_in_order[-1].kind == "merge":
        assert len(set(said.group[said.rows_of(said_in_order[-1].subject)].tolist())) <= 1
    if said_in_order and said_in_order[-1].kind in ("split", "not"):
        last = said_in_order[-1]
        assert all(apart(said, int(a), int(b)) for a in last.subject for b in last.rest)
