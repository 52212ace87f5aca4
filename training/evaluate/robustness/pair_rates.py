"""True positives of verification where few false ones are allowed, overall and by group.

Each unit (a person, or an image where there are few people) counts once, however many pairs it has. Intervals resample
units, and each resample has a threshold of its own: pairs of one person, or with one image, resemble each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import Figure
from training.evaluate.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

TRUE_PAIRS, FALSE_PAIRS = "true positives at", "false positives at the threshold of"  # before a rate
RATES = (0.001, 0.0001, 0.00001)  # shares of the pairs of different people that may be taken for one person
MIN_FALSE = 10  # pairs of different people above a threshold; a rate that allows fewer is not measured
PAIR_DRAWS = 200
_KEPT = 20  # times the largest rate: share of the impostors that any resample's threshold is looked for among


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedImages:
    """N images to be compared with each other."""

    person: Rows
    """(N,) number of the person."""
    block: Rows
    """(N,) images of different people are compared within a block only."""
    unit: Rows
    """(N,) number of the unit that is resampled, 0..U - 1: the person's, or the image's own."""
    names: tuple[str, ...]
    """U names of the units."""

    @classmethod
    def of_people(cls, people: NDArray[np.str_], block: Rows) -> PairedImages:
        """Return images whose people are resampled: (N,) names, (N,) blocks."""
        names, person = np.unique(people, return_inverse=True)
        return cls(person=person, block=block, unit=person, names=tuple(names.tolist()))

    @classmethod
    def of_images(cls, people: NDArray[np.str_], files: NDArray[np.str_]) -> PairedImages:
        """Return images that are resampled themselves, all in one block: (N,) names of people and of files."""
        _, person = np.unique(people, return_inverse=True)
        count = len(files)
        block = np.zeros(count, dtype=np.int64)
        return cls(person=person, block=block, unit=np.arange(count), names=tuple(files.tolist()))

    def impostors(self, weight: NDArray[np.float64], chosen: NDArray[np.bool_] | None = None) -> float:
        """Return the number of ordered pairs of different people in one block, given (U,) weights of the units.

        Args:
            weight: times that each unit was drawn.
            chosen: (N,) images to count among; None for all.
        """
        each = weight[self.unit] if chosen is None else weight[self.unit] * chosen
        both = np.unique(np.stack([self.block, self.person]), axis=1, return_inverse=True)[1].reshape(-1)
        blocks = np.unique(self.block, return_inverse=True)[1]
        return float((np.bincount(blocks, each) ** 2).sum() - (np.bincount(both, each) ** 2).sum())


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """P ordered pairs of images."""

    first: Rows
    """(P,) row of the first image."""
    second: Rows
    """(P,) row of the second image."""
    similarity: NDArray[np.float32]
    """(P,) cosine similarity."""

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, rows: NDArray[np.generic]) -> ScoredPairs:
        return ScoredPairs(self.first[rows], self.second[rows], self.similarity[rows])

    @classmethod
    def cat(cls, parts: list[ScoredPairs]) -> ScoredPairs:
        """Join pairs; there may be none."""
        first = np.concatenate([np.zeros(0, dtype=np.int64), *(part.first for part in parts)])
        second = np.concatenate([np.zeros(0, dtype=np.int64), *(part.second for part in parts)])
        values = np.concatenate([np.zeros(0, dtype=np.float32), *(part.similarity for part in parts)])
        return cls(first, second, values)


def genuine_pairs(left: NDArray[np.float32], right: NDArray[np.float32], images: PairedImages) -> ScoredPairs:
    """Return all ordered pairs of two images of one person.

    Args:
        left: (N, D) L2-normalised embeddings of the first images.
        right: (N, D) of the second ones: the same, or those of copies.
        images: the N images.
    """
    parts = []
    for rows in _members(images.person):
        first, second = np.nonzero(~np.eye(len(rows), dtype=np.bool_))
        values = (left[rows] @ right[rows].T)[first, second]
        parts.append(ScoredPairs(rows[first], rows[second], values))
    return ScoredPairs.cat(parts)


def closest_impostors(left: NDArray[np.float32], right: NDArray[np.float32], images: PairedImages) -> ScoredPairs:
    """Return the most similar ordered pairs of different people in one block, the most similar first.

    Arguments are those of ``genuine_pairs``.
    """
    count = int(np.ceil(_KEPT * max(RATES) * images.impostors(np.ones(len(images.names)))))
    found = ScoredPairs.cat([])
    for rows in _members(images.block):
        values = left[rows] @ right[rows].T
        values[images.person[rows][:, None] == images.person[rows]] = -np.inf
        flat = values.ravel()
        best = np.argpartition(-flat, min(count, len(flat) - 1))[:count]
        best = best[np.isfinite(flat[best])]
        first, second = np.divmod(best, len(rows))
        found = ScoredPairs.cat([found, ScoredPairs(rows[first], rows[second], flat[best])])
    return found[np.argsort(-found.similarity, kind="stable")[:count]]


def _members(number: Rows) -> list[Rows]:
    """Return the rows of each number."""
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)


@dataclass(frozen=True, slots=True)
class _Rates:
    """Computes rates of the same pairs for any weights of the units."""

    same: ScoredPairs
    others: ScoredPairs
    images: PairedImages
    members: NDArray[np.bool_]
    """(G, U) units of each group; the first row has all."""

    def __call__(self, rate: float, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (G,) true positives at a rate, given (U,) weights."""
        unit = self.images.unit[self.same.first]
        value = self.weights(self.same, weight) / np.bincount(unit, minlength=len(weight))[unit]
        accepted = self.same.similarity > self.threshold(rate, weight)
        total = self.members @ np.bincount(unit, value, len(weight))
        right = self.members @ np.bincount(unit, value * accepted, len(weight))
        return np.asarray(np.divide(right, total, out=np.full(len(total), np.nan), where=total > 0))

    def threshold(self, rate: float, weight: NDArray[np.float64]) -> float:
        """Return the lowest similarity that at most a share of the weighted impostors exceeds."""
        running = np.cumsum(self.weights(self.others, weight))
        place = np.searchsorted(running, rate * self.images.impostors(weight), side="right")
        return float(self.others.similarity[min(int(place), len(running) - 1)])

    def weights(self, pairs: ScoredPairs, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (P,) weights of pairs: the product of their units', or that of the one."""
        first, second = self.images.unit[pairs.first], self.images.unit[pairs.second]
        return np.where(first == second, weight[first], weight[first] * weight[second])

    def accepted(self, threshold: float) -> NDArray[np.float64]:
        """Return the (U,) shares of each unit's pairs above a threshold; not a number without pairs."""
        unit, count = self.images.unit[self.same.first], len(self.images.names)
        pairs = np.bincount(unit, minlength=count)
        right = np.bincount(unit, self.same.similarity > threshold, count)
        return np.asarray(np.divide(right, pairs, out=np.full(count, np.nan), where=pairs > 0))


def true_positives_name(rate: float) -> str:
    """Return the name of the measure: 'true positives at 0.1 % false ones'."""
    return f"{TRUE_PAIRS} {100 * rate:g} % false ones"


def rate_findings(
    place: tuple[str, str],
    same: ScoredPairs,
    others: ScoredPairs,
    images: PairedImages,
    groups: Mapping[str, NDArray[np.bool_]],
) -> Findings:
    """Measure true positives at each of RATES, and in each group the false ones at the threshold of all.

    The result is empty where there are too few pairs for any rate.

    Args:
        place: data and task.
        same: pairs of one person.
        others: the most similar pairs of different people, the most similar first.
        images: the images that they are of.
        groups: (U,) units by group, such as all of one gender.
    """
    everyone, count = images.impostors(np.ones(len(images.names))), len(images.names)
    members = np.stack([np.ones(count, dtype=np.bool_), *groups.values()])
    rates = _Rates(same, others, images, members)
    random = np.random.default_rng(0)
    drawn = random.multinomial(count, [1 / count] * count, PAIR_DRAWS).astype(np.float64)
    # Two orders of one pair are one false positive.
    measured = [rate for rate in RATES if rate * everyone / 2 >= MIN_FALSE and len(same)]
    return Findings.join([_at_rate(place, rate, rates, ["all", *groups], drawn) for rate in measured])


def _at_rate(
    place: tuple[str, str], rate: float, rates: _Rates, names: list[str], drawn: NDArray[np.float64]
) -> Findings:
    ones = np.ones(len(rates.images.names))
    name, threshold = true_positives_name(rate), rates.threshold(rate, ones)
    low, high = np.nanquantile([rates(rate, weight) for weight in drawn], (0.025, 0.975), axis=0)
    accepted = rates.accepted(threshold)
    there = np.isfinite(accepted)
    counts = (rates.members & there).sum(axis=1)
    found = zip(names, rates(rate, ones).tolist(), low.tolist(), high.tolist(), counts.tolist(), strict=True)
    rows = [Row(*place, name, Figure(*figure), group) for group, *figure in found if figure[-1]]
    files = [unit for unit, known in zip(rates.images.names, there, strict=True) if known]
    groups = {group: members[there] for group, members in zip(names[1:], rates.members[1:], strict=True)}
    outcome = Outcomes.of((*place, name), accepted[there], files, groups, higher_is_better=True)
    return Findings(rows=(*rows, *_false_rows(place, rate, threshold, rates, names[1:])), outcomes=(outcome,))


def _false_rows(place: tuple[str, str], rate: float, threshold: float, rates: _Rates, names: list[str]) -> list[Row]:
    """Return the share of each group's own impostors above the threshold of all."""
    above = rates.others[rates.others.similarity > threshold]
    images, rows = rates.images, []
    for name, members in zip(names, rates.members[1:], strict=True):
        chosen = members[images.unit]
        pairs = images.impostors(np.ones(len(images.names)), chosen)
        if pairs:
            share = (chosen[above.first] & chosen[above.second]).sum() / pairs
            figure = Figure.without_interval(float(share), int(pairs) // 2)
            rows.append(Row(*place, f"{FALSE_PAIRS} {100 * rate:g} %", figure, name))
    return rows
