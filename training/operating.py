"""Ethnicity as a multi-label answer: a threshold for each label, chosen on validation faces.

Where the one most probable label would be a guess, a face may get two labels, or none. A label's threshold is the
lowest at which at most MOST_FALSE of the validation faces of other labels get it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.data import UNKNOWN
from training.findings import Findings, Row
from training.metrics import measure_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.types import HeadOutput
    from training.data import People

MOST_FALSE = 0.05
"""Share of the validation faces of other labels that may get a label."""
TASK = "ethnicity, label by label"


def thresholds(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float32]:
    """Choose each label's threshold.

    Args:
        probabilities: (N, K) of validation faces.
        truth: (N,) their labels, all known.

    Returns:
        (K,) probability above which the label is given.
    """
    others = [np.sort(probabilities[truth != label, label])[::-1] for label in range(probabilities.shape[1])]
    return np.array([column[int(MOST_FALSE * len(column))] if len(column) else 0.5 for column in others], np.float32)


def operating_point(head: HeadOutput, faces: People, judged: HeadOutput, judging: People) -> Findings:
    """Measure label by label, with thresholds from other faces.

    Args:
        head: answers for the measured faces.
        faces: these.
        judged: answers for the faces on which thresholds are chosen.
        judging: these.
    """
    known, fit = faces.ethnicity != UNKNOWN, judging.ethnicity != UNKNOWN
    if not known.any() or not fit.any():
        return Findings()
    limits = thresholds(judged.probabilities.numpy()[fit], judging.ethnicity[fit])
    given = head.probabilities.numpy()[known] > limits
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
