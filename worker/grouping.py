"""Joins groups of embeddings from the most similar pair down, under constraints.

The similarity of two groups is the cosine of their quality-weighted mean embeddings. As noise averages out of a mean, a
picture is better compared with it than with any member; but the means of two large groups of different people come
closer too, so the mean cosine between members must pass a bound of its own. Both follow from a sum of embeddings and a
sum of weights: a group costs one vector however many members it has. Only neighbouring groups in a graph of nearest
neighbours are compared, and the graph is drawn anew until nothing joins any more: memory grows with groups times
neighbours.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import faiss
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from worker.constraints import Constraints

    Edges = NDArray[np.int64]
    """(E, 2) rows of groups."""
    Intervals = list[tuple[float, float]]

# Groups look at neighbours this far under the threshold too: their similarity grows as noise averages out.
_EDGE_MARGIN = 0.1
# The graph is redrawn until nothing joins; on LFW two or three rounds suffice.
_MOST_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When two groups join."""

    threshold: float
    """Least cosine of their means."""
    mean_threshold: float
    """Least mean cosine between their members."""
    neighbours: int
    """How many nearest groups each is compared with."""
    apart: bool = False
    """Whether two good groups stay two, so that only groups of low quality attach."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Two groups that are similar enough, but pinned to different people."""

    first: int
    second: int
    similarity: float


class Groups:
    """G groups that may join; group numbers are rows of ``sums``."""

    def __init__(
        self,
        sums: NDArray[np.float32],
        weights: NDArray[np.float32],
        *,
        good: NDArray[np.bool_],
        pins: NDArray[np.int64] | None = None,
    ) -> None:
        """Start with one group per row.

        Args:
            sums: (G, D) weighted sums of the members' embeddings.
            weights: (G,) sums of the weights.
            good: (G,) False where all members are of low quality.
            pins: (G,) number of the person that a group is known to be, -1 for none; different pins never join.
        """
        self.sums = np.array(sums, np.float32)
        self.weights = np.array(weights, np.float32)
        self.good = np.array(good, np.bool_)
        self.pins = np.full(len(sums), -1, np.int64) if pins is None else np.array(pins, np.int64)
        self.refusals: list[Refusal] = []
        self._parents = np.arange(len(sums))
        self._versions = np.zeros(len(sums), np.int64)
        self._sightings: dict[int, dict[int, Intervals]] = {}
        self._apart: dict[int, set[int]] = {}
        self._names: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.sums)

    def see(self, group: int, media: int, start_seconds: float, end_seconds: float) -> None:
        """Note when a group is in view; who is in view elsewhere in the same media at that time is someone else."""
        self._sightings.setdefault(group, {}).setdefault(media, []).append((start_seconds, end_seconds))

    def roots(self) -> NDArray[np.int64]:
        """(G,) the group that each of the first groups has become part of."""
        parents = self._parents
        while True:
            above = parents[parents]
            if np.array_equal(above, parents):
                self._parents = parents
                return parents.copy()
            parents = above

    def directions(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), D) normalised means; zero where a group has no embedding."""
        sums = self.sums[rows]
        unit: NDArray[np.float32] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        return unit

    def alive(self) -> NDArray[np.int64]:
        """Groups that are not part of another."""
        return np.flatnonzero(self._parents == np.arange(len(self)))

    def obey(self, constraints: Constraints, rows: NDArray[np.int64]) -> None:
        """Join what humans said is one person and keep apart what they said is not.

        Args:
            constraints: over N rows.
            rows: (N,) group of each row.
        """
        for row in np.flatnonzero(constraints.name >= 0).tolist():
            self._names[int(rows[row])] = int(constraints.name[row])
        first_of: dict[int, int] = {}
        for row in np.flatnonzero(constraints.together >= 0).tolist():
            first = first_of.setdefault(int(constraints.together[row]), row)
            self.unite(int(rows[first]), int(rows[row]))
        for pair in rows[constraints.apart].tolist():
            self._tell_apart(*(self.root(group) for group in pair))

    def unite(self, first: int, second: int) -> None:
        """Make what two groups have become one group, if it is not one already."""
        one, two = self.root(first), self.root(second)
        if one != two:
            self.join(one, two)

    def root(self, group: int) -> int:
        """The group that one has become part of."""
        while self._parents[group] != group:
            group = int(self._parents[group])
        return group

    def _tell_apart(self, first: int, second: int) -> None:
        self._apart.setdefault(first, set()).add(second)
        self._apart.setdefault(second, set()).add(first)

    def meet(self, first: int, second: int) -> bool:
        """Whether two groups are two people: in view at the same time, or humans said so."""
        names = self._names.get(first, -1), self._names.get(second, -1)
        if second in self._apart.get(first, ()) or (min(names) >= 0 and names[0] != names[1]):
            return True
        one, two = self._sightings.get(first, {}), self._sightings.get(second, {})
        return any(_touch(one[media], two[media]) for media in one.keys() & two.keys())

    def are_pinned_apart(self, first: int, second: int) -> bool:
        """Whether two groups are known to be different people."""
        return bool(self.pins[first] >= 0 and self.pins[second] >= 0 and self.pins[first] != self.pins[second])

    def join(self, first: int, second: int) -> int:
        """Make two groups one; members of low quality do not move the mean of a good group.

        Returns:
            The number of the joined group, one of the two.
        """
        keep, gone = (first, second) if first < second else (second, first)
        if self.good[keep] == self.good[gone]:
            self.sums[keep] += self.sums[gone]
            self.weights[keep] += self.weights[gone]
        elif self.good[gone]:
            self.sums[keep] = self.sums[gone]
            self.weights[keep] = self.weights[gone]
        self.good[keep] |= self.good[gone]
        self.pins[keep] = max(self.pins[keep], self.pins[gone])
        self._parents[gone] = keep
        self._versions[[keep, gone]] += 1
        for other in self._apart.pop(gone, set()):
            self._apart[other].discard(gone)
            self._tell_apart(keep, other)
        if gone in self._names:
            self._names[keep] = self._names.pop(gone)
        for media, intervals in self._sightings.pop(gone, {}).items():
            self._sightings.setdefault(keep, {}).setdefault(media, []).extend(intervals)
        return keep

    def agglomerate(self, rule: Rule) -> None:
        """Join the most similar groups until no two may join."""
        for _ in range(_MOST_ROUNDS):
            rows = self.alive()
            units = self.directions(rows)
            edges = rows[nearest_pairs(units, rule.neighbours, rule.threshold - _EDGE_MARGIN)]
            if not self._join_along(edges, rule):
                return

    def _join_along(self, edges: Edges, rule: Rule) -> int:
        """Join along the edges, best first, redrawing the edges of what joined; the number of joins."""
        near = _adjacency(edges)
        heap = list(self._entries(edges, rule))
        heapq.heapify(heap)
        joins = 0
        while heap:
            cost, first, second, stamp = heapq.heappop(heap)
            if stamp != self._stamp(first, second) or self.meet(first, second):
                continue
            if self.are_pinned_apart(first, second):
                self.refusals.append(Refusal(first, second, -cost))
                continue
            kept = self.join(first, second)
            joins += 1
            _contract(near, kept, first + second - kept)
            fresh = np.array([(kept, other) for other in sorted(near[kept])], np.int64).reshape(-1, 2)
            for entry in self._entries(fresh, rule):
                heapq.heappush(heap, entry)
        return joins

    def _entries(self, edges: Edges, rule: Rule) -> Iterator[tuple[float, int, int, tuple[int, int]]]:
        """What the rule lets join along the edges: cost, groups, and the state they were judged in."""
        first, second = edges.T
        product = np.einsum("ed,ed->e", self.sums[first], self.sums[second])
        lengths = np.linalg.norm(self.sums[first], axis=1) * np.linalg.norm(self.sums[second], axis=1)
        similarity = product / np.maximum(lengths, 1e-12)
        mean = product / np.maximum(self.weights[first] * self.weights[second], 1e-12)
        alike = (similarity >= rule.threshold) & (mean >= rule.mean_threshold)
        if rule.apart:
            alike &= ~(self.good[first] & self.good[second])
        for row in np.flatnonzero(alike):
            one, two = int(first[row]), int(second[row])
            yield -float(similarity[row]), one, two, self._stamp(one, two)

    def _stamp(self, first: int, second: int) -> tuple[int, int]:
        return int(self._versions[first]), int(self._versions[second])


def nearest_pairs(units: NDArray[np.float32], neighbours: int, threshold: float) -> Edges:
    """(E, 2) pairs of rows, each pair once, that are near each other and reach the threshold."""
    if len(units) < 2:
        return np.zeros((0, 2), np.int64)
    units = np.ascontiguousarray(units)
    similarity, found = faiss.knn(units, units, min(neighbours + 1, len(units)), metric=faiss.METRIC_INNER_PRODUCT)
    rows = np.repeat(np.arange(len(units)), found.shape[1])
    columns, good = found.ravel().astype(np.int64), similarity.ravel() >= threshold
    good &= (columns >= 0) & (columns != rows)
    pairs = np.sort(np.stack([rows[good], columns[good]], axis=1), axis=1)
    unique: Edges = np.unique(pairs, axis=0)
    return unique


def _adjacency(edges: Edges) -> dict[int, set[int]]:
    near: dict[int, set[int]] = {}
    for first, second in edges.tolist():
        near.setdefault(first, set()).add(second)
        near.setdefault(second, set()).add(first)
    return near


def _contract(near: dict[int, set[int]], kept: int, gone: int) -> None:
    """Give the neighbours of one node to the other."""
    for other in near.pop(gone):
        near[other].discard(gone)
        if other != kept:
            near[other].add(kept)
            near[kept].add(other)


def _touch(first: Iterable[tuple[float, float]], second: Iterable[tuple[float, float]]) -> bool:
    """Whether an interval of the one touches an interval of the other."""
    one, two = np.array(list(first)), np.array(list(second))
    return bool(((one[:, None, 0] <= two[None, :, 1]) & (two[None, :, 0] <= one[:, None, 1])).any())
