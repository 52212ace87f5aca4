"""Rows of faces and predictions, as they are built before PostgreSQL sees them."""

from __future__ import annotations

import numpy as np
import pytest

from worker.analysis.store.face_rows import _face_numbers, answers
from worker.types import HeadRows


@pytest.mark.parametrize(
    ("frames", "numbers"),
    [([], []), ([4], [0]), ([0, 0, 0], [0, 1, 2]), ([2, 2, 5, 7, 7, 7], [0, 1, 0, 0, 1, 2])],
)
def test_the_faces_of_a_frame_are_numbered_from_zero(frames, numbers):
    assert _face_numbers(np.array(frames, np.int64)).tolist() == numbers


def given(head, rows=(0, 1)):
    found = answers([(head, np.array(rows))])
    return {name: value for name, value in found.items() if value is not None}


def test_a_prediction_below_its_threshold_is_unknown_and_keeps_its_confidence():
    probabilities, codes = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32), np.array([[9, 8], [7, 6]], np.uint16)
    unsure = HeadRows(("male", "female"), probabilities, abstains=np.array([False, True]), codes=codes)
    found = given(unsure)
    assert found["label"] == ["female", "unknown"]
    assert found["confidence"].tolist() == [0.75, 0.5]
    assert found["scores"].tolist() == codes.tolist()
    assert given(HeadRows(("male", "female"), probabilities, codes=codes))["label"] == ["female", "male"]


def test_a_prediction_of_several_labels_or_of_an_age_has_no_label():
    codes = np.array([[1, 2]], np.uint16)
    shares = np.array([[0.125, 0.75]], np.float32)
    gestures = HeadRows(("wink", "kiss"), shares, codes=codes, is_multi_label=True)
    assert given(gestures, (0,)).keys() == {"scores"}
    years = HeadRows((), np.zeros((1, 0), np.float32), *np.array([[30], [25], [36]], np.float32), codes=codes)
    found = given(years, (0,))
    assert found.keys() == {"scores", "value", "low", "high"}
    assert (found["value"], found["low"], found["high"]) == (30, 25, 36)
