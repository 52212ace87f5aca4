"""Gives every appearance a person: against all that are known, or all over again.

`assign` is for what has just been analysed: new appearances and the known people they resemble are grouped together
from the most similar pair down, so the order within a batch does not matter. `regroup` forgets the people and groups
everything. Both obey the same rules: an appearance of low quality joins no two people and needs more similarity to
attach, and whoever is in view at the same time in the same media is not the same person.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import faiss
import numpy as np

from worker.columns import Columns
from worker.grouping import Groups, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from worker.constraints import Constraints

# Weight of an embedding of quality 0 in a mean.
_LEAST_WEIGHT = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyOptions:
    """What counts as one person. The thresholds are cosines of SFace embeddings."""

    threshold: float = 0.52
    """Cosine of two people's mean embeddings from which they are one.

    Largest BCubed F on LFW's train people (4,403 people, 9,456 images) with the default release, November 2026: 0.990,
    and 0.994 on the 1,330 held-out people. OpenCV's 0.363 is for single pairs: here it gives 0.954, and 0.354 without
    the second threshold. Tables in docs/identity.md.
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
    neighbours: int = 24
    """Nearest groups that each is compared with."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AppearanceEmbeddings(Columns):
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
class Sightings(Columns):
    """When known people are in view."""

    person: NDArray[np.int64]
    """(S,) the person's id."""
    media: NDArray[np.int64]
    """(S,)."""
    start_seconds: NDArray[np.float64]
    """(S,)."""
    end_seconds: NDArray[np.float64]
    """(S,)."""

    def __post_init__(self) -> None:
        self._check()

    @classmethod
    def empty(cls) -> Self:
        """Nobody."""
        ids, times = np.zeros(0, np.int64), np.zeros(0, np.float64)
        return cls(person=ids, media=ids, start_seconds=times, end_seconds=times)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KnownPeople(Columns):
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
        people, member = np.unique(person, return_inverse=True)
        good_row = quality >= (options or IdentifyOptions()).low_quality
        good = np.zeros(len(people), np.bool_)
        np.logical_or.at(good, member, good_row)
        counts = good_row == good[member]
        sums = np.zeros((len(people), embeddings.shape[1]), np.float32)
        weights = np.zeros(len(people), np.float32)
        np.add.at(sums, member[counts], embeddings[counts] * _weights(quality[counts])[:, None])
        np.add.at(weights, member[counts], _weights(quality[counts]))
        return cls(person=people, sums=sums, weights=weights, good=good)


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
    known: Iterable[KnownPeople] = (),
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
        constraints: what humans said, over the N rows.
        pinned: (N,) known person that a new appearance is, as humans said, whatever it resembles; -1 for none.
        options: thresholds.
    """
    options = options or IdentifyOptions()
    near = _candidates(new, known, options, wanted=pinned)
    weights = _weights(new.quality)
    groups = Groups(
        np.concatenate([near.sums, new.embeddings * weights[:, None]]),
        np.concatenate([near.weights, weights]),
        good=np.concatenate([near.good, new.quality >= options.low_quality]),
        pins=np.concatenate([near.person, np.full(len(new), -1, np.int64)]),
    )
    _see(groups, new, np.arange(len(near), len(groups)))
    if sightings is not None:
        places = {int(person): row for row, person in enumerate(near.person)}
        rows = np.array([places.get(person, -1) for person in sightings.person.tolist()], np.int64)
        _see(groups, sightings[rows >= 0], rows[rows >= 0])
    _obey(groups, constraints, np.arange(len(near), len(groups)))
    if pinned is not None:
        for row in np.flatnonzero(pinned >= 0).tolist():
            groups.unite(int(np.flatnonzero(near.person == pinned[row])[0]), len(near) + row)
    _group(groups, options)
    roots = groups.roots()[len(near) :]
    person = groups.pins[roots]
    return Assignment(
        person=person,
        newcomer=_number(np.where(person < 0, roots, -1)),
        similarity=np.einsum("nd,nd->n", new.embeddings, groups.directions(roots)),
        alike=_alike(groups),
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
        constraints: what humans said, over the N rows; it holds whatever the embeddings say.
        options: thresholds.

    Returns:
        (N,) int64 group of each appearance, 0.. in order of first row.
    """
    options = options or IdentifyOptions()
    weights = _weights(appearances.quality)
    groups = Groups(
        appearances.embeddings * weights[:, None],
        weights,
        good=appearances.quality >= options.low_quality,
    )
    _, file, counts = np.unique(appearances.media, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(counts[file] > 1)  # alone in a file, nobody can meet anybody
    _see(groups, appearances[shared], shared)
    _obey(groups, constraints, np.arange(len(groups)))
    _group(groups, options)
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
    pairs, counts = np.unique(np.stack([groups[had], previous[had]], axis=1), axis=0, return_counts=True)
    taken: set[int] = set()
    for row in np.argsort(-counts, kind="stable"):
        group, person = (int(number) for number in pairs[row])
        if people[group] < 0 and person not in taken:
            people[group] = person
            taken.add(person)
    return people


def _obey(groups: Groups, constraints: Constraints | None, rows: NDArray[np.int64]) -> None:
    if constraints is not None:
        groups.obey(constraints, rows)


def _group(groups: Groups, options: IdentifyOptions) -> None:
    """First the good ones among themselves, then the others attach without moving them."""
    rule = Rule(threshold=options.threshold, mean_threshold=options.mean_threshold, neighbours=options.neighbours)
    poor = ~groups.good
    sums = groups.sums[poor].copy()
    groups.sums[poor] = 0.0  # a zero vector resembles nobody
    groups.agglomerate(rule)
    groups.sums[poor] = sums
    if poor.any():
        groups.agglomerate(replace(rule, threshold=options.low_quality_threshold, apart=True))


def _candidates(
    new: AppearanceEmbeddings,
    known: Iterable[KnownPeople],
    options: IdentifyOptions,
    *,
    wanted: NDArray[np.int64] | None = None,
) -> KnownPeople:
    """The known people that a new appearance resembles, at most ``neighbours`` for each, and those that are wanted."""
    best = KnownPeople.empty(new.embeddings.shape[1])
    queries = np.ascontiguousarray(new.embeddings)
    for block in known:
        people = KnownPeople.cat([best, block])
        units = np.ascontiguousarray(people.sums / np.maximum(np.linalg.norm(people.sums, axis=1), 1e-12)[:, None])
        count = min(options.neighbours, len(people))
        if not count or not len(new):
            continue
        similarity, found = faiss.knn(queries, units, count, metric=faiss.METRIC_INNER_PRODUCT)
        near = found[similarity >= options.threshold - 0.1]
        asked = np.flatnonzero(np.isin(people.person, wanted)) if wanted is not None else near[:0]
        best = people[np.union1d(near, asked)]
    return best


def _weights(quality: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(quality, np.float32(_LEAST_WEIGHT))


def _see(groups: Groups, seen: AppearanceEmbeddings | Sightings, members: NDArray[np.int64]) -> None:
    for group, media, start, end in zip(
        members.tolist(),
        seen.media.tolist(),
        seen.start_seconds.tolist(),
        seen.end_seconds.tolist(),
        strict=True,
    ):
        groups.see(group, media, start, end)


def _number(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels as 0.. in order of first row; -1 stays."""
    numbers: dict[int, int] = {-1: -1}
    return np.array([numbers.setdefault(int(label), len(numbers) - 1) for label in labels], np.int64)


def _alike(groups: Groups) -> NDArray[np.int64]:
    """Pairs of pinned people that would have joined."""
    best: dict[tuple[int, int], float] = {}
    for refusal in groups.refusals:
        first, second = sorted((int(groups.pins[refusal.first]), int(groups.pins[refusal.second])))
        if 0 <= first < second:
            best[first, second] = max(refusal.similarity, best.get((first, second), -1.0))
    pairs = sorted(best, key=lambda pair: -best[pair])
    return np.array(pairs, np.int64).reshape(-1, 2)
