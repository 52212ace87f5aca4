"""The measures that two releases are compared by, and which of two values is the better one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.evaluate.recalls import BALANCED, RECALL
from training.evaluate.robustness.consistency import CONTRADICTIONS
from training.evaluate.robustness.pair_rates import RATES, true_positives_name
from training.evaluate.scores import COVERAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

ERRORS = ("mean absolute error", CONTRADICTIONS)  # measures of which smaller values are better
# Measures that are compared, of every task.
JUDGED = (
    "accuracy",
    "mean accuracy",
    "accuracy of seven",
    BALANCED,
    f"{BALANCED} of seven",
    RECALL,
    COVERAGE,
    *(true_positives_name(rate) for rate in RATES),
    *ERRORS,
)
# An interval of 80 % is as good as can be as long as it holds 77 to 83 % of the ages.
_COVERED, _TOLERANCE = 0.8, 0.03


def merit(measure: str, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how good means of a measure are, in its unit: larger is better.

    Shares are their own merit and errors count negative. Of the interval's coverage the distance from the allowed
    range counts, negative: an interval that holds too much is as wrong as one that holds too little.
    """
    if measure == COVERAGE:
        return -np.maximum(np.abs(means - _COVERED) - _TOLERANCE, 0.0)
    return -means if measure in ERRORS else means
