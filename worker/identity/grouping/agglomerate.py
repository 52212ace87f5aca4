"""Agglomerative clustering: joins groups of embeddings, the most similar ones first, under constraints.

The similarity of two groups is the cosine of their quality-weighted mean embeddings. As noise averages out of a mean,
an image is better compared with it than with any member; but the means of two large groups of different people come
closer too, so the mean cosine between members must pass a bound of its own. Both follow from a sum of embeddings and a
sum of weights: a group costs one vector however many members it has.

Only neighbours in a graph of nearest groups are compared. In each round all pairs of groups that are each other's best
join at once, and the edges of joined groups are judged again; when no two join any more, the graph is built again
between the new means. Memory grows with groups times neighbours.

Source: the rounds are those of "Scaling Hierarchical Agglomerative Clustering to Billion-sized Datasets" (Sumengen et
al. 2021, arXiv 2105.11653), here with means, constraints and small groups that join a large one together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from worker.identity.grouping.edges import CLOSED, Edges
from worker.identity.grouping.in_view import cannot_link_pairs
from worker.identity.grouping.neighbours import is_exact, near_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.identity.grouping.in_view import InView

# Neighbours this far under the threshold are in the graph too: their similarity grows as noise averages out.
EDGE_MARGIN = 0.05
# The graph is built until no two groups join; on LFW two or three times suffice.
_MAX_BUILDS = 8
# Share of its own weight that a group takes in at most in one round, so that thousands of images of one person need
# tens of rounds, not thousands, and its mean stays close to the one that each was compared with.
_MAX_GROWTH = 0.25
_BLOCK_EDGES = 262_144  # judged at a time: 270 MB of embeddings of 128 numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Conditions under which two groups join."""

    threshold: float
    """Smallest cosine of their means."""
    mean_threshold: float
    """Smallest mean cosine between their members."""
    neighbours: int
    """Number of nearest groups that each group is compared with."""
    poor: bool = False
    """Whether groups of low quality attach, and good ones stay as they are; otherwise only good ones join."""


@dataclass(frozen=True, slots=True)
class Labels:
    """People and names of groups; groups with different labels never join."""

    person: NDArray[np.int64]
    """(G,) id of a person, -1 for none."""
    name: NDArray[np.int64]
    """(G,) number of a name that a user gave, -1 for none."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """People of groups that are similar enough to join, but are two people of the gallery."""

    person: NDArray[np.int64]
    """(K, 2) ids, the smaller one first."""
    similarity: NDArray[np.float32]
    """(K,) cosine of the groups."""


@dataclass(frozen=True, slots=True)
class _GraphRows:
    """Groups that a graph of nearest neighbours is built of."""

    rows: NDArray[np.int64]
    """(R,) groups of the graph."""
    queries: NDArray[np.int64]
    """(Q,) places in ``rows`` of the groups whose neighbours are searched."""


class Groups:
    """G groups that may join; group numbers are rows of ``sums``."""

    def __init__(
        self, sums: NDArray[np.float32], weights: NDArray[np.float32], good: NDArray[np.bool_], labels: Labels
    ) -> None:
        """Start with one group per row; the arrays are taken over and changed.

        Args:
            sums: (G, D) weighted sums of the members' embeddings.
            weights: (G,) sums of the weights.
            good: (G,) False where all members are of low quality.
            labels: people and names of the groups.
        """
        self.sums, self.weights, self.good, self.labels = sums, weights, good, labels
        self.lengths = np.sqrt(np.einsum("gd,gd->g", sums, sums))
        # (G,) groups whose mean has changed since the last graph. Clear it for groups that look for no neighbours.
        self.moved = np.ones(len(sums), np.bool_)
        self.refusals: list[Refusals] = []
        self._parents = np.arange(len(sums))
        self._cannot_links = np.zeros((0, 2), np.int64)
        self._in_view: InView | None = None

    def __len__(self) -> int:
        return len(self.sums)

    def roots(self) -> NDArray[np.int64]:
        """Return the (G,) group that each of the first groups has become part of."""
        while True:
            above = self._parents[self._parents]
            if np.array_equal(above, self._parents):
                return above
            self._parents = above

    def directions(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the (len(rows), D) normalised means of groups; zero where a group has no embedding."""
        units = self.sums[rows]
        units /= np.maximum(self.lengths[rows], 1e-12)[:, None]
        return units

    def cannot_link(self, pairs: NDArray[np.int64]) -> None:
        """Add cannot-link constraints: (B, 2) pairs of groups that are different people, whatever they look like."""
        self._cannot_links = np.concatenate([self._cannot_links, pairs])

    def set_in_view(self, members: InView) -> None:
        """Set when the members of groups are in view: two at once are two people, unless they look the same."""
        self._in_view = members

    def must_link(self, labels: NDArray[np.int64]) -> None:
        """Join the groups with equal (G,) labels, whatever their embeddings; -1 for none."""
        rows = np.flatnonzero(labels >= 0)
        roots = self.roots()[rows]
        _, number = np.unique(labels[rows], return_inverse=True)
        smallest = np.full(int(number.max(initial=-1)) + 1, len(self))
        np.minimum.at(smallest, number, roots)
        into = np.arange(len(self))
        into[roots] = smallest[number]
        while not np.array_equal(into, into[into]):
            into = into[into]
        self._join(into)

    def agglomerate(self, rule: Rule) -> None:
        """Join the most similar groups until no two may join."""
        pairs = np.zeros((0, 2), np.int64)
        again = False
        for build in range(_MAX_BUILDS):
            graph = self._select(rule, search_all=again)
            rows, queries = graph.rows, graph.queries
            # Pairs that the first cells missed are looked for once more, among the fewer groups there are by then.
            again = build == 0 and len(queries) == len(rows) and not is_exact(len(rows), len(queries))
            minimum = rule.threshold - EDGE_MARGIN
            near = near_pairs(self.directions(rows), queries, count=rule.neighbours, minimum=minimum, seed=build)
            pairs = np.concatenate([pairs, rows[near]])
            edges = Edges(pairs, np.concatenate([self.roots()[self._cannot_links], self._together(pairs)]))
            self._judge(edges, np.arange(len(edges)), rule)
            if not self._join_along(edges, rule) and not again:
                break
            pairs = edges.pairs()

    def _together(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (B, 2) pairs of two people in view together, among groups that may join along (E, 2) pairs."""
        if self._in_view is None or not len(pairs):
            return np.zeros((0, 2), np.int64)
        return cannot_link_pairs(self._in_view, self.roots()[self._in_view.group], pairs)

    def _select(self, rule: Rule, *, search_all: bool) -> _GraphRows:
        """Select the groups of the next graph; the neighbours of groups that have not moved are known already."""
        alive = self._parents == np.arange(len(self))
        rows = np.flatnonzero(alive if rule.poor else alive & self.good)
        queries = self.moved[rows] | search_all
        if rule.poor:
            queries &= ~self.good[rows]
        self.moved[rows] = False
        return _GraphRows(rows, np.flatnonzero(queries))

    def _join_along(self, edges: Edges, rule: Rule) -> int:
        """Join groups along the edges, round by round; returns the number of joins."""
        joins = 0
        while True:
            into = _stars(edges, self, rule)
            touched = into != np.arange(len(into))
            if not touched.any():
                return joins
            joins += int(np.count_nonzero(touched))
            self._join(into)
            touched[into[touched]] = True
            self._judge(edges, edges.relabel(into, touched), rule)

    def _join(self, into: NDArray[np.int64]) -> None:
        """Join groups to others; members of low quality do not move the mean of a good group.

        Args:
            into: (G,) group that each becomes part of, itself for most; no chains.
        """
        gone = np.flatnonzero(into != np.arange(len(into)))
        gone = gone[np.argsort(into[gone], kind="stable")]
        kept, starts = np.unique(into[gone], return_index=True)
        if not len(gone):
            return
        good = self.good[kept] | np.logical_or.reduceat(self.good[gone], starts)
        became = good & ~self.good[kept]
        self.sums[kept[became]] = 0.0
        self.weights[kept[became]] = 0.0
        self.good[kept] = good
        self._parents[gone] = into[gone]
        for labels in (self.labels.person, self.labels.name):
            labels[kept] = np.maximum(labels[kept], np.maximum.reduceat(labels[gone], starts))
        self._add(gone[self.good[gone] == self.good[into[gone]]], into)

    def _add(self, gone: NDArray[np.int64], into: NDArray[np.int64]) -> None:
        """Add the sums of groups that count to the groups that take them in; ``gone`` is in the order of ``into``."""
        if not len(gone):
            return
        kept, starts = np.unique(into[gone], return_index=True)
        self.sums[kept] += np.add.reduceat(self.sums[gone], starts)
        self.weights[kept] += np.add.reduceat(self.weights[gone], starts)
        self.lengths[kept] = np.linalg.norm(self.sums[kept], axis=1)
        self.moved[kept] = True

    def _judge(self, edges: Edges, rows: NDArray[np.int64], rule: Rule) -> None:
        """Set the similarity of the edges along which groups may join."""
        for start in range(0, len(rows), _BLOCK_EDGES):
            block = rows[start : start + _BLOCK_EDGES]
            self._judge_block(edges, block[~edges.forbidden[block]], rule)

    def _judge_block(self, edges: Edges, rows: NDArray[np.int64], rule: Rule) -> None:
        first, second = edges.first[rows], edges.second[rows]
        product = np.einsum("ed,ed->e", self.sums[first], self.sums[second])
        similarity = product / np.maximum(self.lengths[first] * self.lengths[second], 1e-12)
        mean = product / np.maximum(self.weights[first] * self.weights[second], 1e-12)
        both = self.good[first] & self.good[second]
        similar = (similarity >= rule.threshold) & (mean >= rule.mean_threshold) & (both != rule.poor)
        similar &= ~_differ(self.labels.name, first, second)
        refused = similar & _differ(self.labels.person, first, second)
        edges.similarity[rows] = np.where(similar & ~refused, similarity, CLOSED)
        if refused.any():
            people = np.stack([self.labels.person[first[refused]], self.labels.person[second[refused]]], axis=1)
            self.refusals.append(Refusals(np.sort(people, axis=1), similarity[refused]))


def _differ(labels: NDArray[np.int64], first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.bool_]:
    one, two = labels[first], labels[second]
    different: NDArray[np.bool_] = (one >= 0) & (two >= 0) & (one != two)
    return different


def _stars(edges: Edges, groups: Groups, rule: Rule) -> NDArray[np.int64]:
    """Return the joins of one round: groups that are each other's best, and small ones whose best is the heavier one.

    Returns:
        (G,) group that each becomes part of, mostly itself.
    """
    rows = edges.open()
    into = np.arange(len(groups))
    first, second = edges.first[rows], edges.second[rows]
    keys = _order(edges.similarity[rows], rows)
    best = np.zeros(len(groups), np.int64)
    np.maximum.at(best, first, keys)
    np.maximum.at(best, second, keys)
    firsts, seconds = keys == best[first], keys == best[second]
    pair = firsts & seconds
    heavy = groups.weights[first] >= groups.weights[second]
    hubs, partners = np.where(heavy, first, second)[pair], np.where(heavy, second, first)[pair]
    into[partners] = hubs
    is_hub = np.zeros(len(groups), np.bool_)
    is_hub[hubs] = True
    following = (firsts ^ seconds) & np.where(firsts, is_hub[second], is_hub[first])
    small = np.where(firsts, first, second)[following]
    hub = np.where(firsts, second, first)[following]
    if len(small):
        _follow(into, small, hub, keys[following], groups, rule)
        _keep_apart(into, small, edges, best)
    return into


def _order(similarity: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (E,) distinct positive keys in the order of similarity; ties are broken pseudo-randomly."""
    # Positive floats sort like their bits. Neighbouring rows get distant numbers: where many are equally similar, as
    # copies of one image are, many pairs are each other's best in the same round.
    bits = (similarity + 2).view(np.int32).astype(np.int64)
    number = (rows * 2_654_435_761) & 0x7FFFFFFF
    return bits << 31 | number


def _follow(
    into: NDArray[np.int64],
    small: NDArray[np.int64],
    hub: NDArray[np.int64],
    keys: NDArray[np.int64],
    groups: Groups,
    rule: Rule,
) -> None:
    """Join groups to the hub they resemble most, best first, as long as they cannot move its mean by much."""
    order = np.lexsort((-keys, hub))
    small, hub = small[order], hub[order]
    weight = groups.weights[small]
    if rule.poor:
        weight = np.where(groups.good[hub], 0, weight)  # these move nothing
    total = np.cumsum(weight, dtype=np.float64)
    begin = np.flatnonzero(np.diff(hub, prepend=-1))
    before = np.repeat(total[begin] - weight[begin], np.diff(begin, append=len(hub)))
    fits = total - before <= _MAX_GROWTH * groups.weights[hub]
    for labels in (groups.labels.person, groups.labels.name):
        fits &= (labels[small] < 0) | (labels[small] == labels[hub])
    into[small[fits]] = hub[fits]


def _keep_apart(into: NDArray[np.int64], small: NDArray[np.int64], edges: Edges, best: NDArray[np.int64]) -> None:
    """Hold back the less similar of two different people that would join the same hub."""
    rows = np.flatnonzero(edges.forbidden)
    first, second = edges.first[rows], edges.second[rows]
    clash = into[first] == into[second]
    first, second = first[clash], second[clash]
    follower = np.zeros(len(into), np.bool_)
    follower[small] = True
    waits = np.where(follower[first] & (~follower[second] | (best[first] < best[second])), first, second)
    into[waits] = waits
