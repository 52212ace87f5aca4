"""Aggregates an appearance from its faces: the predictions of all frames, weighted by face quality.

Probabilities are averaged before a label is chosen, so a few clear frames outweigh many doubtful ones. Only
weighted sums are kept of a face, so an appearance takes the same memory however long it lasts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from worker.columns import ArrayColumns
from worker.types import MIN_WEIGHT, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from worker.types import HeadRows

    Floats = NDArray[np.float64]

# Half-width of a central 80 % interval of the normal distribution, in standard deviations.
_SIGMAS_OF_80_PERCENT = 1.2816


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AppearanceFaces(ArrayColumns):
    """Faces of one analysis with the appearance of each."""

    appearance: NDArray[np.int64]
    """(N,) number of the appearance, -1 where a face has none."""
    at_seconds: NDArray[np.float64]
    """(N,) time of the frame."""
    quality: NDArray[np.float32]
    """(N,) in 0..1."""
    kept: NDArray[np.bool_]
    """(N,) False for a dropped face: it counts as seen, but its predictions do not."""
    embeddings: NDArray[np.float32]
    """(N, D) L2-normalised; not read where not kept."""
    screen_seconds: NDArray[np.float64]
    """(N,) time for which the frame stays on screen."""
    pause_seconds: NDArray[np.float64]
    """(N,) by how much that exceeds a sampling step."""
    steps: NDArray[np.float64]
    """(N,) sampling steps that it stands for."""

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
    """A person in view; predictions of heads that are off are None or empty."""

    number: int
    """The appearance's number in its analysis."""
    best_face: int
    """Id, or row of the input, of its kept face of highest quality, the earliest of equals."""
    start_seconds: float
    """Time of its first face, kept or dropped."""
    end_seconds: float
    """Time of its last face, plus the pause for which its frame stays on screen."""
    screen_seconds: float
    """From its first face to the end of its last frame."""
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
    """Expected share of time of each emotion: the mean of its probabilities; sums to 1."""
    attributes: dict[str, float] = field(default_factory=dict)
    """Mean probability of each attribute."""


def summarise(
    faces: AppearanceFaces, heads: Mapping[str, HeadRows], *, abstention: Mapping[str, float] | None = None
) -> tuple[Appearance, ...]:
    """Aggregate each appearance, in order of number.

    Args:
        faces: N faces of one analysis, in order of time.
        heads: by task (gender, age, ethnicity, emotion, attributes), those that are on, over the same N faces.
        abstention: by task, the mean probability below which the answer is 'unknown'; a task left out never abstains.

    Returns:
        One value per appearance number that occurs.

    Raises:
        ValueError: an appearance has no kept face, or a head has another number of rows.
    """
    sums = AppearanceSums(abstention)
    sums.add(faces, heads)
    return sums.close(sums.open)


class AppearanceSums:
    """Aggregates appearances whose faces come block by block; holds the sums of those that are not closed.

    Args:
        abstention: as in `summarise`.
    """

    def __init__(self, abstention: Mapping[str, float] | None = None) -> None:
        self._abstention = abstention or {}
        self._open: dict[int, _Sums] = {}
        self._rows = 0

    @property
    def open(self) -> list[int]:
        """Numbers of the appearances that are not closed, ascending."""
        return sorted(self._open)

    def add(self, faces: AppearanceFaces, heads: Mapping[str, HeadRows], ids: NDArray[np.int64] | None = None) -> None:
        """Add the next N faces, in order of time.

        Args:
            faces: N faces.
            heads: by task, over the same faces; rows of NaN are left out.
            ids: (N,) values for ``best_face``; None takes their rows, counted over all blocks.

        Raises:
            ValueError: a head has another number of rows.
        """
        for task, head in heads.items():
            if len(head.probabilities) != len(faces):
                raise ValueError(f"head {task!r} has {len(head.probabilities)} rows, expected {len(faces)}")
        if ids is None:
            ids = self._rows + np.arange(len(faces))
        self._rows += len(faces)
        rows = np.flatnonzero(faces.appearance >= 0)
        for number, seen in _groups(rows, faces.appearance):
            self._open.setdefault(number, _Sums()).see(
                faces.at_seconds[seen], faces.pause_seconds[seen], faces.screen_seconds[seen]
            )
        kept = rows[faces.kept[rows]]
        weights = np.maximum(faces.quality.astype(np.float64), MIN_WEIGHT)
        parts = {"": (kept, _with_embeddings(weights[kept], faces.embeddings[kept]))}
        # An emotion is shown for a time; other attributes are seen in one frame, however long it stays on screen.
        times = weights * faces.steps
        parts |= {task: _weighted(head, kept, times if task == "emotion" else weights) for task, head in heads.items()}
        for task, (given, columns) in parts.items():
            self._add_columns(task, () if not task else heads[task].labels, faces.appearance[given], columns)
        for number, seen in _groups(kept, faces.appearance):
            best = int(seen[faces.quality[seen].argmax()])
            self._open[number].offer(int(ids[best]), float(faces.quality[best]))

    def close(self, numbers: Iterable[int]) -> tuple[Appearance, ...]:
        """Aggregate some of the open appearances, in the order given, and drop their sums.

        Raises:
            ValueError: one has no kept face.
        """
        return tuple(self._open.pop(number).result(number, self._abstention) for number in numbers)

    def _add_columns(self, task: str, labels: tuple[str, ...], numbers: NDArray[np.int64], columns: Floats) -> None:
        order = np.argsort(numbers, kind="stable")
        found, starts = np.unique(numbers[order], return_index=True)
        sums = np.add.reduceat(columns[order], starts) if len(found) else columns
        for number, row in zip(found.tolist(), sums, strict=True):
            self._open[number].add(task, labels, row)


@dataclass(slots=True)
class _Sums:
    """Weighted sums over the faces of one appearance."""

    start_seconds: float = np.inf
    end_seconds: float = -np.inf
    gone_seconds: float = -np.inf
    face_count: int = 0
    best_face: int = -1
    quality: float = -1.0
    columns: dict[str, Floats] = field(default_factory=dict)
    """By task: weight, squared weight, then the columns of `_weighted`; the empty task holds the embedding."""
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def see(self, at_seconds: Floats, pause_seconds: Floats, screen_seconds: Floats) -> None:
        self.start_seconds = min(self.start_seconds, float(at_seconds.min()))
        self.end_seconds = max(self.end_seconds, float((at_seconds + pause_seconds).max()))
        self.gone_seconds = max(self.gone_seconds, float((at_seconds + screen_seconds).max()))
        self.face_count += len(at_seconds)

    def offer(self, row: int, quality: float) -> None:
        if quality > self.quality:
            self.best_face, self.quality = row, quality

    def add(self, task: str, labels: tuple[str, ...], columns: Floats) -> None:
        self.labels[task] = labels
        self.columns[task] = self.columns[task] + columns if task in self.columns else columns

    def result(self, number: int, abstention: Mapping[str, float]) -> Appearance:
        if self.best_face < 0:
            message = f"appearance {number} has only dropped faces, expected at least one kept"
            raise ValueError(f"{message}; rerun the tracking")
        means = {task: self._means(task) for task in self.columns if task and task != "age"}
        verdicts = {
            task: _verdict(means[task], abstention.get(task, 0.0))
            for task in ("gender", "ethnicity", "emotion")
            if task in means
        }
        return Appearance(
            number=number,
            best_face=self.best_face,
            start_seconds=self.start_seconds,
            end_seconds=self.end_seconds,
            screen_seconds=self.gone_seconds - self.start_seconds,
            face_count=self.face_count,
            quality=self.quality,
            embedding=_direction(self.columns[""][2:]),
            age=_age(self.columns["age"]) if "age" in self.columns else None,
            gender=verdicts.get("gender"),
            ethnicity=verdicts.get("ethnicity"),
            emotion=verdicts.get("emotion"),
            emotions=means.get("emotion", {}),
            attributes=means.get("attributes", {}),
        )

    def _means(self, task: str) -> dict[str, float]:
        columns = self.columns[task]
        return dict(zip(self.labels[task], (columns[2:] / columns[0]).tolist(), strict=True))


def _groups(rows: NDArray[np.int64], appearance: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the rows of each appearance, in their order."""
    rows = rows[np.argsort(appearance[rows], kind="stable")]
    numbers, starts = np.unique(appearance[rows], return_index=True)
    yield from zip(numbers.tolist(), np.split(rows, starts[1:]), strict=False)


def _with_embeddings(weights: Floats, embeddings: NDArray[np.float32]) -> Floats:
    return np.column_stack([weights, weights**2, weights[:, None] * embeddings.astype(np.float64)])


def _weighted(head: HeadRows, kept: NDArray[np.int64], weights: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the kept rows that a head has a prediction for, and their columns of `_Sums`.

    A head with labels gives its probabilities; a numeric one its value, the value squared, and the distances to both
    ends of the interval. All are multiplied by the weight.
    """
    values: Floats
    if head.value is None:
        values = head.probabilities[kept].astype(np.float64)
    else:
        value = head.value[kept].astype(np.float64)
        low = value if head.low is None else head.low[kept]
        high = value if head.high is None else head.high[kept]
        values = np.column_stack([value, value**2, value - low, high - value])
    given = ~np.isnan(values).any(axis=1)
    weight = weights[kept[given]]
    return kept[given], np.column_stack([weight, weight**2, weight[:, None] * values[given]])


def _verdict(mean: dict[str, float], threshold: float) -> Verdict:
    label = max(mean, key=lambda name: mean[name])
    return Verdict(label=label if mean[label] >= threshold else UNKNOWN, confidence=mean[label])


def _age(columns: Floats) -> Age:
    """Return the weighted mean age; its interval never narrows with more faces, and widens where they disagree.

    The frames of one person share most of their error, so many of them are little more evidence than one. Disagreement
    that the faces' own intervals do not explain adds its standard error.
    """
    weight, squared_weight = columns[:2].tolist()
    mean, square, below, above = (columns[2:] / weight).tolist()
    effective_count = weight**2 / squared_weight
    spread = _SIGMAS_OF_80_PERCENT * float(np.sqrt(max(square - mean**2, 0.0) / effective_count))
    return Age(
        value=mean, low=max(mean - float(np.hypot(below, spread)), 0.0), high=mean + float(np.hypot(above, spread))
    )


def _direction(total: Floats) -> NDArray[np.float32]:
    length = float(np.linalg.norm(total))
    direction: NDArray[np.float32] = (total / length if length > 0 else total).astype(np.float32)
    return direction
