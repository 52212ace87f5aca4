"""Appearances in view at the same time in the same file: evidence of two people, not proof.

A collage, a strip of a photo booth, a mirror, an image of a person beside that person and a face that was found twice
show one person several times. So a pair that looks so much the same that different people are implausible is no
evidence, and neither is a pair that a chain of such pairs connects in one image. Identical twins cannot be told apart
by this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from worker.columns import ArrayColumns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Ids = NDArray[np.int64]
    Floats = NDArray[np.float64]

# Smallest cosine of two clear faces in view together that may be one person.
# Of 1,576 pairs of different people in 139 photographs of groups, the most similar have 0.62, at a quality of 0.41; of
# those of quality 0.5 and more 0.51. Of LFW's held-out people (6.8 million pairs) the most similar have 0.60. Images of
# one person have 0.65 and more in 74 of 100 pairs there, and 0.9 and more in one session. Tables in
# docs/measured/identity.md.
SAME_COSINE = 0.65
_CLEAR_QUALITY = 0.5  # below it the limit rises: blurred faces of one image resemble each other
_PER_QUALITY = 0.5  # rise of the limit for a quality that is lower by one
_BLOCK_PAIRS = 262_144  # compared at a time: 270 MB of embeddings of 128 numbers


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class InView(ArrayColumns):
    """Times at which members of groups are in view."""

    group: Ids
    """(M,) row of the member's group."""
    media: Ids
    """(M,) file."""
    start_seconds: Floats
    """(M,) first time in view; 0 for an image."""
    end_seconds: Floats
    """(M,) last time in view."""
    embeddings: NDArray[np.float32]
    """(M, D) L2-normalised; zero where there is none."""
    quality: NDArray[np.float32]
    """(M,) in 0..1."""

    def __post_init__(self) -> None:
        self._check(embeddings=(-1,))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sightings(ArrayColumns):
    """Times at which people of the gallery are in view."""

    person: NDArray[np.int64]
    """(S,) id of the person."""
    media: NDArray[np.int64]
    """(S,) file."""
    start_seconds: NDArray[np.float64]
    """(S,) first time in view; 0 for an image."""
    end_seconds: NDArray[np.float64]
    """(S,) last time in view."""
    embeddings: NDArray[np.float32]
    """(S, D) of the appearance there, L2-normalised; zero where there is none."""
    quality: NDArray[np.float32]
    """(S,) in 0..1."""

    def __post_init__(self) -> None:
        self._check(embeddings=(-1,))

    @classmethod
    def empty(cls, dimension: int = 128) -> Self:
        """Return no sighting."""
        ids, times, none = np.zeros(0, np.int64), np.zeros(0, np.float64), np.zeros(0, np.float32)
        looks = np.zeros((0, dimension), np.float32)
        return cls(person=ids, media=ids, start_seconds=times, end_seconds=times, embeddings=looks, quality=none)


def pairs_in_view(media: Ids, start_seconds: Floats, end_seconds: Floats) -> Ids:
    """Return the (B, 2) pairs of rows that are in view in the same file at the same time."""
    blocks = [np.zeros((0, 2), np.int64), *_pairs_in_view(media, start_seconds, end_seconds)]
    return np.concatenate(blocks)


def connected_components(count: int, pairs: Ids) -> Ids:
    """Return, for each of 0..count-1, the smallest number that a chain of (E, 2) pairs connects it with."""
    label = np.arange(count)
    while len(pairs):
        least = np.minimum(label[pairs[:, 0]], label[pairs[:, 1]])
        below = label.copy()
        np.minimum.at(below, pairs[:, 0], least)
        np.minimum.at(below, pairs[:, 1], least)
        below = below[below]
        if np.array_equal(below, label):
            break
        label = below
    return label


def cannot_link_pairs(seen: InView, groups: Ids, near: Ids) -> Ids:
    """Return the pairs of groups that are in view together and do not look like one person there.

    Only groups that may join are compared, those that a chain of near pairs connects: all pairs in view of a video that
    shows a crowd would be millions.

    Args:
        seen: M members.
        groups: (M,) group that each member belongs to by now.
        near: (E, 2) pairs of groups along which they may join.

    Returns:
        (B, 2) pairs, each once, smaller group first.
    """
    count = int(max(groups.max(initial=-1), near.max(initial=-1))) + 1
    chain = connected_components(count, near)
    joins = np.zeros(count, np.bool_)
    joins[near.ravel()] = True
    rows = np.flatnonzero(joins[groups])
    _, file = np.unique(np.stack([chain[groups[rows]], seen.media[rows]]), axis=1, return_inverse=True)
    apart, same = [np.zeros((0, 2), np.int64)], [np.zeros((0, 2), np.int64)]
    for block in _pairs_in_view(file.ravel(), seen.start_seconds[rows], seen.end_seconds[rows]):
        pairs = rows[block]
        pairs = pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]]
        looks_same = _look_the_same(seen, pairs)
        same.append(pairs[looks_same])
        apart.append(pairs[~looks_same])
    person = connected_components(len(groups), np.concatenate(same))
    pairs = np.concatenate(apart)
    pairs = groups[pairs[person[pairs[:, 0]] != person[pairs[:, 1]]]]
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _look_the_same(seen: InView, pairs: Ids) -> NDArray[np.bool_]:
    first, second = pairs.T
    cosine = np.einsum("bd,bd->b", seen.embeddings[first], seen.embeddings[second])
    quality = np.minimum(seen.quality[first], seen.quality[second])
    same: NDArray[np.bool_] = cosine >= SAME_COSINE + _PER_QUALITY * np.maximum(_CLEAR_QUALITY - quality, 0.0)
    return same


def _pairs_in_view(media: Ids, start_seconds: Floats, end_seconds: Floats) -> Iterator[Ids]:
    """Yield the pairs of `pairs_in_view` in blocks."""
    order = np.lexsort((start_seconds, media))
    _, file = np.unique(media[order], return_inverse=True)
    moments, place = np.unique(np.concatenate([start_seconds[order], end_seconds[order]]), return_inverse=True)
    starts, ends = file * len(moments) + place.reshape(2, -1)
    # In order of start, the rows that begin before a row ends come right after it.
    following = np.maximum(np.searchsorted(starts, ends, side="right") - np.arange(len(order)) - 1, 0)
    total = np.concatenate([[0], np.cumsum(following)])
    begin = 0
    while begin < len(order):
        end = int(np.searchsorted(total, total[begin] + _BLOCK_PAIRS, side="right")) - 1
        end = min(max(end, begin + 1), len(order))
        counts = following[begin:end]
        first = np.repeat(np.arange(begin, end), counts)
        offset = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield np.stack([order[first], order[first + 1 + offset]], axis=1)
        begin = end
