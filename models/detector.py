"""Faces and their landmarks in batches of frames: scaling policy, network, decoding of its anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms

from models.precision import compute_dtype
from models.retinaface import RawFaces, RetinaFace
from models.types import Detections
from models.weights import load_into

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIANCES = (0.1, 0.2)  # of offsets and of log sizes, as the network was trained


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionPolicy:
    """What counts as a face, and at which scale frames are searched."""

    threshold: float = 0.6
    """Lowest score kept, 0..1."""
    nms: float = 0.4
    """Of two boxes that overlap more (intersection over union), the weaker is dropped."""
    max_side: int = 1280
    """Longest side in pixels that is searched; larger frames are scaled down."""
    min_side: int = 320
    """Shortest longest side in pixels that is searched; smaller frames are scaled up."""


class FaceDetector:
    """Finds faces in frames of any size."""

    def __init__(
        self, weights: Mapping[str, Tensor], policy: DetectionPolicy, device: torch.device | None = None
    ) -> None:
        self.policy = policy
        self.device = device or torch.device("cpu")
        network = RetinaFace()
        load_into(network, weights, "detector")
        network = network.to(self.device, compute_dtype(self.device)).to(memory_format=torch.channels_last)
        self._network = network.eval().requires_grad_(requires_grad=False)

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Detections:
        """Find all faces of a batch of frames.

        Args:
            frames: (B, 3, H, W) uint8 RGB, on any device; B may be 0.

        Returns:
            Faces on the CPU in pixels of `frames`, by frame and in it by falling score.
        """
        if frames.shape[0] == 0:
            return Detections.empty()
        scaled = _scaled(frames, self.policy).to(self.device)
        raw = self._network(scaled.contiguous(memory_format=torch.channels_last))
        found = _strongest(_candidates(raw, self.policy.threshold), self.policy.nms)
        to_source = torch.tensor([frames.shape[3] / scaled.shape[3], frames.shape[2] / scaled.shape[2]])
        return Detections(found.frame, found.boxes * to_source.repeat(2), found.landmarks * to_source, found.scores)


def _scaled(frames: Tensor, policy: DetectionPolicy) -> Tensor:
    height, width = frames.shape[2:]
    longest = max(height, width)
    wanted = min(max(longest, policy.min_side), policy.max_side)
    if wanted == longest:
        return frames
    size = [max(1, round(side * wanted / longest)) for side in (height, width)]
    return functional.interpolate(frames, size=size, mode="bilinear", antialias=wanted < longest)


def _candidates(raw: list[RawFaces], threshold: float) -> Detections:
    """Decode the anchors whose score passes the threshold."""
    logit = torch.logit(torch.tensor(threshold)).item()
    return Detections.cat([_decode(level, (level.logits > logit).nonzero()) for level in raw])


def _decode(level: RawFaces, at: Tensor) -> Detections:
    """Turn offsets of chosen anchors into pixels of the searched frame.

    Args:
        level: one stride's output.
        at: (K, 4) int64: batch, row, column, anchor.
    """
    batch, row, column, anchor = at.unbind(1)
    offsets = level.offsets[batch, row, column, anchor].float()
    scores = level.logits[batch, row, column, anchor].float().sigmoid()
    centre = (torch.stack((column, row), 1) + 0.5) * level.stride
    side = torch.tensor(level.sides, device=at.device)[anchor, None].float()
    middle = centre + offsets[:, :2] * VARIANCES[0] * side
    half = side / 2 * (offsets[:, 2:4] * VARIANCES[1]).exp()
    landmarks = centre[:, None] + offsets[:, 4:].reshape(-1, 5, 2) * VARIANCES[0] * side[:, None]
    return Detections(batch, torch.cat((middle - half, middle + half), 1), landmarks, scores)


def _strongest(found: Detections, overlap: float) -> Detections:
    """Keep the strongest of overlapping boxes, ordered by frame and falling score, on the CPU."""
    keep = batched_nms(found.boxes, found.scores, found.frame, overlap)
    kept = found[keep]
    order = torch.argsort(kept.frame, stable=True)
    return Detections(*(column[order].cpu() for column in (kept.frame, kept.boxes, kept.landmarks, kept.scores)))
