"""Each head's main figures on degraded copies of crops, and their mean over all copies.

All copies show the same faces: each takes one pass for all heads. Intervals of the mean over copies resample faces with
all of their copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.data.degradations import COPIES, degraded_copy
from training.data.face_sets import GENDERS, UNKNOWN
from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import measure_mean
from training.evaluate.outcomes import Outcomes
from training.evaluate.recalls import BALANCED, balanced_outcomes
from training.evaluate.robustness.consistency import CONTRADICTIONS, contradictions
from training.evaluate.scores import COVERAGE, emotion_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from models.types import HeadOutput
    from training.data.face_sets import CelebA, FaceSet, Fer2013, People

    Heads = Mapping[str, HeadOutput]

DEGRADED, BY_COPY = ", degraded", ", by degradation"  # behind the name of a task


@dataclass(frozen=True, slots=True)
class FaceValues:
    """The values of M of N faces whose mean is a figure."""

    task: str
    measure: str
    rows: NDArray[np.int64]
    """(M,) rows of the faces that have a label."""
    values: NDArray[np.generic]
    """(M,) right or wrong, or an error."""
    higher_is_better: bool = True


def people_values(heads: Heads, faces: People) -> Iterator[FaceValues]:
    """Yield the main figures of gender, ethnicity and age."""
    for task, truth in (("gender", faces.gender), ("ethnicity", faces.ethnicity)):
        if task in heads:
            yield from _class_values(task, heads[task], truth)
    if "age" in heads and np.isfinite(faces.age).any():
        rows, head = np.flatnonzero(np.isfinite(faces.age)), heads["age"]
        years, value = faces.age[rows], np.asarray(head.value, dtype=np.float32)[rows]
        yield FaceValues("age", "mean absolute error", rows, np.abs(value - years), higher_is_better=False)
        if head.low is not None and head.high is not None:
            held = (head.low.numpy()[rows] <= years) & (years <= head.high.numpy()[rows])
            yield FaceValues("age", COVERAGE, rows, held)
    yield from _contradiction_values(heads)


def emotion_values(heads: Heads, faces: Fer2013) -> Iterator[FaceValues]:
    """Yield the main figures of `emotion` against FER+'s majority, and of `emotion7` against FER2013's labels."""
    if "emotion" in heads:
        yield from _class_values("emotion", heads["emotion"], faces.majority)
    if "emotion7" in heads:
        yield from _class_values("emotion7", heads["emotion7"], emotion_numbers(heads["emotion7"])[faces.original])


def attribute_values(heads: Heads, faces: CelebA) -> Iterator[FaceValues]:
    """Yield the main figures of attributes, and of gender against `Male`."""
    rows = np.arange(len(faces))
    if "attributes" in heads:
        head = heads["attributes"]
        shared = [name for name in faces.names if name in head.labels]
        given = head.probabilities.numpy()[:, [head.labels.index(name) for name in shared]] > 0.5
        truth = faces.attributes[:, [faces.names.index(name) for name in shared]] > 0.5
        yield FaceValues("attributes", "mean accuracy", rows, (given == truth).mean(axis=1))
    if "gender" in heads and "Male" in faces.names:
        labels = heads["gender"].labels
        number = np.array([labels.index(name) for name in reversed(GENDERS)])
        male = (faces.attributes[:, faces.names.index("Male")] > 0.5).astype(int)
        yield from _class_values("gender", heads["gender"], number[male])
    yield from _contradiction_values(heads)


def _class_values(task: str, head: HeadOutput, truth: NDArray[np.int64]) -> Iterator[FaceValues]:
    rows = np.flatnonzero(truth != UNKNOWN)
    if len(rows):
        correct = head.probabilities.numpy()[rows].argmax(axis=1) == truth[rows]
        yield FaceValues(task, "accuracy", rows, correct)
        yield FaceValues(task, BALANCED, rows, balanced_outcomes(correct, truth[rows]))


def _contradiction_values(heads: Heads) -> Iterator[FaceValues]:
    for one in contradictions(heads):
        yield FaceValues(one.task, CONTRADICTIONS, np.arange(len(one.found)), one.found, higher_is_better=False)


def degraded_findings(
    infer: Callable[[NDArray[np.uint8]], Heads],
    crops: NDArray[np.uint8],
    faces: FaceSet,
    values: Callable[[Heads], Iterator[FaceValues]],
) -> Findings:
    """Measure N faces on each of COPIES.

    Args:
        infer: gives the answers for (N, 3, S, S) crops.
        crops: (N, 3, S, S) of the faces.
        faces: the N faces.
        values: gives the main figures of answers for them.
    """
    if len(faces) == 0:
        return Findings()
    pixels = torch.from_numpy(np.array(crops))
    found = [list(values(infer(degraded_copy(pixels, name).numpy()))) for name in COPIES]
    return Findings.join([_figure_findings(faces, copies) for copies in zip(*found, strict=True)])


def _figure_findings(faces: FaceSet, copies: tuple[FaceValues, ...]) -> Findings:
    """Return one figure on each copy, and its mean over all copies."""
    first, values = copies[0], np.stack([one.values.astype(np.float64) for one in copies])
    place = (faces.name, first.task + DEGRADED, first.measure)
    apart = (faces.name, first.task + BY_COPY, first.measure)
    files = faces.files[first.rows].tolist()
    number = np.repeat(np.arange(len(copies)), len(files))
    members = {name: number == row for row, name in enumerate(COPIES)}
    rows = [Row(*apart, measure_mean(of_copy), name) for name, of_copy in zip(COPIES, values, strict=True)]
    better = {"higher_is_better": first.higher_is_better}
    return Findings(
        rows=(Row(*place, measure_mean(values.mean(axis=0))), *rows),
        outcomes=(
            Outcomes.of(place, values.mean(axis=0), files, {}, **better),
            Outcomes.of(apart, values.ravel(), [f"{file} {n}" for n in COPIES for file in files], members, **better),
        ),
    )
