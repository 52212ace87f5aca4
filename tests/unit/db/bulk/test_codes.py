"""Scores and landmarks in 16 bits: how much of them comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from db.bulk import codes

LOGITS = arrays(np.float32, (3, 5), elements=st.floats(-14, 14, width=32))


def log_softmax(logits):
    wide = logits.astype(np.float64)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


@given(LOGITS)
def test_log_probabilities_come_back_within_half_a_step(logits):
    found = codes.decode_softmax(codes.encode_softmax(logits))
    assert found == pytest.approx(log_softmax(logits), abs=0.5 / 2048 + 1e-5)


@given(LOGITS)
def test_what_was_decoded_is_encoded_to_itself(logits):
    """Scores that are read again and stored again do not wander."""
    once = codes.encode_multilabel(logits)
    assert np.array_equal(codes.encode_multilabel(codes.decode_multilabel(once)), once)


@given(LOGITS)
def test_logits_come_back_within_half_a_step(logits):
    assert codes.decode_multilabel(codes.encode_multilabel(logits)) == pytest.approx(logits, abs=0.5 / 1024 + 1e-5)


def test_codes_of_known_scores():
    assert codes.encode_softmax(np.log([[0.5, 0.5], [1 / 3, 2 / 3]])).tolist() == [[1420, 1420], [2250, 830]]
    assert codes.encode_multilabel(np.array([[0.0, 1.0, -2.5]])).tolist() == [[32768, 33792, 30208]]
    assert codes.to_bytes(np.array([[1, 65535]], np.uint16)) == [b"\x00\x01\xff\xff"]


def test_extremes_are_clipped():
    with np.errstate(divide="ignore"):
        assert codes.encode_softmax(np.log([[0.0, 1.0]])).tolist() == [[65535, 0]]
    assert codes.encode_multilabel(np.array([[-99.0, 99.0]])).tolist() == [[0, 65535]]
    assert codes.encode_probabilities(np.array([[0.0, 0.5, 1.0]])).tolist() == [[0, 32768, 65535]]


BOXES = arrays(np.float32, (4, 4), elements=st.floats(0, 4000, width=32))


@given(BOXES, arrays(np.float64, (4, 5, 2), elements=st.floats(-0.99, 2.99)))
def test_landmarks_come_back_within_a_part_of_the_box(corners, relative):
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    start, side = boxes[:, None, :2].astype(np.float64), (boxes[:, None, 2:] - boxes[:, None, :2]).astype(np.float64)
    side = np.where(side > 0, side, 1)
    landmarks = start + relative * side
    found = codes.decode_landmarks(codes.encode_landmarks(landmarks, boxes), boxes)
    assert found.shape == (4, 5, 2)
    assert (np.abs(found - landmarks) <= side / 32768 + 1e-3).all()


def test_landmarks_far_from_their_box_are_clipped():
    box = np.array([[10.0, 20.0, 30.0, 60.0]])
    far = np.full((1, 5, 2), 1000.0)
    assert codes.decode_landmarks(codes.encode_landmarks(far, box), box)[0, 0] == pytest.approx([70, 140], abs=0.01)


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="expected 6"):
        codes.from_bytes([b"\x00\x01"], 3)
    assert codes.from_bytes([], 3).shape == (0, 3)
