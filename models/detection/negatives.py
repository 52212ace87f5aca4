"""Photographic negatives of faces: the detector finds them as well as positives, but the heads answer at random.

Two signs are taken together: a negative is found again more surely once its colours are inverted, and its eyes are
brighter than its cheeks. Either sign alone is as strong on some faces of poor images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from models.detection.face_models import FaceModels

POSITIVE_CONFIRMATION = 0.99  # from which a face is no negative: negatives are confirmed with less
POSITIVE_BRIGHTNESS = -0.5  # mean of a video's eyes up to which it is no negative; half of negatives have 0.4 to 0.8
INVERTED_CONFIRMATION = 0.9  # with which the inverted crop of a negative is confirmed
MIN_LEAD = -0.3  # logits by which its confirmation is higher; a grey negative of a clear portrait has -0.2
MIN_SIGNS = 0.3  # of this lead and the brightness of the eyes together
_SIDE = 112  # pixels of the crop in which the places below are given
_EYES = ((33, 48, 43, 55), (69, 48, 79, 55))  # x1, y1, x2, y2, by the template of aligned crops
_CHEEKS = ((31, 67, 41, 77), (71, 67, 81, 77))


def are_negatives(release: FaceModels, crops: Tensor, confirmed: Tensor) -> Tensor:
    """Return (N,) bool on the CPU: faces that are photographic negatives.

    Args:
        release: whose detector confirms.
        crops: (N, 3, S, S) uint8 RGB, aligned.
        confirmed: (N,) float32 on the CPU, how surely each was found again in its crop.
    """
    negative = confirmed < POSITIVE_CONFIRMATION
    rows = negative.nonzero()[:, 0]
    if not len(rows):
        return negative
    asked = crops[rows.to(crops.device)]
    inverted = release.confirm(255 - asked)
    lead = torch.logit(inverted, eps=1e-6) - torch.logit(confirmed[rows], eps=1e-6)
    signs = lead + eye_brightness(asked).cpu()
    negative[rows] = (inverted >= INVERTED_CONFIRMATION) & (lead > MIN_LEAD) & (signs > MIN_SIGNS)
    return negative


def eye_brightness(crops: Tensor) -> Tensor:
    """Return (N,) float32: how much brighter eyes are than cheeks, in standard deviations of the crop.

    Args:
        crops: (N, 3, S, S) uint8 RGB, aligned.
    """
    grey = crops.float().mean(1)
    scale = grey.shape[-1] / _SIDE

    def mean(places: tuple[tuple[int, int, int, int], ...]) -> Tensor:
        parts = [[round(edge * scale) for edge in place] for place in places]
        return torch.stack([grey[:, y1:y2, x1:x2].mean((1, 2)) for x1, y1, x2, y2 in parts]).mean(0)

    return (mean(_EYES) - mean(_CHEEKS)) / (grey.flatten(1).std(1) + 1)
