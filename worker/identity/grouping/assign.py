"""Gives every appearance a person: against all that are known, or all over again.

`assign` is for what has just been analysed: new appearances and the known people they resemble are grouped together
from the most similar pair down, so the order within a batch does not matter. `regroup` forgets the people and groups
everything. Both obey the same rules: an appearance of low quality joins no two people and needs more similarity to
attach, and two who are in view at the same time in the same media are two people, unless they look the same there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from worker.columns import ArrayColumns
from worker.identity.grouping.agglomerate import EDGE_MARGIN, Groups, Labels, Rule
from worker.identity.grouping.constraints import Constraints
from worker.identity.grouping.in_view import InView, Sightings
from worker.identity.grouping.neighbours import Hits, compare
from worker.types import MIN_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from worker.identity.grouping.agglomerate import Refusals

_FEW = 10_000  # up to so many the thresholds are as they stand
_BLOCK_PEOPLE = 4096  # known people compared at a time; the products with 1,000 appearances, 16 MB, stay in cache


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyOptions:
    """What counts as one person. The thresholds are cosines of SFace embeddings."""

    threshold: float = 0.52
    """Cosine of two people's mean embeddings from which they are one.

    Largest BCubed F on LFW's train people (4,403 people, 9,456 images) with the default release, November 2026: 0.990,
    and 0.994 on the 1,330 held-out people. OpenCV's 0.363 is for single pairs: here it gives 0.954, and 0.354 without
    the second threshold. Tables in docs/measured/identity.md.
    """
    mean_threshold: float = 0.40
    """Least mean cosine between the members of two groups that join; holds back large groups of look-alikes only.

    Chosen as above; on the held-out people it raises precision from 0.991 to 0.998 and costs no recall.
    """
    low_quality: float = 0.3
    """Quality below which an appearance neither founds nor joins people: faces of some 15 pixels."""
    low_quality_threshold: float = 0.56
    """Cosine that attaches such an appearance. A little more suffices: what poor pictures lose is likeness, also to
    strangers (measured on shrunken LFW images, same page)."""
    per_tenfold: float = 0.03
    """By how much both thresholds rise with every tenfold of those that are compared, above 10,000.

    They were chosen among 9,456 images; among more there are more strangers who look alike. Largest BCubed F of 0, 0.03
    and 0.04 at a million made appearances: 0.965, 0.997, 0.995 (same page).
    """
    neighbours: int = 24
    """Nearest groups that each is compared with."""

    def among(self, count: int) -> IdentifyOptions:
        """The options for ``count`` appearances or known people."""
        rise = self.per_tenfold * max(0.0, math.log10(max(count, 1) / _FEW))
        return replace(
            self,
            threshold=self.threshold + rise,
            low_quality_threshold=self.low_quality_threshold + rise,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AppearanceEmbeddings(ArrayColumns):
    """Appearances as identification sees them."""

    embeddings: NDArray[np.float32]
    """(N, D) L2-normalised."""
    quality: NDArray[np.float32]
    """(N,) in 0..1."""
    media: NDArray[np.int64]
    """(N,) number of the file."""
    start_seconds: NDArray[np.float64]
    """(N,) first time in view; 0 for a still."""
    end_seconds: NDArray[np.float64]
    """(N,) last time in view."""

    def __post_init__(self) -> None:
        self._check(embeddings=(-1,))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GalleryPeople(ArrayColumns):
    """A block of known people; one vector each, however often they were seen."""

    person: NDArray[np.int64]
    """(P,) ids, each once."""
    sums: NDArray[np.float32]
    """(P, D) quality-weighted sum of the embeddings of the appearances of good quality, of all where none is good."""
    weights: NDArray[np.float32]
    """(P,) sum of the weights of the same appearances."""
    good: NDArray[np.bool_]
    """(P,) whether any appearance is of good quality."""

    def __post_init__(self) -> None:
        self._check(sums=(-1,))

    @classmethod
    def empty(cls, dimension: int = 128) -> Self:
        """Nobody."""
        ids, sums = np.zeros(0, np.int64), np.zeros((0, dimension), np.float32)
        return cls(person=ids, sums=sums, weights=np.zeros(0, np.float32), good=np.zeros(0, np.bool_))

    @classmethod
    def of(
        cls,
        person: NDArray[np.int64],
        embeddings: NDArray[np.float32],
        quality: NDArray[np.float32],
        *,
        options: IdentifyOptions | None = None,
    ) -> Self:
        """Sum up the stored appearances of some people.

        Args:
            person: (N,) person of each appearance; all appearances of a person must be here.
            embeddings: (N, D) L2-normalised.
            quality: (N,).
            options: the same as for `assign`.
        """
        order = np.argsort(person, kind="stable")
        people, starts = np.unique(person[order], return_index=True)
        if not len(people):
            return cls.empty(embeddings.shape[1])
        quality = quality[order]
        good_row = quality >= (options or IdentifyOptions()).low_quality
        good = np.logical_or.reduceat(good_row, starts)
        counts = good_row == np.repeat(good, np.diff(starts, append=len(order)))
        weights = np.where(counts, _weights(quality), np.float32(0))
        sums = np.add.reduceat(embeddings[order] * weights[:, None], starts)
        return cls(person=people, sums=sums, weights=np.add.reduceat(weights, starts), good=good)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Who the new appearances are."""

    person: NDArray[np.int64]
    """(N,) id of a known person, -1 for someone new."""
    newcomer: NDArray[np.int64]
    """(N,) number of a new person, 0.. in order of first row; -1 for someone known."""
    similarity: NDArray[np.float32]
    """(N,) cosine to the mean of the person, the appearance included where it is of good quality."""
    alike: NDArray[np.int64]
    """(K, 2) pairs of known people, smaller id first, that now look like one person; most similar pair first."""


def assign(
    new: AppearanceEmbeddings,
    known: Iterable[GalleryPeople] = (),
    *,
    sightings: Sightings | None = None,
    constraints: Constraints | None = None,
    pinned: NDArray[np.int64] | None = None,
    options: IdentifyOptions | None = None,
) -> Assignment:
    """Give each new appearance a known or a new person.

    Known people are never joined: pairs that have become alike are reported, so that what a human said can be asked
    first.

    Args:
        new: N appearances, best all those of an analysis at once.
        known: blocks of known people, each person in one block; only the few that resemble a new appearance are held.
        sightings: where known people are already in view in the media of the new appearances; others are ignored.
        constraints: what humans said about the new appearances.
        pinned: (N,) person that an appearance is by a human's words, known or not, -1 for none.
        options: thresholds.
    """
    options = options or IdentifyOptions()
    said = constraints or Constraints.none(len(new))
    pinned = np.full(len(new), -1, np.int64) if pinned is None else pinned
    near, compared = _candidates(new, known, pinned, options)
    groups = _assignable(new, near, said, pinned, options)
    groups.see(_in_view(new, near, sightings or Sightings.empty(new.embeddings.shape[1])))
    groups.bar(said.apart + len(near))
    groups.bar(_bans(said.banned, near))
    groups.unite(np.concatenate([np.full(len(near), -1, np.int64), said.together]))
    groups.unite(groups.labels.person.copy())
    _group(groups, options.among(compared + len(new)))
    roots = groups.roots()[len(near) :]
    person = groups.labels.person[roots]
    return Assignment(
        person=person,
        newcomer=_number(np.where(person < 0, roots, -1)),
        similarity=np.einsum("nd,nd->n", new.embeddings, groups.directions(roots)),
        alike=_alike(groups.refusals),
    )


def regroup(
    appearances: AppearanceEmbeddings,
    *,
    constraints: Constraints | None = None,
    options: IdentifyOptions | None = None,
) -> NDArray[np.int64]:
    """Group all appearances from scratch.

    Args:
        appearances: N appearances.
        constraints: what humans said about them.
        options: thresholds.

    Returns:
        (N,) int64 group of each appearance, 0.. in order of first row.
    """
    options = options or IdentifyOptions()
    said = constraints or Constraints.none(len(appearances))
    weights = _weights(appearances.quality)
    groups = Groups(
        appearances.embeddings * weights[:, None],
        weights,
        appearances.quality >= options.low_quality,
        Labels(np.full(len(appearances), -1, np.int64), said.name.copy()),
    )
    groups.see(
        InView(
            group=np.arange(len(appearances)),
            media=appearances.media,
            start_seconds=appearances.start_seconds,
            end_seconds=appearances.end_seconds,
            embeddings=appearances.embeddings,
            quality=appearances.quality,
        )
    )
    groups.bar(said.apart)
    groups.unite(said.together)
    _group(groups, options.among(len(appearances)))
    return _number(groups.roots())


def inherit(groups: NDArray[np.int64], previous: NDArray[np.int64]) -> NDArray[np.int64]:
    """Let regrouped appearances keep their people: each group takes the person it shares most appearances with.

    Args:
        groups: (N,) result of `regroup`.
        previous: (N,) person of each appearance before, -1 for none.

    Returns:
        (G,) person of each group, -1 for a new one; no person twice, larger overlaps first.
    """
    people = np.full(int(groups.max(initial=-1)) + 1, -1, np.int64)
    had = previous >= 0
    ids, person = np.unique(previous[had], return_inverse=True)
    keys, counts = np.unique(groups[had] * max(len(ids), 1) + person, return_counts=True)
    group, person = np.divmod(keys, max(len(ids), 1))
    sole = (np.bincount(group)[group] == 1) & (np.bincount(person)[person] == 1)
    people[group[sole]] = ids[person[sole]]
    rest = np.flatnonzero(~sole)
    rest = rest[np.argsort(-counts[rest], kind="stable")]
    taken: set[int] = set()
    for one, two in zip(group[rest].tolist(), person[rest].tolist(), strict=True):
        if people[one] < 0 and two not in taken:
            people[one] = ids[two]
            taken.add(two)
    return people


def _group(groups: Groups, options: IdentifyOptions) -> None:
    """First the good ones among themselves, then the others attach without moving them."""
    rule = Rule(threshold=options.threshold, mean_threshold=options.mean_threshold, neighbours=options.neighbours)
    groups.agglomerate(rule)
    if not groups.good.all():
        groups.agglomerate(replace(rule, threshold=options.low_quality_threshold, poor=True))


def _assignable(
    new: AppearanceEmbeddings,
    near: GalleryPeople,
    said: Constraints,
    pinned: NDArray[np.int64],
    options: IdentifyOptions,
) -> Groups:
    """Known people and new appearances, in this order, as groups; only the latter look for neighbours at first."""
    weights = _weights(new.quality)
    groups = Groups(
        np.concatenate([near.sums, new.embeddings * weights[:, None]]),
        np.concatenate([near.weights, weights]),
        np.concatenate([near.good, new.quality >= options.low_quality]),
        Labels(
            np.concatenate([near.person, pinned]),
            np.concatenate([np.full(len(near), -1, np.int64), said.name]),
        ),
    )
    groups.moved[: len(near)] = False
    return groups


def _candidates(
    new: AppearanceEmbeddings, known: Iterable[GalleryPeople], pinned: NDArray[np.int64], options: IdentifyOptions
) -> tuple[GalleryPeople, int]:
    """The known people that a new appearance is pinned to or resembles, ``neighbours`` for each, of how many."""
    compared = 0
    near, hits = GalleryPeople.empty(new.embeddings.shape[1]), Hits.empty()
    pinned = pinned[pinned >= 0]
    for block in known:
        compared += len(block)
        least = options.among(compared).threshold - EDGE_MARGIN
        found = _alike_people(new, block, options.neighbours, least)
        hits = Hits.cat([hits, found.of(np.arange(len(new)), len(near) + np.arange(len(block)))])
        hits = hits.best(options.neighbours)
        kept = np.union1d(hits.found, np.flatnonzero(np.isin(np.concatenate([near.person, block.person]), pinned)))
        hits = Hits(hits.asking, np.searchsorted(kept, hits.found), hits.similarity)
        near = GalleryPeople.cat([near[kept[kept < len(near)]], block[kept[kept >= len(near)] - len(near)]])
    return near, compared


def _alike_people(new: AppearanceEmbeddings, block: GalleryPeople, count: int, least: float) -> Hits:
    """The people of a block that resemble new appearances, without copying the block."""
    parts = []
    for start in range(0, len(block), _BLOCK_PEOPLE):
        sums = block.sums[start : start + _BLOCK_PEOPLE]
        units = sums / np.maximum(np.linalg.norm(sums, axis=1), 1e-12)[:, None]
        found = compare(new.embeddings, units, count=count, least=least)
        parts.append(found.of(np.arange(len(new)), start + np.arange(len(sums))))
    return Hits.cat([Hits.empty(), *parts])


def _weights(quality: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(quality, np.float32(MIN_WEIGHT))


def _in_view(new: AppearanceEmbeddings, near: GalleryPeople, sightings: Sightings) -> InView:
    """When the known people and the new appearances, rows in this order, are in view."""
    seen = sightings[np.isin(sightings.person, near.person)]
    order = np.argsort(near.person)
    place = np.searchsorted(near.person, seen.person, sorter=order)
    return InView(
        group=np.concatenate([order[place], np.arange(len(near), len(near) + len(new))]),
        media=np.concatenate([seen.media, new.media]),
        start_seconds=np.concatenate([seen.start_seconds, new.start_seconds]),
        end_seconds=np.concatenate([seen.end_seconds, new.end_seconds]),
        embeddings=np.concatenate([seen.embeddings, new.embeddings]),
        quality=np.concatenate([seen.quality, new.quality]),
    )


def _bans(banned: NDArray[np.int64], near: GalleryPeople) -> NDArray[np.int64]:
    """(B, 2) rows of known people and of new appearances, in this order, that humans set apart."""
    rows = banned[np.isin(banned[:, 1], near.person)]
    order = np.argsort(near.person)
    place = np.searchsorted(near.person, rows[:, 1], sorter=order)
    return np.stack([order[place], rows[:, 0] + len(near)], axis=1)


def _number(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels as 0.. in order of first row; -1 stays."""
    found, first, number = np.unique(labels, return_index=True, return_inverse=True)
    none = int(len(found) > 0 and found[0] < 0)
    rank = np.full(len(found), -1, np.int64)
    rank[none:][np.argsort(first[none:])] = np.arange(len(found) - none)
    return rank[number]


def _alike(refusals: list[Refusals]) -> NDArray[np.int64]:
    """(K, 2) pairs of known people that would have joined, the most similar pair first."""
    if not refusals:
        return np.zeros((0, 2), np.int64)
    person = np.concatenate([refusal.person for refusal in refusals])
    order = np.argsort(-np.concatenate([refusal.similarity for refusal in refusals]), kind="stable")
    _, first = np.unique(person[order], axis=0, return_index=True)
    return person[order][np.sort(first)]
