"""Rows of faces and predictions, as they are built before PostgreSQL sees them."""

from __future__ import annotations

import numpy as np
import pytest

from worker.analysis.store.rows import _face_numbers, _prediction
from worker.types import HeadRows


@pytest.mark.parametrize(
    ("frames", "numbers"),
    [([], []), ([4], [0]), ([0, 0, 0], [0, 1, 2]), ([2, 2, 5, 7, 7, 7], [0, 1, 0, 0, 1, 2])],
)
def test_the_faces_of_a_frame_are_numbered_from_zero(frames, numbers):
    assert _face_numbers(np.array(frames, np.int64)) == numbers


def test_a_prediction_below_its_threshold_is_unknown_and_keeps_its_confidence():
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    given = HeadRows(("male", "female"), probabilities, abstains=np.array([False, True]))
    assert _prediction("gender", given, 0) == ("female", None, None, None, 0.75, [0.25, 0.75], None)
    assert _prediction("gender", given, 1) == ("unknown", None, None, None, 0.5, [0.5, 0.5], None)
    assert _prediction("gender", HeadRows(("male", "female"), probabilities), 1)[0] == "male"


def test_a_prediction_of_attributes_or_of_an_age_has_no_label():
    attributes = HeadRows(("hat", "beard"), np.array([[0.123456, 0.75]], np.float32))
    assert _prediction("attributes", attributes, 0)[5:] == (
        [pytest.approx(0.123456), 0.75], '{"hat": 0.1235, "beard": 0.75}'
    )  # fmt: skip
    years = HeadRows((), np.zeros((1, 0), np.float32), *np.array([[30], [25], [36]], np.float32))
    assert _prediction("age", years, 0) == (None, 30.0, 25.0, 36.0, None, [], None)
