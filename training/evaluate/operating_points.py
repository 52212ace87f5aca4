"""Ethnicity as a multi-label answer: a threshold for each label, chosen on validation faces and kept in the release.

Where the most probable label would be a guess, a face may get two labels, or none. The threshold of a label is the
lowest one that at most a stated share of the validation faces of other labels exceeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.data.face_sets import UNKNOWN
from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import measure_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.types import HeadOutput
    from training.data.face_sets import People

TASK = "ethnicity, label by label"


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
    rows = [
        Row(faces.name, TASK, "left without a label", measure_mean(~given.any(axis=1))),
        Row(faces.name, TASK, "given several labels", measure_mean(given.sum(axis=1) > 1)),
    ]
    for label, name in enumerate(head.labels):
        own = truth == label
        rows.append(Row(faces.name, TASK, "true positives", measure_mean(given[own, label]), name))
        rows.append(Row(faces.name, TASK, "false positives", measure_mean(given[~own, label]), name))
    return Findings(rows=tuple(rows))
