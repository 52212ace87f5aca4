"""Joins groups of embeddings, the most similar ones first, under constraints.

The similarity of two groups is the cosine of their quality-weighted mean embeddings. As noise averages out of a mean, a
picture is better compared with it than with any member; but the means of two large groups of different people come
closer too, so the mean cosine between members must pass a bound of its own. Both follow from a sum of embeddings and a
sum of weights: a group costs one vector however many members it has.

Only neighbours in a graph of nearest groups are compared. In each round all pairs of groups that are each other's best
join at once, and the edges of what joined are judged anew; when nothing joins any more, the graph is drawn again
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

# Neighbours this far under the threshold are drawn too: their similarity grows as noise averages out.
EDGE_MARGIN = 0.05
# The graph is drawn until nothing joins; on LFW two or three times suffice.
_MAX_DRAWS = 8
# In one round a group takes in so much of its own weight, so that thousands of pictures of one person need tens of
# rounds, not thousands, and its mean stays what each was compared with.
_MAX_GROWTH = 0.25
_BLOCK_EDGES = 262_144  # judged at a time: 270 MB of embeddings of 128 numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When two groups join."""

    threshold: float
    """Least cosine of their means."""
    mean_threshold: float
    """Least mean cosine between their members."""
    neighbours: int
    """How many nearest groups each is compared with."""
    poor: bool = False
    """Whether groups of low quality attach, and good ones stay as they are; otherwise only good ones join."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of groups; groups with different labels never join. -1: nothing."""

    person: NDArray[np.int64]
    """(G,) number of a known person."""
    name: NDArray[np.int64]
    """(G,) number of a name that a human gave."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """Groups that are similar enough, but known to be two people."""

    person: NDArray[np.int64]
    """(K, 2) the smaller number first."""
    similarity: NDArray[np.float32]
    """(K,)."""


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
            labels: who they are known to be.
        """
        self.sums, self.weights, self.good, self.labels = sums, weights, good, labels
        self.lengths = np.sqrt(np.einsum("gd,gd->g", sums, sums))
        self.moved = np.ones(len(sums), np.bool_)
        """(G,) groups whose mean is not that of the last graph; clear it for those that need no graph of their own."""
        self.refusals: list[Refusals] = []
        self._parents = np.arange(len(sums))
        self._bars = np.zeros((0, 2), np.int64)
        self._seen: InView | None = None

    def __len__(self) -> int:
        return len(self.sums)

    def roots(self) -> NDArray[np.int64]:
        """(G,) the group that each of the first groups has become part of."""
        while True:
            above = self._parents[self._parents]
            if np.array_equal(above, self._parents):
                return above
            self._parents = above

    def directions(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), D) normalised means; zero where a group has no embedding."""
        units = self.sums[rows]
        units /= np.maximum(self.lengths[rows], 1e-12)[:, None]
        return units

    def bar(self, pairs: NDArray[np.int64]) -> None:
        """Note (B, 2) pairs of groups that are different people, whatever they look like."""
        self._bars = np.concatenate([self._bars, pairs])

    def see(self, members: InView) -> None:
        """Note when the members of groups are in view: two at once are two people, unless they look the same."""
        self._seen = members

    def unite(self, labels: NDArray[np.int64]) -> None:
        """Join the groups with equal labels, whatever their embeddings; (G,), -1 for none."""
        rows = np.flatnonzero(labels >= 0)
        roots = self.roots()[rows]
        _, number = np.unique(labels[rows], return_inverse=True)
        least = np.full(int(number.max(initial=-1)) + 1, len(self))
        np.minimum.at(least, number, roots)
        into = np.arange(len(self))
        into[roots] = least[number]
        while not np.array_equal(into, into[into]):
            into = into[into]
        self._join(into)

    def agglomerate(self, rule: Rule) -> None:
        """Join the most similar groups until no two may join."""
        pairs = np.zeros((0, 2), np.int64)
        again = False
        for draw in range(_MAX_DRAWS):
            rows, asking = self._asking(rule, everyone=again)
            # Pairs that the first cells missed are looked for once more, among the fewer groups there are by then.
            again = draw == 0 and len(asking) == len(rows) and not is_exact(len(rows), len(asking))
            least = rule.threshold - EDGE_MARGIN
            near = rows[near_pairs(self.directions(rows), asking, count=rule.neighbours, least=least, seed=draw)]
            pairs = np.concatenate([pairs, near])
            edges = Edges(pairs, np.concatenate([self.roots()[self._bars], self._met(pairs)]))
            self._judge(edges, np.arange(len(edges)), rule)
            if not self._settle(edges, rule) and not again:
                break
            pairs = edges.pairs()

    def _met(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, 2) pairs of groups that are in view together, among those that may join along (E, 2) pairs."""
        if self._seen is None or not len(pairs):
            return np.zeros((0, 2), np.int64)
        return cannot_link_pairs(self._seen, self.roots()[self._seen.group], pairs)

    def _asking(self, rule: Rule, *, everyone: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Groups to draw the graph of, and the places in them of those whose neighbours are not known yet."""
        alive = self._parents == np.arange(len(self))
        rows = np.flatnonzero(alive if rule.poor else alive & self.good)
        asking = self.moved[rows] | everyone
        if rule.poor:
            asking &= ~self.good[rows]
        self.moved[rows] = False
        return rows, np.flatnonzero(asking)

    def _settle(self, edges: Edges, rule: Rule) -> int:
        """Join along the edges, round by round; the number of joins."""
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
        """Let groups become part of others; members of low quality do not move the mean of a good group.

        Args:
            into: (G,) group that each becomes part of, itself for most; none in two steps.
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
        """Add up what counts, ``gone`` in the order of ``into``."""
        if not len(gone):
            return
        kept, starts = np.unique(into[gone], return_index=True)
        self.sums[kept] += np.add.reduceat(self.sums[gone], starts)
        self.weights[kept] += np.add.reduceat(self.weights[gone], starts)
        self.lengths[kept] = np.linalg.norm(self.sums[kept], axis=1)
        self.moved[kept] = True

    def _judge(self, edges: Edges, rows: NDArray[np.int64], rule: Rule) -> None:
        """Say along which edges groups may join, and how alike they are."""
        for start in range(0, len(rows), _BLOCK_EDGES):
            block = rows[start : start + _BLOCK_EDGES]
            self._judge_block(edges, block[~edges.barred[block]], rule)

    def _judge_block(self, edges: Edges, rows: NDArray[np.int64], rule: Rule) -> None:
        first, second = edges.first[rows], edges.second[rows]
        product = np.einsum("ed,ed->e", self.sums[first], self.sums[second])
        similarity = product / np.maximum(self.lengths[first] * self.lengths[second], 1e-12)
        mean = product / np.maximum(self.weights[first] * self.weights[second], 1e-12)
        both = self.good[first] & self.good[second]
        alike = (similarity >= rule.threshold) & (mean >= rule.mean_threshold) & (both != rule.poor)
        alike &= ~_differ(self.labels.name, first, second)
        refused = alike & _differ(self.labels.person, first, second)
        edges.likeness[rows] = np.where(alike & ~refused, similarity, CLOSED)
        if refused.any():
            people = np.stack([self.labels.person[first[refused]], self.labels.person[second[refused]]], axis=1)
            self.refusals.append(Refusals(np.sort(people, axis=1), similarity[refused]))


def _differ(labels: NDArray[np.int64], first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.bool_]:
    one, two = labels[first], labels[second]
    different: NDArray[np.bool_] = (one >= 0) & (two >= 0) & (one != two)
    return different


def _stars(edges: Edges, groups: Groups, rule: Rule) -> NDArray[np.int64]:
    """What joins in one round: groups that are each other's best, and small ones whose best is the heavier of these.

    Returns:
        (G,) group that each becomes part of, mostly itself.
    """
    rows = edges.open()
    into = np.arange(len(groups))
    first, second = edges.first[rows], edges.second[rows]
    keys = _order(edges.likeness[rows], rows)
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


def _order(likeness: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(E,) distinct positive keys in the order of likeness; ties are broken as if by lot."""
    # Positive floats sort like their bits. Neighbouring rows get distant numbers: where many are equally alike, as are
    # copies of one picture, many pairs are each other's best in the same round.
    bits = (likeness + 2).view(np.int32).astype(np.int64)
    lot = (rows * 2_654_435_761) & 0x7FFFFFFF
    return bits << 31 | lot


def _follow(
    into: NDArray[np.int64],
    small: NDArray[np.int64],
    hub: NDArray[np.int64],
    keys: NDArray[np.int64],
    groups: Groups,
    rule: Rule,
) -> None:
    """Let groups join the hub they resemble most, best first, as long as they cannot move its mean by much."""
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
    """Of two different people that would follow the same hub, let the less similar one wait."""
    rows = np.flatnonzero(edges.barred)
    first, second = edges.first[rows], edges.second[rows]
    clash = into[first] == into[second]
    first, second = first[clash], second[clash]
    follower = np.zeros(len(into), np.bool_)
    follower[small] = True
    waits = np.where(follower[first] & (~follower[second] | (best[first] < best[second])), first, second)
    into[waits] = waits
