"""What finding faces takes of a release: its detector, its policies, and crops as its trunk takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from models.detection.detector import DetectionPolicy, FaceDetector
    from models.quality import Evidence, FaceQuality, QualityPolicy
    from models.types import Detections


class Policies(Protocol):
    """What is searched, and what is kept."""

    @property
    def detection(self) -> DetectionPolicy:
        """Threshold, overlap and scales."""
        ...

    @property
    def quality(self) -> QualityPolicy:
        """Faces that are kept."""
        ...


class FaceModels(Protocol):
    """A release, as far as finding faces is concerned."""

    @property
    def manifest(self) -> Policies:
        """Its policies."""
        ...

    @property
    def detector(self) -> FaceDetector:
        """Its detector."""
        ...

    def align(self, frames: Tensor, detections: Detections) -> Tensor:
        """Cut the crops that the trunk takes, (N, 3, S, S) uint8, of N faces out of (B, 3, H, W) uint8 frames."""
        ...

    def confirm(self, crops: Tensor) -> Tensor:
        """Return the (N,) scores with which N faces are found again in their crops."""
        ...

    def sharpness(self, crops: Tensor) -> Tensor:
        """Return the (N,) float32 sharpness, on the CPU, of N faces by their crops."""
        ...

    def uprightness(self, crops: Tensor) -> Tensor:
        """Return the (N,) float32 logits, on the CPU, of N crops to show an upright face."""
        ...

    def quality(
        self, detections: Detections, crops: Tensor, frame_size: tuple[int, int], evidence: Evidence | None = None
    ) -> FaceQuality:
        """Judge N faces by their crops and the (height, width) of their frames."""
        ...
