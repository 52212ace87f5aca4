"""Detection on labelled images: faces that are found, and boxes that hold none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.detection.boxes import iou
from models.detection.finding import Search
from training.data.crops import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.release import Release
    from training.data.face_sets import LabelledImage

# Pixels of a face's shorter side; smaller ones are neither hits nor misses: the reduced images no longer show them.
MIN_SIDE = 16
MIN_OVERLAP = 0.5  # intersection over union from which on a box has found a face, as in WIDER FACE


@dataclass(frozen=True, slots=True)
class ImageTally:
    """Counts of one image."""

    faces: int
    """Labelled faces with a shorter side of MIN_SIDE or more."""
    found: int
    false_positives: int
    """Boxes that overlap no labelled face of any size, invalid ones included."""


def tally(image: LabelledImage, boxes: NDArray[np.float32]) -> ImageTally:
    """Match (N, 4) boxes, best first, to the faces of an image; each face is found once."""
    every = np.concatenate((image.boxes, image.ignored))
    wanted = np.zeros(len(every), dtype=np.bool_)
    sides = image.boxes[:, 2:] - image.boxes[:, :2]
    wanted[: len(image.boxes)] = sides.min(axis=1, initial=np.inf) >= MIN_SIDE
    if len(every) == 0 or len(boxes) == 0:
        return ImageTally(int(wanted.sum()), 0, len(boxes))
    overlap = iou(torch.from_numpy(boxes), torch.from_numpy(every)).numpy()
    taken = np.zeros(len(every), dtype=np.bool_)
    false_positives = 0
    for row in overlap:
        free = np.where(taken, 0.0, row)
        face = int(free.argmax())
        if free[face] >= MIN_OVERLAP:
            taken[face] = True
        elif row.max() < MIN_OVERLAP:
            false_positives += 1
    return ImageTally(int(wanted.sum()), int((taken & wanted).sum()), false_positives)


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """Counts of all images; the i-th results are of one image."""

    detected: list[ImageTally]
    """Of all boxes."""
    kept: list[ImageTally]
    """Of the boxes that the release's quality check does not drop."""


def detect_images(images: list[LabelledImage], release: Release) -> DetectionResult:
    """Find the faces of images, one by one because their sizes differ."""
    result = DetectionResult([], [])
    for image in images:
        frame = torch.from_numpy(read_image(image.path)).permute(2, 0, 1)[None].contiguous()
        faces = release.find(frame, Search(thorough=True))
        boxes = faces.detections.boxes.numpy()
        kept = np.array([reason is None for reason in faces.quality.dropped], dtype=np.bool_)
        result.detected.append(tally(image, boxes))
        result.kept.append(tally(image, boxes[kept]))
    return result
