"""Gives every appearance a person: in the gallery, or by grouping all appearances from scratch.

`assign` is for new appearances: they are grouped together with the people of the gallery that they resemble, from the
most similar pair down, so the order within a batch does not matter. `regroup` ignores the gallery and groups all
appearances. Both follow the same rules: an appearance of low quality joins no two people and needs more similarity to
attach, and two that are in view at the same time in the same file are two people, unless they look the same there.
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
    from worker.identity.grouping.constraints import Exclusions

_BASE_COUNT = 10_000  # up to so many appearances or people the thresholds are as they stand
_BLOCK_PEOPLE = 4096  # people compared at a time; the products with 1,000 appearances, 16 MB, stay in cache


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyOptions:
    """Thresholds of grouping, as cosines of SFace embeddings."""

    threshold: float = 0.52
    """Smallest cosine of two mean embeddings of one person.

    Largest BCubed F on LFW's train people (4,403 people, 9,456 images) with the default release, November 2026: 0.990,
    and 0.994 on the 1,330 held-out people. OpenCV's 0.363 is for single pairs: here it gives 0.954, and 0.354 without
    the second threshold. Tables in docs/measured/identity.md.
    """
    mean_threshold: float = 0.40
    """Smallest mean cosine between the members of two groups that join; separates large groups of look-alikes only.

    Chosen as above; on the held-out people it raises precision from 0.991 to 0.998 and costs no recall.
    """
    low_quality: float = 0.3
    """Quality below which an appearance moves no mean and joins no two people: faces of some 15 pixels."""
    low_quality_threshold: float = 0.56
    """Smallest cosine that attaches such an appearance. A little more suffices, because poor images look less like
    strangers too (measured on shrunken LFW images, same page)."""
    per_tenfold: float = 0.03
    """Rise of ``threshold`` and ``low_quality_threshold`` with every tenfold of the compared number, above 10,000.

    They were chosen among 9,456 images; among more there are more strangers who look alike. Largest BCubed F of 0, 0.03
    and 0.04 at a million synthetic appearances: 0.965, 0.997, 0.995 (same page).
    """
    neighbours: int = 24
    """Number of nearest groups that each group is compared with."""

    def among(self, count: int) -> IdentifyOptions:
        """Return the options for ``count`` appearances or people of the gallery."""
        rise = self.per_tenfold * max(0.0, math.log10(max(count, 1) / _BASE_COUNT))
        return replace(
            self,
            threshold=self.threshold + rise,
            low_quality_threshold=self.low_quality_threshold + rise,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AppearanceEmbeddings(ArrayColumns):
    """Appearances as grouping reads them."""

    embeddings: NDArray[np.float32]
    """(N, D) L2-normalised."""
    quality: NDArray[np.float32]
    """(N,) in 0..1."""
    media: NDArray[np.int64]
    """(N,) number of the file."""
    start_seconds: NDArray[np.float64]
    """(N,) first time in view; 0 for an image."""
    end_seconds: NDArray[np.float64]
    """(N,) last time in view."""

    def __post_init__(self) -> None:
        self._check(embeddings=(-1,))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GalleryPeople(ArrayColumns):
    """A block of people of the gallery: one vector each, however many appearances they have."""

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
        """Return no people."""
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
        """Sum up the appearances of some people.

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
    """The people of new appearances."""

    person: NDArray[np.int64]
    """(N,) id of a person of the gallery, -1 for a new one."""
    newcomer: NDArray[np.int64]
    """(N,) number of a new person, 0.. in order of first row; -1 for one of the gallery."""
    similarity: NDArray[np.float32]
    """(N,) cosine to the mean of the person, the appearance included where it is of good quality."""
    merge_candidates: NDArray[np.int64]
    """(K, 2) pairs of people of the gallery, smaller id first, that came to look like one; most similar pair first."""


def assign(
    new: AppearanceEmbeddings,
    gallery: Iterable[GalleryPeople] = (),
    *,
    sightings: Sightings | None = None,
    constraints: Constraints | None = None,
    options: IdentifyOptions | None = None,
) -> Assignment:
    """Assign each new appearance to a person of the gallery or a new one.

    People of the gallery are never joined: pairs that came to look like one are returned as merge candidates, so that
    corrections can be checked first.

    Args:
        new: N appearances, best all those of an analysis at once.
        gallery: blocks of people, each person in one block; only the few that resemble a new appearance are held.
        sightings: sightings of the gallery in the files of the new appearances; those in other files are ignored.
        constraints: over the N new appearances.
        options: thresholds.
    """
    options = options or IdentifyOptions()
    constraints = constraints or Constraints.none(len(new))
    candidates = _find_candidates(new, gallery, constraints.pinned, options)
    near = candidates.people
    groups = _make_groups(new, near, constraints, options)
    groups.set_in_view(_in_view(new, near, sightings or Sightings.empty(new.embeddings.shape[1])))
    groups.cannot_link(constraints.cannot_link + len(near))
    groups.cannot_link(_exclusions(constraints.excluded, near))
    groups.must_link(np.concatenate([np.full(len(near), -1, np.int64), constraints.must_link]))
    groups.must_link(groups.labels.person.copy())
    _group(groups, options.among(candidates.compared + len(new)))
    roots = groups.roots()[len(near) :]
    person = groups.labels.person[roots]
    return Assignment(
        person=person,
        newcomer=_number(np.where(person < 0, roots, -1)),
        similarity=np.einsum("nd,nd->n", new.embeddings, groups.directions(roots)),
        merge_candidates=_merge_candidates(groups.refusals),
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
        constraints: over the N appearances; without a gallery nothing is pinned or excluded.
        options: thresholds.

    Returns:
        (N,) int64 group of each appearance, 0.. in order of first row.
    """
    options = options or IdentifyOptions()
    constraints = constraints or Constraints.none(len(appearances))
    weights = _weights(appearances.quality)
    groups = Groups(
        appearances.embeddings * weights[:, None],
        weights,
        appearances.quality >= options.low_quality,
        Labels(np.full(len(appearances), -1, np.int64), constraints.name.copy()),
    )
    groups.set_in_view(
        InView(
            group=np.arange(len(appearances)),
            media=appearances.media,
            start_seconds=appearances.start_seconds,
            end_seconds=appearances.end_seconds,
            embeddings=appearances.embeddings,
            quality=appearances.quality,
        )
    )
    groups.cannot_link(constraints.cannot_link)
    groups.must_link(constraints.must_link)
    _group(groups, options.among(len(appearances)))
    return _number(groups.roots())


def inherit(groups: NDArray[np.int64], previous: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the person that each regrouped group inherits: the one it shares most appearances with.

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
    """Join groups of good quality among themselves, then attach the others without moving a mean."""
    rule = Rule(threshold=options.threshold, mean_threshold=options.mean_threshold, neighbours=options.neighbours)
    groups.agglomerate(rule)
    if not groups.good.all():
        groups.agglomerate(replace(rule, threshold=options.low_quality_threshold, poor=True))


@dataclass(frozen=True, slots=True)
class _Candidates:
    """People of the gallery that new appearances may be."""

    people: GalleryPeople
    compared: int
    """Number of people that were compared."""


def _make_groups(
    new: AppearanceEmbeddings, near: GalleryPeople, constraints: Constraints, options: IdentifyOptions
) -> Groups:
    """Make a group of each person and each new appearance, in this order; only the latter look for neighbours first."""
    weights = _weights(new.quality)
    groups = Groups(
        np.concatenate([near.sums, new.embeddings * weights[:, None]]),
        np.concatenate([near.weights, weights]),
        np.concatenate([near.good, new.quality >= options.low_quality]),
        Labels(
            np.concatenate([near.person, constraints.pinned]),
            np.concatenate([np.full(len(near), -1, np.int64), constraints.name]),
        ),
    )
    groups.moved[: len(near)] = False
    return groups


def _find_candidates(
    new: AppearanceEmbeddings, gallery: Iterable[GalleryPeople], pinned: NDArray[np.int64], options: IdentifyOptions
) -> _Candidates:
    """Find the people that a new appearance is pinned to or resembles, ``neighbours`` for each."""
    compared = 0
    near, hits = GalleryPeople.empty(new.embeddings.shape[1]), Hits.empty()
    pinned = pinned[pinned >= 0]
    for block in gallery:
        compared += len(block)
        minimum = options.among(compared).threshold - EDGE_MARGIN
        found = _nearest_people(new, block, options.neighbours, minimum)
        hits = Hits.cat([hits, found.of(np.arange(len(new)), len(near) + np.arange(len(block)))])
        hits = hits.best(options.neighbours)
        kept = np.union1d(hits.found, np.flatnonzero(np.isin(np.concatenate([near.person, block.person]), pinned)))
        hits = replace(hits, found=np.searchsorted(kept, hits.found))
        near = GalleryPeople.cat([near[kept[kept < len(near)]], block[kept[kept >= len(near)] - len(near)]])
    return _Candidates(near, compared)


def _nearest_people(new: AppearanceEmbeddings, block: GalleryPeople, count: int, minimum: float) -> Hits:
    """Find the people of a block that resemble new appearances, without copying the block."""
    parts = []
    for start in range(0, len(block), _BLOCK_PEOPLE):
        sums = block.sums[start : start + _BLOCK_PEOPLE]
        units = sums / np.maximum(np.linalg.norm(sums, axis=1), 1e-12)[:, None]
        found = compare(new.embeddings, units, count=count, minimum=minimum)
        parts.append(found.of(np.arange(len(new)), start + np.arange(len(sums))))
    return Hits.cat([Hits.empty(), *parts])


def _weights(quality: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(quality, np.float32(MIN_WEIGHT))


def _in_view(new: AppearanceEmbeddings, near: GalleryPeople, sightings: Sightings) -> InView:
    """Return when the people and the new appearances, rows in this order, are in view."""
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


def _exclusions(excluded: Exclusions, near: GalleryPeople) -> NDArray[np.int64]:
    """Return (B, 2) rows of people and of new appearances, in this order, that a correction separates."""
    found = excluded[np.isin(excluded.person, near.person)]
    order = np.argsort(near.person)
    place = np.searchsorted(near.person, found.person, sorter=order)
    return np.stack([order[place], found.row + len(near)], axis=1)


def _number(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber labels as 0.. in order of first row; -1 stays."""
    found, first, number = np.unique(labels, return_index=True, return_inverse=True)
    none = int(len(found) > 0 and found[0] < 0)
    rank = np.full(len(found), -1, np.int64)
    rank[none:][np.argsort(first[none:])] = np.arange(len(found) - none)
    return rank[number]


def _merge_candidates(refusals: list[Refusals]) -> NDArray[np.int64]:
    """Return (K, 2) pairs of people of the gallery that would have joined, the most similar pair first."""
    if not refusals:
        return np.zeros((0, 2), np.int64)
    person = np.concatenate([refusal.person for refusal in refusals])
    order = np.argsort(-np.concatenate([refusal.similarity for refusal in refusals]), kind="stable")
    _, first = np.unique(person[order], axis=0, return_index=True)
    return person[order][np.sort(first)]
