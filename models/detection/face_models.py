"""The part of a release that finding faces uses: detector, policies, and crops of its trunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from models.detection.detector import DetectionPolicy, FaceDetector
    from models.quality import Evidence, FaceQuality, QualityPolicy
    from models.types import Detections


class Policies(Protocol):
    """Policies of a release for searching frames and keeping faces."""

    @property
    def detection(self) -> DetectionPolicy:
        """Threshold, overlap and scales of detection."""
        ...

    @property
    def quality(self) -> QualityPolicy:
        """Limits of kept faces."""
        ...


class FaceModels(Protocol):
    """The methods of a release that finding faces calls."""

    @property
    def manifest(self) -> Policies:
        """Policies of the release."""
        ...

    @property
    def detector(self) -> FaceDetector:
        """Detector of the release."""
        ...

    def align(self, frames: Tensor, detections: Detections) -> Tensor:
        """Cut the trunk's crops, (N, 3, S, S) uint8, of N faces out of (B, 3, H, W) uint8 frames."""
        ...

    def confirm(self, crops: Tensor) -> Tensor:
        """Return the (N,) scores with which N faces are detected again in their crops."""
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
        """Measure the quality of N faces by their crops and the (height, width) of their frames."""
        ...
