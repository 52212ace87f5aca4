"""Quality of faces: how reliable their predictions are, and which faces are too poor for any prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.geometry import ARCFACE_TEMPLATE, similarity_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.types import Detections


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityPolicy:
    """Limits beyond which a face is dropped, and values of a perfect one."""

    min_side: float = 16.0
    """Shorter side of the box in pixels; smaller faces are 'too_small'."""
    min_inside: float = 0.6
    """Share of the box inside the frame; less is 'outside_frame'."""
    max_misfit: float = 16.0
    """Root mean square distance of the landmarks from the template after alignment, in crop pixels; more is
    'implausible_landmarks'."""
    max_turn: float = 1.0
    """Distance of the nose from the middle of the eyes along their axis, in eye distances; more is 'profile'."""
    min_sharpness: float = 1.5
    """Root mean square of the crop's Laplacian, in grey levels; less is 'too_blurred'."""
    min_confirmation: float = 0.5
    """Score with which the detector must find the face again in its aligned crop; less is 'unconfirmed'."""
    sure_score: float = 0.99
    """Detection score from which a face whose landmarks fit well is not confirmed."""
    sure_misfit: float = 6.0
    """Misfit up to which landmarks fit well, measured like max_misfit."""
    good_side: float = 80.0
    """Shorter side in pixels from which size no longer lowers the quality."""
    good_sharpness: float = 20.0
    """Sharpness from which blur no longer lowers the quality."""


@dataclass(frozen=True, slots=True)
class FaceQuality:
    """Quality of N faces."""

    scores: Tensor
    """(N,) float32 in 0..1, on the CPU; 0 for a dropped face."""
    dropped: tuple[str | None, ...]
    """N reasons: too_small, outside_frame, implausible_landmarks, profile, too_blurred, unconfirmed or negative; None
    for a face that is kept."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measurements of N faces that were taken before."""

    sharpness: Tensor
    """(N,) float32 on the CPU, as `sharpness` returns it."""
    confirmed: Tensor
    """(N,) float32 on the CPU, scores of confirmed faces; NaN for the others; 0 drops a face."""


def measure(
    detections: Detections,
    crops: Tensor,
    frame_size: tuple[int, int],
    policy: QualityPolicy,
    confirm: Callable[[Tensor], Tensor],
    evidence: Evidence | None = None,
) -> FaceQuality:
    """Measure the quality of faces.

    Args:
        detections: N faces.
        crops: (N, 3, S, S) uint8, their aligned crops.
        frame_size: height and width of their frames in pixels.
        policy: the release's.
        confirm: looks again at crops, (K, 3, S, S) to (K,) scores; asked only about faces that nothing else speaks
            for or against.
        evidence: what is known of the faces already; None where nothing is.
    """
    side, inside = extent(detections.boxes, frame_size)
    misfit, turn = pose(detections.landmarks)
    if evidence is None:
        evidence = Evidence(sharpness(crops).cpu(), torch.full_like(detections.scores, torch.nan))
    sharp = evidence.sharpness
    verdicts = {
        "too_small": side < policy.min_side,
        "outside_frame": inside < policy.min_inside,
        "implausible_landmarks": misfit > policy.max_misfit,
        "profile": turn > policy.max_turn,
        "too_blurred": sharp < policy.min_sharpness,
    }
    kept = ~torch.stack(list(verdicts.values())).any(0)
    again = evidence.confirmed.clone()
    unsure = kept & ((detections.scores < policy.sure_score) | (misfit > policy.sure_misfit) | (again == 0))
    asked = unsure & again.isnan()
    again[asked] = confirm(crops[asked.to(crops.device)])
    again = torch.where(unsure, again, detections.scores)
    verdicts["unconfirmed"] = kept & (again < policy.min_confirmation)
    kept = kept & ~verdicts["unconfirmed"]
    shares = (side / policy.good_side, sharp / policy.good_sharpness, 1 - turn / policy.max_turn)
    size, detail, frontal = (share.clamp(0, 1) for share in shares)
    scores = (size * detail * frontal).pow(1 / 3) * inside * torch.minimum(detections.scores, again)
    return FaceQuality((scores * kept).float(), _first_reason(verdicts, len(detections)))


def _first_reason(verdicts: dict[str, Tensor], count: int) -> tuple[str | None, ...]:
    reasons: list[str | None] = [None] * count
    for name, applies in reversed(verdicts.items()):
        for row in applies.nonzero().flatten().tolist():
            reasons[row] = name
    return tuple(reasons)


def extent(boxes: Tensor, frame_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the boxes' shorter sides in pixels, and the share of each that lies inside the frame."""
    height, width = frame_size
    limit = torch.tensor([width, height], dtype=boxes.dtype)
    full = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    seen = torch.minimum(boxes[:, 2:], limit) - boxes[:, :2].clamp(min=0)
    return full.amin(1), (seen.clamp(min=0) / full).prod(1)


def pose(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance of landmarks from the template, in crop pixels, and the sideways turn of the head."""
    transforms = similarity_transforms(landmarks, ARCFACE_TEMPLATE)
    aligned = landmarks @ transforms[:, :, :2].mT + transforms[:, None, :, 2]
    misfit = (aligned - ARCFACE_TEMPLATE).square().sum(2).mean(1).sqrt()
    left, right, nose = landmarks[:, 0], landmarks[:, 1], landmarks[:, 2]
    axis = right - left
    length = axis.norm(dim=1).clamp(min=1e-6)
    offset = ((nose - (left + right) / 2) * axis).sum(1).abs() / length
    return misfit, offset / length


def sharpness(crops: Tensor) -> Tensor:
    """Return the (N,) root mean square of the Laplacian of (N, 3, S, S) crops, in grey levels."""
    grey = crops.float().mean(1)
    beside = grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] + grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1]
    return (beside - 4 * grey[:, 1:-1, 1:-1]).square().mean((1, 2)).sqrt()
