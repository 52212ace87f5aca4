"""Suppression of overlapping boxes; torchvision has it too, but takes a second to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def suppress(boxes: Tensor, scores: Tensor, group: Tensor, overlap: float) -> Tensor:
    """Return the boxes that no stronger kept box of the same group overlaps by more than a share.

    Args:
        boxes: (N, 4) float32, x1, y1, x2, y2.
        scores: (N,) float32.
        group: (N,) int64; boxes of different groups never suppress each other.
        overlap: intersection over union.

    Returns:
        (K,) int64 on the CPU, by group and in it by falling score; of equal scores the first row comes first.
    """
    corners, strength, groups = boxes.double().cpu().numpy(), scores.cpu().numpy(), group.cpu().numpy()
    if len(corners):
        # Groups are shifted side by side, so that their boxes cannot overlap.
        corners = corners + (groups * (np.ptp(corners) + 1.0))[:, None]
    left = np.lexsort((-strength, groups))
    kept = []
    while left.size:
        kept.append(left[0])
        left = left[1:][_overlaps(corners[left[0]], corners[left[1:]]) <= overlap]
    return torch.tensor(np.array(kept, dtype=np.int64))


def _overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of one box with (N, 4) others."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(min=0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared
    overlaps: NDArray[np.float64] = shared / np.maximum(areas, 1e-9)
    return overlaps


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the (N, M) float32 intersection over union of (N, 4) and (M, 4) boxes."""
    top = torch.maximum(boxes[:, None, :2], others[:, :2])
    bottom = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = (bottom - top).clamp(min=0).prod(2)
    areas = [(one[:, 2:] - one[:, :2]).clamp(min=0).prod(1) for one in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1] - shared).clamp(min=1e-6)
