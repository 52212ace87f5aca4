"""The values that stages exchange, and the conventions that hold everywhere.

* Pixels are RGB uint8, ``(N, 3, H, W)``.
* Boxes are ``x1, y1, x2, y2`` in pixels of the source image, float32; a pixel's centre is at ``+ 0.5``.
* Landmarks are ``(N, 5, 2)`` float32 in the order of ``LANDMARK_NAMES``, where left and right are the image's.
* Times are seconds as float and carry the suffix ``_seconds``.
* Embeddings are L2-normalised.
* No face is ``N = 0``, never ``None``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from models.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Sequence

LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


class TensorColumns(Columns):
    """Struct of tensors whose leading dimension N is the same."""

    __slots__ = ()

    @staticmethod
    def _join(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(tuple(parts))


@dataclass(frozen=True, slots=True, repr=False)
class Detections(TensorColumns):
    """Faces found in a batch of frames."""

    frame: Tensor
    """(N,) int64: row of the frame in the batch that was searched; ascending."""
    boxes: Tensor
    """(N, 4) float32, pixels of that frame; may reach beyond its edge."""
    landmarks: Tensor
    """(N, 5, 2) float32, pixels of that frame, in the order of LANDMARK_NAMES."""
    scores: Tensor
    """(N,) float32 in 0..1."""

    def __post_init__(self) -> None:
        self._check(frame=(), boxes=(4,), landmarks=(5, 2), scores=())

    @classmethod
    def empty(cls) -> Self:
        """Return a value without faces."""
        return cls(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.zeros(0, 5, 2), torch.zeros(0))


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """The predictions of one head for N faces."""

    labels: tuple[str, ...]
    """K names, in the order of the columns of ``probabilities``."""
    probabilities: Tensor
    """(N, K) float32. Rows sum to 1, except for a multi-label head, where each column stands alone."""
    value: Tensor | None = None
    """(N,) float32: the estimate of a numeric head (age in years), else None."""
    low: Tensor | None = None
    """(N,) float32: lower end of the head's central 80 % interval (10 % quantile), else None."""
    high: Tensor | None = None
    """(N,) float32: upper end (90 % quantile), else None."""
    abstains: Tensor | None = None
    """(N,) bool: True where the release's threshold makes the answer 'unknown', else None (never abstains)."""
    codes: Tensor | None = None
    """(N, K) int32, 0..65535: the scores as they are stored (`models.readings`), of which all else is read; None where
    the output was not made by a model."""
    is_multi_label: bool = False
    """True where each label is present or not by itself, so that no label is the answer (attributes)."""


@dataclass(frozen=True, slots=True)
class FaceOutputs:
    """The outputs of one forward pass for N faces."""

    embeddings: Tensor
    """(N, D) float32, L2-normalised, rounded to float16 as they are stored."""
    heads: dict[str, HeadOutput]
    """By task: gender, age, ethnicity, emotion, attributes; only the heads that are on."""

    def __len__(self) -> int:
        return int(self.embeddings.shape[0])
