"""Sums up an appearance from its faces: what the heads say of the person over all frames, weighted by face quality.

Probabilities are averaged before a label is chosen, so a few clear frames outweigh many doubtful ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from worker.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from worker.values import HeadRows

    Floats = NDArray[np.float64]

UNKNOWN = "unknown"
# Weight of a face of quality 0, so that an appearance of poor faces only is still their mean.
_LEAST_WEIGHT = 0.02
# Half-width of a central 80 % interval of the normal distribution, in standard deviations.
_SIGMAS_OF_80_PERCENT = 1.2816


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AppearanceFaces(Columns):
    """Faces of one analysis with the appearance of each."""

    appearance: NDArray[np.int64]
    """(N,) number of the appearance, -1 where a face has none."""
    at_seconds: NDArray[np.float64]
    """(N,) time of the frame."""
    quality: NDArray[np.float32]
    """(N,) in 0..1."""
    kept: NDArray[np.bool_]
    """(N,) False for a dropped face: it counts as seen, but says nothing of the person."""
    embeddings: NDArray[np.float32]
    """(N, D) L2-normalised; not read where not kept."""

    def __post_init__(self) -> None:
        self._check(embeddings=(-1,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A label with its probability."""

    label: str
    """One of the head's labels, or 'unknown' where the head abstains."""
    confidence: float
    """Mean probability of the likeliest label, also where the head abstains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """An estimate in years."""

    value: float
    low: float
    """Lower end of the central 80 % interval."""
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """A person in view; what a head that is off would say is None or empty."""

    number: int
    """The appearance's number in its analysis."""
    rows: NDArray[np.int64]
    """Its faces, kept and dropped, as rows of the input in order of time."""
    best_face: int
    """Row of its kept face of highest quality, the earliest of equals."""
    start_seconds: float
    """Time of its first face, kept or dropped."""
    end_seconds: float
    """Time of its last face."""
    face_count: int
    """Kept and dropped faces."""
    quality: float
    """That of the best face."""
    embedding: NDArray[np.float32]
    """(D,) L2-normalised quality-weighted mean; zero where the kept faces have none."""
    age: Age | None = None
    gender: Verdict | None = None
    ethnicity: Verdict | None = None
    emotion: Verdict | None = None
    """The emotion of the largest share."""
    emotions: dict[str, float] = field(default_factory=dict)
    """Expected share of the faces that show each emotion: the mean of their probabilities; sums to 1."""
    attributes: dict[str, float] = field(default_factory=dict)
    """Mean probability of each attribute."""


def summarise(
    faces: AppearanceFaces, heads: Mapping[str, HeadRows], *, abstention: Mapping[str, float] | None = None
) -> tuple[Appearance, ...]:
    """Sum up each appearance, in order of number.

    Args:
        faces: N faces of one analysis, in order of time.
        heads: by task (gender, age, ethnicity, emotion, attributes), those that are on, over the same N faces.
        abstention: by task, the mean probability below which the answer is 'unknown'; a task left out never abstains.

    Returns:
        One value per appearance number that occurs.

    Raises:
        ValueError: an appearance has no kept face, or a head speaks of another number of faces.
    """
    for task, head in heads.items():
        if len(head.probabilities) != len(faces):
            raise ValueError(f"head {task!r} speaks of {len(head.probabilities)} faces, expected {len(faces)}")
    order = np.argsort(faces.appearance, kind="stable")
    numbers, starts = np.unique(faces.appearance[order], return_index=True)
    groups = np.split(order, starts[1:]) if len(order) else []
    return tuple(
        _summarise_one(int(number), rows, faces, heads, abstention or {})
        for number, rows in zip(numbers, groups, strict=True)
        if number >= 0
    )


def _summarise_one(
    number: int,
    rows: NDArray[np.int64],
    faces: AppearanceFaces,
    heads: Mapping[str, HeadRows],
    abstention: Mapping[str, float],
) -> Appearance:
    kept = rows[faces.kept[rows]]
    if not len(kept):
        raise ValueError(f"appearance {number} has only dropped faces, expected at least one kept; rerun the tracking")
    times = faces.at_seconds[rows]
    best = int(kept[faces.quality[kept].argmax()])
    weights = np.maximum(faces.quality[kept].astype(np.float64), _LEAST_WEIGHT)
    weights /= weights.sum()
    means = {task: _mean_by_label(head, kept, weights) for task, head in heads.items()}
    verdicts = {
        task: _verdict(means[task], abstention.get(task, 0.0))
        for task in ("gender", "ethnicity", "emotion")
        if task in means
    }
    return Appearance(
        number=number,
        rows=rows,
        best_face=best,
        start_seconds=float(times.min()),
        end_seconds=float(times.max()),
        face_count=len(rows),
        quality=float(faces.quality[best]),
        embedding=_mean_direction(faces.embeddings[kept], weights),
        age=_age(heads["age"], kept, weights) if "age" in heads else None,
        gender=verdicts.get("gender"),
        ethnicity=verdicts.get("ethnicity"),
        emotion=verdicts.get("emotion"),
        emotions=means.get("emotion", {}),
        attributes=means.get("attributes", {}),
    )


def _mean_by_label(head: HeadRows, rows: NDArray[np.int64], weights: Floats) -> dict[str, float]:
    mean = weights @ head.probabilities[rows].astype(np.float64)
    return dict(zip(head.labels, mean.tolist(), strict=True))


def _verdict(mean: dict[str, float], threshold: float) -> Verdict:
    label = max(mean, key=lambda name: mean[name])
    return Verdict(label=label if mean[label] >= threshold else UNKNOWN, confidence=mean[label])


def _age(head: HeadRows, rows: NDArray[np.int64], weights: Floats) -> Age | None:
    """Weighted mean of the faces' ages; the interval never narrows with their number, and widens where they disagree.

    The frames of one person share most of their error, so many of them are little more evidence than one. What the
    faces' own intervals do not explain, their disagreement, adds its standard error.
    """
    if head.value is None:
        return None
    values = head.value[rows].astype(np.float64)
    mean = float(weights @ values)
    low = values if head.low is None else head.low[rows]
    high = values if head.high is None else head.high[rows]
    effective_count = 1.0 / float(weights @ weights)
    spread = _SIGMAS_OF_80_PERCENT * float(np.sqrt(weights @ (values - mean) ** 2 / effective_count))
    below = float(np.hypot(weights @ (values - low), spread))
    above = float(np.hypot(weights @ (high - values), spread))
    return Age(value=mean, low=max(mean - below, 0.0), high=mean + above)


def _mean_direction(embeddings: NDArray[np.float32], weights: Floats) -> NDArray[np.float32]:
    mean = weights @ embeddings.astype(np.float64)
    length = float(np.linalg.norm(mean))
    direction: NDArray[np.float32] = (mean / length if length > 0 else mean).astype(np.float32)
    return direction
