"""Recall of each class, and their mean: accuracy that does not follow how often the classes occur."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import balanced_accuracy, measure, measure_mean
from training.evaluate.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RECALL = "recall"
BALANCED = "balanced accuracy"
# Faces of a class below which a figure that depends on its recall is printed with their number beside it.
FEW_FACES = 20


def recall_findings(
    place: tuple[str, str, str],
    labels: Sequence[str],
    predicted: NDArray[np.int64],
    truth: NDArray[np.int64],
    files: Sequence[str],
) -> Findings:
    """Measure the recall of each class that occurs, as a group of the measure RECALL, and their mean.

    Args:
        place: data, task, and the name of the mean, such as BALANCED.
        labels: names of the classes.
        predicted: (N,) answers, as numbers of classes.
        truth: (N,) numbers of the true classes.
        files: (N,) names of the faces.
    """
    if len(truth) == 0:
        return Findings()
    correct = predicted == truth
    members = {str(labels[number]): truth == number for number in np.unique(truth)}
    recall = (*place[:2], RECALL)
    rows = [Row(*recall, measure_mean(correct[own]), name) for name, own in members.items()]
    balanced = Outcomes.of(place, balanced_outcomes(correct, truth), files, {}, higher_is_better=True)
    return Findings(
        rows=(Row(*place, measure(balanced_accuracy, predicted, truth)), *rows),
        outcomes=(balanced, Outcomes.of(recall, correct, files, members, higher_is_better=True)),
    )


def balanced_outcomes(correct: NDArray[np.bool_], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (N,) values whose mean is the balanced accuracy, and whose spread is that of the recalls.

    A face counts by its distance from the recall of its class, less, the more of its class there are (the influence
    of a face on the mean recall). So resamples of faces do not vary by how many of a class they happen to draw.
    """
    _, number, counts = np.unique(truth, return_inverse=True, return_counts=True)
    recalls = np.bincount(number, weights=correct) / counts
    weight = len(truth) / (len(counts) * counts)
    return np.asarray(recalls.mean() + weight[number] * (correct - recalls[number]), dtype=np.float64)
