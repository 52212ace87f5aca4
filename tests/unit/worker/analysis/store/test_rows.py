"""Rows of faces and predictions, as they are built before PostgreSQL sees them."""

from __future__ import annotations

import numpy as np
import pytest

from worker.analysis.store.rows import _face_numbers


@pytest.mark.parametrize(
    ("frames", "numbers"),
    [([], []), ([4], [0]), ([0, 0, 0], [0, 1, 2]), ([2, 2, 5, 7, 7, 7], [0, 1, 0, 0, 1, 2])],
)
def test_the_faces_of_a_frame_are_numbered_from_zero(frames, numbers):
    assert _face_numbers(np.array(frames, np.int64)) == numbers
