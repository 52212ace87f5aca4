"""Ethnicity as a multi-label answer: a threshold for each label, chosen on validation faces and kept in the release.

Where the most probable label would be a guess, a face may get two labels, or none. The threshold of a label is the
lowest one that at most a stated share of the validation faces of other labels exceeds.

Published work states one operating point over all labels: the shares of true and of false labels that are given with
one threshold for all, where 1 % of the false ones are given. It needs no validation rows here: as in LFW's View 2, ten
folds of the measured faces are each judged by the threshold that the nine others choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.data.face_sets import UNKNOWN
from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import measure_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from models.types import HeadOutput
    from training.data.face_sets import People

TASK = "ethnicity, label by label"
SHARED_TASK = "ethnicity, label by label at 1 % false"
TRUE_POSITIVES, FALSE_POSITIVES = "true positives", "false positives"
SHARED_FALSE = 0.01
FOLDS = 10


def thresholds(probabilities: NDArray[np.float32], truth: NDArray[np.int64], max_false: float) -> NDArray[np.float32]:
    """Choose the threshold of each label.

    Args:
        probabilities: (N, K) of validation faces.
        truth: (N,) their labels, all known.
        max_false: share of the faces of other labels that may get a label.

    Returns:
        (K,) probability above which the label is given.
    """
    others = [np.sort(probabilities[truth != label, label])[::-1] for label in range(probabilities.shape[1])]
    return np.array([column[int(max_false * len(column))] if len(column) else 0.5 for column in others], np.float32)


def operating_point(head: HeadOutput, faces: People, limits: Sequence[float]) -> Findings:
    """Measure label by label; the result is empty where no face has a label or the release has no thresholds.

    Args:
        head: answers for N faces.
        faces: the N faces with their labels.
        limits: the threshold of each label.
    """
    known = faces.ethnicity != UNKNOWN
    if not known.any() or not limits:
        return Findings()
    given = head.probabilities.numpy()[known] > np.array(limits, np.float32)
    truth = faces.ethnicity[known]
    rows = list(_overall_rows(faces.name, TASK, given, truth))
    for label, name in enumerate(head.labels):
        own = truth == label
        rows.append(Row(faces.name, TASK, TRUE_POSITIVES, measure_mean(given[own, label]), name))
        rows.append(Row(faces.name, TASK, FALSE_POSITIVES, measure_mean(given[~own, label]), name))
    return Findings(rows=tuple(rows))


def shared_operating_point(head: HeadOutput, faces: People, max_false: float = SHARED_FALSE) -> Findings:
    """Measure all labels together with one threshold, which is chosen on other folds; empty for fewer faces than folds.

    Args:
        head: answers for N faces.
        faces: the N faces with their labels.
        max_false: share of the pairs of a face and a label of others that may be given.
    """
    known = np.flatnonzero(faces.ethnicity != UNKNOWN)
    if len(known) < FOLDS:
        return Findings()
    probabilities, truth = head.probabilities.numpy()[known], faces.ethnicity[known]
    given = np.zeros(probabilities.shape, dtype=np.bool_)
    for fold in range(FOLDS):
        own = np.arange(len(known)) % FOLDS == fold
        others = probabilities[~own][np.arange(len(head.labels)) != truth[~own][:, None]]
        given[own] = probabilities[own] > np.sort(others)[::-1][int(max_false * len(others))]
    return Findings(rows=tuple(_overall_rows(faces.name, SHARED_TASK, given, truth)))


def _overall_rows(data: str, task: str, given: NDArray[np.bool_], truth: NDArray[np.int64]) -> Iterator[Row]:
    """Yield the shares over all labels together: (N, K) labels given, (N,) true labels."""
    faces, labels = given.shape
    right = given[np.arange(faces), truth]
    yield Row(data, task, TRUE_POSITIVES, measure_mean(right))
    yield Row(data, task, FALSE_POSITIVES, measure_mean((given.sum(axis=1) - right) / max(labels - 1, 1)))
    yield Row(data, task, "left without a label", measure_mean(given.sum(axis=1) == 0))
    yield Row(data, task, "given several labels", measure_mean(given.sum(axis=1) > 1))
