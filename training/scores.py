"""Rows of figures from what a release says of labelled faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.data import EMOTIONS, ETHNICITIES, GENDERS, UNKNOWN
from training.metrics import (
    Figure,
    accuracy,
    balanced_accuracy,
    balanced_column_accuracy,
    calibration_error,
    coverage,
    mean_absolute_error,
    mean_column_accuracy,
    measure,
    root_mean_square_error,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from models.types import HeadOutput
    from training.data import CelebA, Fer2013, UtkFace

AGE_BANDS = (("0-17", 0, 18), ("18-39", 18, 40), ("40-59", 40, 60), ("60+", 60, 200))
"""Name, first year and first year of the next: minors, then bands with some hundred test faces each."""
MULTI_LABEL_DRAWS = 200
"""Bootstrap resamples of the forty attributes, whose statistic is forty times as long."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure and what it is of."""

    data: str
    task: str
    measure: str
    figure: Figure
    group: str = "all"
    """'all', or the values of gender, ethnicity and age band, such as 'female / Asian / 18-39'."""


def class_rows(data: str, task: str, head: HeadOutput, truth: NDArray[np.int64]) -> list[Row]:
    """Accuracy, balanced accuracy, calibration, and what abstention does, of a head with K classes.

    Args:
        data: name of the data set.
        task: name of the task.
        head: N answers.
        truth: (N,) class numbers, UNKNOWN where there is none: these rows are left out.
    """
    known = truth != UNKNOWN
    probabilities = head.probabilities.numpy()[known]
    truth = truth[known]
    said, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct = said == truth
    rows = [
        Row(data, task, "accuracy", measure(accuracy, said, truth)),
        Row(data, task, "balanced accuracy", measure(balanced_accuracy, said, truth)),
        Row(data, task, "calibration error", measure(calibration_error, confidence, correct)),
    ]
    if head.abstains is not None:
        answered = ~head.abstains.numpy()[known]
        rows.append(Row(data, task, "answered", measure(np.mean, answered)))
        rows.append(Row(data, task, "accuracy of answers", measure(np.mean, correct[answered])))
    return rows


def age_rows(data: str, head: HeadOutput, years: NDArray[np.float32]) -> list[Row]:
    """Errors of the age in years, and how often the 80 % interval holds it."""
    value = _column(head.value)
    rows = [
        Row(data, "age", "mean absolute error", measure(mean_absolute_error, value, years)),
        Row(data, "age", "root mean square error", measure(root_mean_square_error, value, years)),
    ]
    if head.low is not None and head.high is not None:
        inside = measure(coverage, head.low.numpy(), head.high.numpy(), years)
        rows.append(Row(data, "age", "80 % interval holds it", inside))
    return rows


def _column(values: object) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def utkface_rows(heads: dict[str, HeadOutput], faces: UtkFace) -> list[Row]:
    """Gender, ethnicity and age on UTKFace, for all faces and by group."""
    rows: list[Row] = []
    if "gender" in heads:
        rows += class_rows(faces.name, "gender", heads["gender"], faces.gender)
    if "ethnicity" in heads:
        rows += class_rows(faces.name, "ethnicity", heads["ethnicity"], faces.ethnicity)
    if "age" in heads:
        rows += age_rows(faces.name, heads["age"], faces.age)
    return rows + [row for group, members in groups(faces) for row in _group_rows(heads, faces, group, members)]


def groups(faces: UtkFace) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each gender, ethnicity, age band and each combination of the three that occurs, with its members."""
    bands = {name: (faces.age >= first) & (faces.age < end) for name, first, end in AGE_BANDS}
    genders = {name: faces.gender == number for number, name in enumerate(GENDERS)}
    ethnicities = {name: faces.ethnicity == number for number, name in enumerate(ETHNICITIES)}
    for single in (genders, ethnicities, bands):
        yield from ((name, members) for name, members in single.items() if members.any())
    for gender, of_gender in genders.items():
        for ethnicity, of_both in ethnicities.items():
            for band, of_band in bands.items():
                members = of_gender & of_both & of_band
                if members.any():
                    yield f"{gender} / {ethnicity} / {band}", members


def _group_rows(heads: dict[str, HeadOutput], faces: UtkFace, group: str, members: NDArray[np.bool_]) -> Iterator[Row]:
    for task, truth in (("gender", faces.gender), ("ethnicity", faces.ethnicity)):
        if task in heads:
            said = heads[task].probabilities.numpy().argmax(axis=1)
            yield Row(faces.name, task, "accuracy", measure(accuracy, said[members], truth[members]), group)
    if "age" in heads:
        value = _column(heads["age"].value)[members]
        yield Row(
            faces.name, "age", "mean absolute error", measure(mean_absolute_error, value, faces.age[members]), group
        )


def fer_rows(head: HeadOutput, faces: Fer2013) -> list[Row]:
    """Emotion against FER+'s majority, and against FER2013's own seven labels, derived from the eight."""
    rows = class_rows("ferplus", "emotion", head, faces.majority)
    seven = [EMOTIONS.index(name) for name in EMOTIONS if name != "contempt"]
    said = np.array(seven)[head.probabilities.numpy()[:, seven].argmax(axis=1)]
    rows.append(Row("fer2013", "emotion", "accuracy of seven", measure(accuracy, said, faces.original)))
    rows.append(
        Row("fer2013", "emotion", "balanced accuracy of seven", measure(balanced_accuracy, said, faces.original))
    )
    return rows


def celeba_rows(head: HeadOutput, faces: CelebA) -> list[Row]:
    """Mean accuracy over the attributes that the release and the data set share, and each one's."""
    shared = [name for name in faces.names if name in head.labels]
    probabilities = head.probabilities.numpy()[:, [head.labels.index(name) for name in shared]]
    truth = faces.attributes[:, [faces.names.index(name) for name in shared]]
    draws = MULTI_LABEL_DRAWS
    rows = [
        Row(faces.name, "attributes", "mean accuracy", measure(mean_column_accuracy, probabilities, truth)),
        Row(
            faces.name,
            "attributes",
            "mean balanced accuracy",
            measure(balanced_column_accuracy, probabilities, truth, draws=draws),
        ),
    ]
    return rows + _attribute_rows(faces.name, shared, probabilities, truth)


def _attribute_rows(
    data: str, names: Sequence[str], probabilities: NDArray[np.float32], truth: NDArray[np.float32]
) -> list[Row]:
    said, yes = probabilities > 0.5, truth > 0.5
    return [
        Row(data, "attributes", "accuracy", measure(accuracy, said[:, k], yes[:, k], draws=MULTI_LABEL_DRAWS), name)
        for k, name in enumerate(names)
    ]
