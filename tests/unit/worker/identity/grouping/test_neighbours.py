"""Pairs of near vectors are found: all of them among few, nearly all among many."""

from __future__ import annotations

import numpy as np
import pytest

from worker.identity.grouping import neighbours
from worker.identity.grouping.neighbours import Hits, compare, is_exact, near_pairs

DIMENSION = 32


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors():
    rng = np.random.default_rng(3)
    centres = unit(rng.normal(size=(400, DIMENSION)))
    person = rng.permutation(np.repeat(np.arange(400), 5))
    return unit(centres[person] + 0.6 * unit(rng.normal(size=(2000, DIMENSION))))


def all_pairs(units, queries, count, minimum):
    cosines = units[queries] @ units.T
    cosines[np.arange(len(queries)), queries] = -1
    rank = np.argsort(np.argsort(-cosines, axis=1), axis=1)
    row, found = np.nonzero((rank < count) & (cosines >= minimum))
    return np.unique(np.sort(np.stack([queries[row], found], axis=1), axis=1), axis=0)


def share_found(pairs, wanted):
    return len({tuple(pair) for pair in pairs.tolist()} & {tuple(pair) for pair in wanted.tolist()}) / len(wanted)


def test_each_pair_is_named_once():
    units = unit(np.array([[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 0.1]]))
    assert near_pairs(units, np.arange(4), count=2, minimum=0.9).tolist() == [[0, 1], [2, 3]]
    assert near_pairs(units[:1], np.arange(1), count=2, minimum=0.9).shape == (0, 2)
    assert near_pairs(units[:0], np.arange(0), count=2, minimum=0.9).shape == (0, 2)


@pytest.mark.parametrize(("count", "minimum"), [(3, 0.5), (50, 0.4), (50, -1.0)])
def test_few_are_all_compared(vectors, count, minimum, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK_ROWS", 137)  # many blocks
    queries = np.arange(0, 2000, 7)
    assert np.array_equal(
        near_pairs(vectors, queries, count=count, minimum=minimum), all_pairs(vectors, queries, count, minimum)
    )


def test_many_are_compared_within_cells(vectors, monkeypatch):
    wanted = all_pairs(vectors, np.arange(2000), 5, 0.5)
    monkeypatch.setattr(neighbours, "EXACT_PRODUCTS", 0)
    monkeypatch.setattr(neighbours, "PROBES", 16)
    monkeypatch.setattr(neighbours, "_CHUNK_ROWS", 300)  # several chunks
    found = near_pairs(vectors, np.arange(2000), count=5, minimum=0.5)
    assert share_found(found, wanted) > 0.95
    assert share_found(found, found) == 1
    cosines = np.einsum("ed,ed->e", vectors[found[:, 0]], vectors[found[:, 1]])
    assert cosines.min() >= 0.5 - 1e-6


def test_other_cells_find_what_the_first_missed(vectors, monkeypatch):
    wanted = all_pairs(vectors, np.arange(2000), 5, 0.5)
    monkeypatch.setattr(neighbours, "EXACT_PRODUCTS", 0)
    monkeypatch.setattr(neighbours, "PROBES", 4)
    draws = [near_pairs(vectors, np.arange(2000), count=5, minimum=0.5, seed=seed) for seed in (0, 1)]
    assert share_found(draws[0], wanted) < share_found(np.concatenate(draws), wanted)


def test_cells_do_not_depend_on_the_order_of_rows(vectors, monkeypatch):
    monkeypatch.setattr(neighbours, "EXACT_PRODUCTS", 0)
    monkeypatch.setattr(neighbours, "PROBES", 4)
    order = np.random.default_rng(1).permutation(2000)
    one = near_pairs(vectors, np.arange(2000), count=5, minimum=0.5)
    two = np.sort(order[near_pairs(vectors[order], np.arange(2000), count=5, minimum=0.5)], axis=1)
    assert share_found(two, one) > 0.999


def test_how_many_are_compared_exactly():
    assert is_exact(50_000, 50_000)
    assert not is_exact(1_000_000, 1_000_000)
    assert is_exact(1_000_000, 1_000)


def test_the_best_hits_of_each():
    hits = Hits(np.array([4, 2, 4, 4]), np.array([1, 2, 3, 5]), np.array([0.5, 0.1, 0.9, 0.7], np.float32))
    best = hits.best(2)
    assert sorted(zip(best.query.tolist(), best.found.tolist(), strict=True)) == [(2, 2), (4, 3), (4, 5)]
    assert len(Hits.empty().best(3).query) == 0


def test_an_empty_comparison_has_no_hit():
    none = np.zeros((0, DIMENSION), np.float32)
    assert len(compare(none, none, count=3, minimum=0.1).query) == 0
