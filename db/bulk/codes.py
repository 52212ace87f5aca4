"""Scores and landmarks as 16-bit codes: the stored form of what a head computed, and of five points of a face.

    softmax, age   ``round(-ln p * 2048)``, where p is the softmax of the logits at temperature 1
    multilabel     ``round(logit * 1024) + 32768``, before the temperature
    landmarks      ``round((v - start) / length * 16384) + 16384``, along the sides of the box

All are clipped to 0..65535 and stored as big-endian uint16 in a ``bytea``. The views decode them by the functions of
``db/schema/views.sql``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOG_STEPS = 2048  # codes for one unit of ln p: 1/4096 is the greatest error, so 0.03 % of a probability
LOGIT_STEPS = 1024  # codes for one unit of a logit: the greatest error is 1.3e-4 of a probability
LOGIT_ZERO = 32768  # the code of logit 0; 0..65535 are logits of -32 to 32
BOX_STEPS = 16384  # codes for the length of a box: from one length before it to two lengths behind it
MAX_CODE = 65535
_WIRE = np.dtype(">u2")


def encode_softmax(logits: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Return the codes of a softmax or age head.

    Args:
        logits: (N, K) before the temperature; log probabilities at temperature 1 are logits, too.

    Returns:
        (N, K). A probability below e**-32 has the greatest code.
    """
    wide = np.asarray(logits, np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True, initial=-np.inf)
    surprise = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted
    return _clipped(surprise * LOG_STEPS)


def decode_softmax(codes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return (N, K) logits of a softmax or age head: log probabilities that sum to 1 within rounding.

    Args:
        codes: (N, K) of `encode_softmax`.
    """
    return codes.astype(np.float32) / np.float32(-LOG_STEPS)


def encode_multilabel(logits: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Return the (N, K) codes of a multilabel head.

    Args:
        logits: (N, K) before the temperature; those beyond -32 and 32 are clipped.
    """
    return _clipped(np.asarray(logits, np.float64) * LOGIT_STEPS + LOGIT_ZERO)


def decode_multilabel(codes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return (N, K) logits of a multilabel head.

    Args:
        codes: (N, K) of `encode_multilabel`.
    """
    return (codes.astype(np.float32) - LOGIT_ZERO) / np.float32(LOGIT_STEPS)


def encode_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Return the codes of probabilities that stand alone, such as the mean attributes of an appearance.

    They are the multilabel codes of their logits, to be decoded at temperature 1.

    Args:
        probabilities: (N, K), 0..1.
    """
    wide = np.asarray(probabilities, np.float64)
    with np.errstate(divide="ignore"):
        return encode_multilabel(np.log(wide) - np.log1p(-wide))


def encode_landmarks(landmarks: NDArray[np.floating], boxes: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Return the codes of five points, relative to the box of their face.

    Args:
        landmarks: (N, 5, 2) x and y, pixels.
        boxes: (N, 4) x1, y1, x2, y2, pixels, as they are stored.

    Returns:
        (N, 10) x then y of each point; the error is at most 1/32768 of a side of the box. Points more than one length
        before the box or two behind it are clipped.
    """
    start, length = _sides(boxes)
    relative = (np.asarray(landmarks, np.float64) - start) / length
    return _clipped(relative * BOX_STEPS + BOX_STEPS).reshape(len(boxes), 10)


def decode_landmarks(codes: NDArray[np.uint16], boxes: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return (N, 5, 2) float32 points, pixels.

    Args:
        codes: (N, 10) of `encode_landmarks`.
        boxes: (N, 4) x1, y1, x2, y2, pixels.
    """
    start, length = _sides(boxes)
    relative = (codes.reshape(-1, 5, 2).astype(np.float64) - BOX_STEPS) / BOX_STEPS
    return (start + relative * length).astype(np.float32)


def to_bytes(codes: NDArray[np.uint16]) -> list[bytes]:
    """Return the stored form of each row.

    Args:
        codes: (N, K).
    """
    return [row.tobytes() for row in codes.astype(_WIRE)]


def from_bytes(stored: list[bytes], length: int) -> NDArray[np.uint16]:
    """Return (N, length) codes.

    Args:
        stored: N rows.
        length: codes of each row.

    Raises:
        ValueError: a row has another length.
    """
    sizes = {len(row) for row in stored} - {2 * length}
    if sizes:
        raise ValueError(f"codes of {min(sizes)} bytes; expected {2 * length}, two for each of {length}")
    return codes_of(b"".join(stored), length)


def codes_of(stored: bytes, length: int) -> NDArray[np.uint16]:
    """Return the (N, length) codes of rows that stand one behind the other."""
    return np.frombuffer(stored, _WIRE).astype(np.uint16).reshape(-1, length)


def _sides(boxes: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return start and length of each box along both axes, (N, 1, 2) each; an edge without length counts as 1."""
    wide = np.asarray(boxes, np.float64)
    start, length = wide[:, None, :2], wide[:, None, 2:] - wide[:, None, :2]
    return start, np.where(length > 0, length, 1.0)


def _clipped(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    return np.rint(np.clip(values, 0, MAX_CODE)).astype(np.uint16)
