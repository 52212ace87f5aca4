"""The fairness gate: is a release worse than another one for any group of people?

Where both releases were evaluated on the same faces, they are compared face by face: the interval of the difference
comes from a bootstrap over the faces, and each resample takes the outcomes of both releases. Elsewhere it comes from
the intervals of the two figures, taken as normal and independent. The intervals of groups are so wide that they hold
for all groups of a task together (Bonferroni): among fifty groups some always lie outside their own 95 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from training.errors import DataError
from training.evaluate.metrics import Figure, resamples
from training.evaluate.report.judged import JUDGED, merit
from training.evaluate.report.tables import NOT_SHARES, figure_text, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from training.evaluate.evaluate import Evaluation
    from training.evaluate.findings import Row
    from training.evaluate.outcomes import Outcomes

LEVEL = 0.95  # confidence with which all intervals of one task hold together
# Bootstrap resamples: the ends of an interval for one of fifty groups leave ten of them outside.
PAIRED_DRAWS = 10_000
# Groups with fewer faces are shown and not judged: their bootstrap has too few outcomes.
MIN_FACES = 20
WORST = "worst group"


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both releases."""

    data: str
    task: str
    measure: str
    group: str
    before: float
    after: float
    gain: Figure
    """Gain of the second release: positive is better, in the unit of the figure."""
    paired: bool
    """Whether both figures are of the same faces."""
    judged: bool

    @property
    def worse(self) -> bool:
        """Whether the whole interval of the gain lies below zero."""
        return self.judged and self.gain.high < 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that both releases were measured on."""

    before: str
    after: str
    differences: tuple[Difference, ...]

    @property
    def worse(self) -> tuple[Difference, ...]:
        """Figures that are worse, their whole interval included."""
        return tuple(one for one in self.differences if one.worse)


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """Compare the main figures of every group in two evaluations.

    Raises:
        DataError: they have no figure in common.
    """
    places = list(dict.fromkeys((r.data, r.task, r.measure) for r in before.rows if r.measure in JUDGED))
    differences = [one for place in places for one in _place_differences(before, after, place)]
    if not differences:
        raise DataError(f"{before.release} and {after.release} were measured on nothing in common; evaluate both alike")
    return Comparison(before.release, after.release, tuple(differences))


def _place_differences(before: Evaluation, after: Evaluation, place: tuple[str, str, str]) -> list[Difference]:
    """Compare one figure for all faces, for each group, and for the worst group."""
    pairs = [
        (row, figure)
        for row in before.rows
        if (row.data, row.task, row.measure) == place and (figure := after.find(*place, row.group)) is not None
    ]
    same = _same_faces(before, after, place)
    groups = sum(row.group != "all" and row.figure.count >= MIN_FACES for row, _ in pairs)
    found = []
    for row, figure in pairs:
        level = LEVEL if row.group == "all" else 1 - (1 - LEVEL) / max(1, groups)
        if same and (row.group == "all" or row.group in same[0].groups):
            gain, paired = _paired_gain(same, row.group, level), True
        else:
            gain, paired = _independent_gain(row.figure, figure, place, level), False
        enough = min(row.figure.count, figure.count) >= MIN_FACES
        found.append(Difference(*place, row.group, row.figure.value, figure.value, gain, paired, enough))
    return found + list(_worst_group(same, [row for row, _ in pairs]))


def _same_faces(before: Evaluation, after: Evaluation, place: tuple[str, str, str]) -> tuple[Outcomes, Outcomes] | None:
    """Return the outcomes of one figure in both releases, if they are of the same faces."""
    first, second = (
        next((o for o in found.outcomes if (o.data, o.task, o.measure) == place), None) for found in (before, after)
    )
    return (first, second) if first and second and first.rows_sha256 == second.rows_sha256 else None


def _values(pair: tuple[Outcomes, Outcomes]) -> NDArray[np.float64]:
    """Return the (N, 2) outcomes of each face in both releases."""
    return np.stack([one.unpack().astype(np.float64) for one in pair], axis=1)


def _gain(measure: str, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (D,) gains of D resamples, given the (2, D) means in both releases."""
    before, after = merit(measure, means)
    return np.asarray(after - before, dtype=np.float64)


def _paired_gain(pair: tuple[Outcomes, Outcomes], group: str, level: float) -> Figure:
    values, measure = _values(pair)[pair[0].members(group)], pair[0].measure
    drawn = [values[rows].mean(axis=1).T for rows in resamples(len(values), PAIRED_DRAWS)]
    low, high = np.quantile(_gain(measure, np.concatenate(drawn, axis=1)), ((1 - level) / 2, (1 + level) / 2))
    return Figure(float(_gain(measure, values.mean(axis=0)[:, None])[0]), float(low), float(high), len(values))


def _independent_gain(before: Figure, after: Figure, place: tuple[str, str, str], level: float) -> Figure:
    """Compute the gain of two figures as independent and normal; their intervals hold 95 %."""
    spread = np.hypot(before.high - before.low, after.high - after.low) / (2 * NormalDist().inv_cdf(0.975))
    value = float(_gain(place[2], np.array([[before.value], [after.value]]))[0])
    half = NormalDist().inv_cdf((1 + level) / 2) * float(spread)
    return Figure(value, value - half, value + half, min(before.count, after.count))


def _worst_group(pair: tuple[Outcomes, Outcomes] | None, rows: Sequence[Row]) -> Iterator[Difference]:
    """Compare the worst group of each release, which need not be the same; needs the same faces."""
    groups = [row.group for row in rows if row.group != "all" and row.figure.count >= MIN_FACES]
    if pair is None or len(groups) < 2 or not set(groups) <= set(pair[0].groups):
        return
    values, measure = _values(pair), pair[0].measure
    members = np.stack([pair[0].members(group) for group in groups]).astype(np.float64)
    weight = np.random.default_rng(0).multinomial(len(values), [1 / len(values)] * len(values), PAIRED_DRAWS // 10)
    drawn = np.stack([_worst(measure, members, values, draw) for draw in weight.astype(np.float64)], axis=1)
    worst = _worst(measure, members, values, np.ones(len(values)))
    low, high = np.quantile(_gain(measure, drawn), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    gain = Figure(float(_gain(measure, worst[:, None])[0]), float(low), float(high), len(values))
    place = (pair[0].data, pair[0].task, measure)
    yield Difference(*place, WORST, float(worst[0]), float(worst[1]), gain, paired=True, judged=True)


def _worst(
    measure: str, members: NDArray[np.float64], values: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the (2,) means of the worst group in each release: (G, N) members, (N, 2) values, (N,) weights."""
    counts = members @ weight
    means = (members @ (values * weight[:, None]))[counts > 0] / counts[counts > 0, None]
    worst = merit(measure, means).argmin(axis=0)
    return np.asarray(means[worst, np.arange(2)], dtype=np.float64)


def comparison_table(found: Comparison, *, every: bool = False) -> str:
    """Format the comparison as Markdown: all faces, the worst group and the groups that got worse; or every group."""
    rows = [
        (
            f"{one.data}, {one.task}: {one.measure}",
            one.group,
            str(one.gain.count),
            figure_text(one.measure, Figure.without_interval(one.before)),
            figure_text(one.measure, Figure.without_interval(one.after)),
            gain_text(one),
            "worse" if one.worse else "" if one.judged else "too few",
        )
        for one in found.differences
        if every or one.worse or one.group in ("all", WORST)
    ]
    head = ("set, task", "group", "count", "before", "after", "better by (interval)", "verdict")
    return table(head, rows)


def gain_text(one: Difference) -> str:
    """Format a gain and its interval: '-1.2 (-2.0 to -0.4)', in percent or years."""
    scale = 1 if one.measure in NOT_SHARES else 100
    value, low, high = (f"{number * scale:+.2f}" for number in (one.gain.value, one.gain.low, one.gain.high))
    return f"{value} ({low} to {high}){'' if one.paired else ', not face by face'}"


def worse_text(one: Difference) -> str:
    """Describe a figure that got worse."""
    place = f"{one.data}, {one.task}, {one.group}"
    return f"{place}: {one.measure} {one.before:.4f} -> {one.after:.4f}, better by {gain_text(one)}"
