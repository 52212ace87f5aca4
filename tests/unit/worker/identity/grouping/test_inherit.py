"""Regrouped appearances keep the people that they share most with."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.identity.grouping.assign import inherit


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_people_are_inherited_by_largest_overlap(seed):
    rng = np.random.default_rng(seed)
    groups = np.unique(rng.integers(0, 9, 60), return_inverse=True)[1]
    previous = rng.integers(-1, 9, 60) * 10
    pairs = [(group, had) for group, had in zip(groups.tolist(), previous.tolist(), strict=True) if had >= 0]
    expected, taken = [-1] * (groups.max() + 1), set()
    for group, had in sorted(set(pairs), key=lambda pair: (-pairs.count(pair), pair)):
        if expected[group] < 0 and had not in taken:
            expected[group] = had
            taken.add(had)
    assert inherit(groups, previous).tolist() == expected


def test_groups_inherit_the_people_they_share_most_with():
    groups = np.array([0, 0, 0, 1, 1, 2, 3])
    previous = np.array([10, 10, 11, 11, 11, -1, 10])
    assert inherit(groups, previous).tolist() == [10, 11, -1, -1]
    assert inherit(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
