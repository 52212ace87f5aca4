"""Checks of heads on sets whose labels they have not learnt: gender and smiles of other people's photos."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from training.data.face_sets import EMOTIONS, GENDERS, UNKNOWN
from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import Figure, balanced_accuracy, measure, measure_mean
from training.evaluate.outcomes import Outcomes
from training.evaluate.recalls import BALANCED
from training.evaluate.scores import class_findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.types import HeadOutput
    from training.data.face_sets import CelebA, FaceSet

SMILE_TASK = "happiness as Smiling"
_SMILE = EMOTIONS[1]


def photo_findings(heads: Mapping[str, HeadOutput], faces: CelebA) -> Findings:
    """Compare gender with CelebA's `Male`, and happiness as the most probable emotion with its `Smiling`."""
    parts = []
    if "gender" in heads and "Male" in faces.names:
        head = heads["gender"]
        numbers = np.array([head.labels.index(name) for name in reversed(GENDERS)])
        parts.append(
            class_findings(faces.name, "gender", head, numbers[_column(faces, "Male").astype(int)], (faces, {}))
        )
    emotion = heads.get("emotion", heads.get("emotion7"))
    if emotion is not None and "Smiling" in faces.names:
        parts.append(_smile_findings(emotion, faces))
    return Findings.join(parts)


def _column(faces: CelebA, name: str) -> NDArray[np.bool_]:
    return np.asarray(faces.attributes[:, faces.names.index(name)] > 0.5)


def _smile_findings(head: HeadOutput, faces: CelebA) -> Findings:
    smiles = _column(faces, "Smiling")
    found = head.probabilities.numpy().argmax(axis=1) == head.labels.index(_SMILE)
    place = (faces.name, SMILE_TASK, "accuracy")
    correct = found == smiles
    rows = (
        Row(*place, measure_mean(correct)),
        Row(faces.name, SMILE_TASK, BALANCED, measure(balanced_accuracy, found, smiles)),
    )
    outcome = Outcomes.of(place, correct, faces.files.tolist(), {}, higher_is_better=True)
    return Findings(rows=rows, outcomes=(outcome,))


def lfw_gender_findings(heads: Mapping[str, HeadOutput], faces: FaceSet, gender_of: Mapping[str, int]) -> Findings:
    """Measure gender on the people of LFW; intervals resample people, whose images resemble each other.

    Args:
        heads: answers for N faces.
        faces: the N faces, in a folder for each person.
        gender_of: index into GENDERS by name of the person; others are left out.
    """
    people = np.array([PurePosixPath(name).parent.name for name in faces.files.tolist()], dtype=np.str_)
    truth = np.array([gender_of.get(name, UNKNOWN) for name in people.tolist()], dtype=np.int64)
    known = truth != UNKNOWN
    if "gender" not in heads or not known.any():
        return Findings()
    head = heads["gender"]
    numbers = np.array([head.labels.index(name) for name in GENDERS])
    correct = (head.probabilities.numpy().argmax(axis=1)[known] == numbers[truth[known]]).astype(np.float64)
    rows = [
        Row("lfw", "gender", "accuracy", _over_people(correct, people[known])),
        Row("lfw", "gender", BALANCED, _balanced_over_people(correct, people[known], truth[known])),
    ]
    for number, name in enumerate(GENDERS):
        own = truth[known] == number
        if own.any():
            rows.append(Row("lfw", "gender", "accuracy", _over_people(correct[own], people[known][own]), name))
    return Findings(rows=tuple(rows))


def _balanced_over_people(correct: NDArray[np.float64], people: NDArray[np.str_], truth: NDArray[np.int64]) -> Figure:
    """Average the recalls of the genders of N faces; the interval resamples people, who have one gender each."""
    _, first, number, faces = np.unique(people, return_index=True, return_inverse=True, return_counts=True)
    sums = np.bincount(number, weights=correct)

    def mean_recall(total: NDArray[np.float64], count: NDArray[np.int64], gender: NDArray[np.int64]) -> float:
        return float(np.mean([total[gender == one].sum() / count[gender == one].sum() for one in np.unique(gender)]))

    found = measure(mean_recall, sums, faces, truth[first])
    return Figure(found.value, found.low, found.high, len(correct))


def _over_people(values: NDArray[np.float64], people: NDArray[np.str_]) -> Figure:
    """Average N values of faces; the interval resamples people with all of their faces."""
    _, number, faces = np.unique(people, return_inverse=True, return_counts=True)
    sums = np.bincount(number, weights=values)
    found = measure(lambda total, count: float(total.sum() / count.sum()), sums, faces)
    return Figure(found.value, found.low, found.high, len(values))
