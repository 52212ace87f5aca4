"""Groups join along edges, and a forbidden edge stays forbidden after any join."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.identity.grouping.agglomerate import Groups, Labels, Rule
from worker.identity.grouping.edges import CLOSED, Edges

RULE = Rule(threshold=0.5, mean_threshold=0.3, neighbours=5)
NONE = np.zeros((0, 2), np.int64)


def groups_of(vectors, *, weights=None, good=None):
    sums = np.array(vectors, np.float32)
    count = len(sums)
    return Groups(
        sums,
        np.ones(count, np.float32) if weights is None else np.array(weights, np.float32),
        np.ones(count, np.bool_) if good is None else np.array(good),
        Labels(np.full(count, -1, np.int64), np.full(count, -1, np.int64)),
    )


def test_equal_edges_are_one_and_forbidden_if_any_was():
    edges = Edges(np.array([[3, 1], [1, 3], [0, 2], [4, 4]]), np.array([[2, 0], [1, 4]]))
    assert edges.pairs().tolist() == [[0, 2], [1, 3], [1, 4]]
    assert edges.cannot_links().tolist() == [[0, 2], [1, 4]]
    assert (edges.similarity == CLOSED).all()


def test_joining_carries_bars_along():
    edges = Edges(np.array([[0, 1], [1, 2], [0, 3]]), np.array([[0, 2]]))
    into = np.array([0, 0, 2, 3])
    changed = edges.relabel(into, np.array([True, True, False, False]))
    ends = np.stack([edges.first[changed], edges.second[changed]], axis=1)
    assert sorted(ends.tolist()) == [[0, 2], [0, 3]]
    assert edges.cannot_links().tolist() == [[0, 2]]


def test_a_forbidden_edge_between_joined_groups_is_dropped():
    edges = Edges(NONE, np.array([[0, 1], [1, 2]]))
    edges.relabel(np.array([0, 0, 2]), np.array([True, True, False]))
    assert edges.cannot_links().tolist() == [[0, 2]]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_edges_stay_those_of_the_joined_groups(seed):
    rng = np.random.default_rng(seed)
    pairs, forbidden = rng.integers(0, 30, (60, 2)), rng.integers(0, 30, (9, 2))
    edges, now = Edges(pairs, forbidden), np.arange(30)
    for _ in range(6):
        roots = np.unique(now)
        gone, kept = np.array_split(rng.permutation(roots)[: 2 * (len(roots) // 4)], 2)
        into = np.arange(30)
        into[gone] = kept
        edges.relabel(into, np.isin(np.arange(30), [*gone, *kept]))
        now = into[now]
        for found, given_pairs in (
            (edges.cannot_links(), forbidden),
            (edges.pairs(), np.concatenate([pairs, forbidden])),
        ):
            ends = np.sort(now[given_pairs], axis=1)
            wanted = {tuple(pair) for pair in ends[ends[:, 0] != ends[:, 1]].tolist()}
            assert {tuple(pair) for pair in found.tolist()} == wanted
            assert len(found) == len(wanted)


def test_united_groups_are_a_sum():
    groups = groups_of(np.eye(5, 7), weights=[1, 2, 3, 4, 5])
    groups.must_link(np.array([6, -1, 6, 6, -1]))
    assert groups.roots().tolist() == [0, 1, 0, 0, 4]
    assert groups.sums[0].tolist() == [1, 0, 1, 1, 0, 0, 0]
    assert groups.weights[0] == 8
    assert groups.lengths[0] == pytest.approx(3**0.5)


def test_poor_members_do_not_move_a_good_mean():
    groups = groups_of(np.eye(4, 7), good=[False, True, False, False])
    groups.must_link(np.array([0, 0, 0, 1]))
    assert groups.sums[0].tolist() == np.eye(4, 7)[1].tolist()
    assert groups.good.tolist() == [True, True, False, False]
    groups.must_link(np.array([0, -1, -1, 0]))
    assert groups.sums[0].tolist() == np.eye(4, 7)[1].tolist()


def test_a_thousand_images_of_one_person_join_in_few_rounds(monkeypatch):
    rng = np.random.default_rng(1)
    vectors = np.eye(1, 64) + 0.1 * rng.normal(size=(1000, 64))
    groups = groups_of(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    rounds, join = [], groups._join
    monkeypatch.setattr(groups, "_join", lambda into: rounds.append(0) or join(into))
    groups.agglomerate(RULE)
    assert set(groups.roots().tolist()) == {groups.roots()[0]}
    assert len(rounds) < 60


def test_two_in_view_together_do_not_join_a_third_in_one_round():
    # one heavy group, and light ones that resemble it most; every second one is in view beside the one before
    light = 21
    vectors = np.concatenate([[[100.0, 0.0]], np.stack([np.ones(light), np.linspace(0.3, 0.31, light)], axis=1)])
    lengths = np.linalg.norm(vectors, axis=1)
    groups = groups_of(vectors, weights=lengths)
    pairs = np.stack([np.arange(1, light, 2), np.arange(2, light + 1, 2)], axis=1)
    groups.cannot_link(pairs)
    groups.agglomerate(RULE)
    roots = groups.roots()
    assert (roots[pairs[:, 0]] != roots[pairs[:, 1]]).all()


def test_labels_keep_groups_apart_and_are_handed_on():
    groups = groups_of([[1, 0.1], [1, 0.2], [1, 0.3], [1, 0.4]])
    groups.labels.name[:] = [7, -1, 8, -1]
    groups.agglomerate(RULE)
    roots = groups.roots()
    assert roots[0] != roots[2]
    assert set(groups.labels.name[roots].tolist()) == {7, 8}


@pytest.mark.parametrize(("minimum", "joined"), [(0.5, True), (np.nextafter(0.5, 1), False)])
def test_groups_join_from_the_threshold_of_their_mean_on(minimum, joined):
    groups = groups_of([[1, 0], [0.5, 0.5]])  # a cosine of 0.71, and members that agree by 0.5 on average
    groups.agglomerate(Rule(threshold=0.4, mean_threshold=minimum, neighbours=5))
    assert len(set(groups.roots().tolist())) == (1 if joined else 2)


@pytest.mark.parametrize(("minimum", "joined"), [(0.5, True), (0.501, False)])
def test_groups_join_from_the_threshold_of_their_cosine_on(minimum, joined):
    groups = groups_of([[2, 0, 0, 0], [1, 1, 1, 1]], weights=[2, 2])
    groups.agglomerate(Rule(threshold=minimum, mean_threshold=0.1, neighbours=5))
    assert len(set(groups.roots().tolist())) == (1 if joined else 2)
