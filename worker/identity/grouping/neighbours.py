"""Nearest neighbours: pairs of vectors of high cosine, exactly for few and within cells for many.

Few vectors are all compared. Many are first sorted into cells (spherical k-means), and each query is compared with the
members of the cells whose centres are nearest to it, as in an inverted file. The work goes cell by cell, so that it is
products of matrices: ten times faster than a search row by row, and no matrix is larger than a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import faiss
import numpy as np

from worker.columns import ArrayColumns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Up to so many products the search is exact: 50,000 vectors among themselves, some seconds on two cores.
EXACT_PRODUCTS = 50_000**2
# Cells that each query is compared with. docs/measured/identity.md has the share that is found, of the pairs of one
# person among a million images that reach the first threshold.
PROBES = 32
_CELLS_PER_ROOT = 2  # cells per square root of the vectors: smaller ones are searched with less waste
_BLOCK_ROWS = 4096  # times as many members: 16 million scores, 64 MB
_CHUNK_ROWS = 131_072  # vectors whose cells are looked up at a time
_TRAINING_ROWS = 64  # vectors per cell that the centres are computed from; more hardly move them
_TRAINING_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class _Cells:
    """Vectors sorted by cell."""

    centres: NDArray[np.float32]
    """(C, D) normalised."""
    packed: NDArray[np.float32]
    """(N, D) the vectors, cell after cell."""
    order: NDArray[np.int64]
    """(N,) row of each packed vector."""
    starts: NDArray[np.int64]
    """(C + 1,) where each cell begins in ``packed``."""


@dataclass(frozen=True, slots=True, repr=False)
class Hits(ArrayColumns):
    """H pairs of a query and a row that is near to it."""

    query: NDArray[np.int64]
    """(H,) row of the query."""
    found: NDArray[np.int64]
    """(H,) row that is near to it."""
    similarity: NDArray[np.float32]
    """(H,) cosine."""

    def __post_init__(self) -> None:
        self._check()

    @classmethod
    def empty(cls) -> Self:
        """Return no hit."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))

    def of(self, query: NDArray[np.int64], found: NDArray[np.int64]) -> Hits:
        """Return the same hits with the numbers that the rows of two blocks have outside of them."""
        return Hits(query[self.query], found[self.found], self.similarity)

    def best(self, count: int) -> Hits:
        """Return the ``count`` most similar hits of each query."""
        order = np.lexsort((-self.similarity, self.query))
        query = self.query[order]
        first = np.flatnonzero(np.diff(query, prepend=-1))
        rank = np.arange(len(query)) - np.repeat(first, np.diff(first, append=len(query)))
        return self[order[rank < count]]


def compare(vectors: NDArray[np.float32], others: NDArray[np.float32], *, count: int, minimum: float) -> Hits:
    """Compare all of (A, D) with all of (B, D) normalised vectors.

    Returns:
        For each of A the ``count`` most similar whose cosine is at least ``minimum``; sometimes a few more.
    """
    parts = []
    for start in range(0, len(vectors), _BLOCK_ROWS):
        product = vectors[start : start + _BLOCK_ROWS] @ others.T
        near = product >= minimum
        if np.count_nonzero(near) > 2 * count * len(product):  # sorting so many would take longer than comparing them
            near &= product >= np.partition(product, -count, axis=1)[:, -count, None]
        flat = np.flatnonzero(near)  # ten times faster than rows and columns
        row, column = np.divmod(flat, product.shape[1])
        parts.append(Hits(start + row, column, product.ravel()[flat]).best(count))
    return Hits.cat([Hits.empty(), *parts])


def is_exact(count: int, queries: int) -> bool:
    """Return whether ``queries`` of ``count`` vectors are compared with all of them, so that no pair is missed."""
    return count * queries <= EXACT_PRODUCTS


def near_pairs(
    units: NDArray[np.float32],
    queries: NDArray[np.int64],
    *,
    count: int,
    minimum: float,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Return the pairs of rows that are near each other.

    Args:
        units: (N, D) normalised, or zero for a row that is near no other.
        queries: (Q,) rows whose neighbours are searched.
        count: number of nearest rows that each is paired with.
        minimum: smallest cosine of a pair.
        seed: of the cells; pairs that one seed misses another may find.

    Returns:
        (E, 2) pairs, each once, smaller row first, in order.
    """
    limit = count + 1  # each query is nearest to itself
    if is_exact(len(units), len(queries)):
        found = _exact(units, queries, limit, minimum)
    else:
        found = _by_cell(_cells(units, seed), queries, limit, minimum)
    keys = [np.zeros(0, np.int64)]
    for hits in found:
        other = hits.query != hits.found
        ends = np.stack([hits.query[other], hits.found[other]])
        keys.append(ends.min(axis=0) << 32 | ends.max(axis=0))
    pairs = np.unique(np.concatenate(keys))
    return np.stack([pairs >> 32, pairs & 0xFFFFFFFF], axis=1)


def _exact(units: NDArray[np.float32], queries: NDArray[np.int64], count: int, minimum: float) -> Iterator[Hits]:
    """Compare the queries with all vectors."""
    numbers = np.arange(len(units))
    for start in range(0, len(queries), _BLOCK_ROWS):
        rows = queries[start : start + _BLOCK_ROWS]
        vectors = units[rows]
        hits = [
            compare(vectors, units[begin : begin + _BLOCK_ROWS], count=count, minimum=minimum).of(rows, numbers[begin:])
            for begin in range(0, len(units), _BLOCK_ROWS)
        ]
        yield Hits.cat([Hits.empty(), *hits]).best(count)


def _by_cell(cells: _Cells, queries: NDArray[np.int64], count: int, minimum: float) -> Iterator[Hits]:
    """Compare the queries with the members of the nearest cells."""
    wanted = np.zeros(len(cells.order), np.bool_)
    wanted[queries] = True
    places = np.flatnonzero(wanted[cells.order])
    for start in range(0, len(places), _CHUNK_ROWS):
        chunk = places[start : start + _CHUNK_ROWS]
        vectors, rows = cells.packed[chunk], cells.order[chunk]
        _, probed = faiss.knn(vectors, cells.centres, PROBES, metric=faiss.METRIC_INNER_PRODUCT)
        visits = np.argsort(probed.ravel(), kind="stable") // PROBES
        ends = np.cumsum(np.bincount(probed.ravel(), minlength=len(cells.centres)))
        hits = []
        for cell, visitors in enumerate(np.split(visits, ends[:-1])):
            members = slice(*cells.starts[cell : cell + 2])
            found = compare(vectors[visitors], cells.packed[members], count=count, minimum=minimum)
            hits.append(found.of(rows[visitors], cells.order[members]))
        yield Hits.cat([Hits.empty(), *hits]).best(count)


def _cells(units: NDArray[np.float32], seed: int) -> _Cells:
    """Sort the vectors into cells."""
    number = max(PROBES, round(_CELLS_PER_ROOT * len(units) ** 0.5))
    step = max(1, len(units) // (number * _TRAINING_ROWS))
    # by a coordinate, so that the sample does not depend on the order of rows
    sample = units[np.argsort(units[:, seed % units.shape[1]], kind="stable")[::step]]
    means = faiss.Kmeans(units.shape[1], number, niter=_TRAINING_ROUNDS, spherical=True, seed=seed + 1)
    means.train(sample)
    centres = np.asarray(means.centroids, np.float32)
    cell = np.concatenate(
        [
            faiss.knn(units[start : start + _CHUNK_ROWS], centres, 1, metric=faiss.METRIC_INNER_PRODUCT)[1]
            for start in range(0, len(units), _CHUNK_ROWS)
        ]
    )[:, 0]
    order = np.argsort(cell, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=number))])
    return _Cells(centres, units[order], order, starts)
