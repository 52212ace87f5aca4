"""Orientation of a face: its surroundings are searched in eight turns.

The detector learnt from upright faces. Of a face that is turned by more than about 60 degrees in the plane of the image
it often still finds the box, but places the landmarks of an upright face in it, and takes a crop that was cut by these
for a face again. Among eight turns of its surroundings one is within 22.5 degrees of upright: there score, landmarks
and their own angle agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.detection.boxes import iou
from models.geometry import ARCFACE_TEMPLATE, align, invert, similarity_transforms
from models.quality import pose
from models.types import Detections

if TYPE_CHECKING:
    from models.detection.detector import FaceDetector

TURNS = 8
PATCH_SIDE = 128  # pixels of the surroundings as searched
SURROUNDINGS = 2.0  # side of the surroundings in longer sides of the box: a turned face is still inside
CLOSE_SURROUNDINGS = 1.6  # the same once the angle is known: the larger the face, the better its landmarks
MIN_SCORE = 0.3  # of a face in its surroundings
MAX_DISTANCE = 0.15  # of its centre from that of the surroundings, in sides of these
MIN_SIDE, MAX_SIDE = 0.3, 0.85  # of its box, in sides of the surroundings
ANGLE_WEIGHT = 1 / math.radians(20)  # logits that an angle costs
MISFIT_WEIGHT = 1 / 6  # logits that a pixel of misfit costs
CHAIN_OVERLAP = 0.4  # intersection over union of a face's boxes in two frames that follow
PLAIN_RANK = 1.5  # from which one search suffices
PLAIN_ANGLE, PLAIN_AGREEMENT = math.radians(30), math.radians(15)  # of such a face, and between its two angles
_POINTS = torch.tensor([[PATCH_SIDE / 4, PATCH_SIDE / 2], [PATCH_SIDE * 3 / 4, PATCH_SIDE / 2]])


@dataclass(frozen=True, slots=True)
class Upright:
    """N faces as detected in their surroundings."""

    detections: Detections
    """N; the given one where no face was found."""
    found: Tensor
    """(N,) bool."""
    angles: Tensor
    """(N,) float32, radians clockwise by which the face is turned; 0 where no face was found."""

    def __getitem__(self, rows: Tensor) -> Upright:
        return Upright(self.detections[rows], self.found[rows], self.angles[rows])


@dataclass(frozen=True, slots=True)
class _Places:
    """Squares of frames, turned."""

    frame: Tensor
    """(N,) int64."""
    centres: Tensor
    """(N, 2) float32, pixels of the frame."""
    sides: Tensor
    """(N,) float32, pixels of the frame."""
    angles: Tensor
    """(N,) float32, radians clockwise."""

    @classmethod
    def around(cls, frame: Tensor, boxes: Tensor, angles: Tensor, surroundings: float = SURROUNDINGS) -> _Places:
        """Return the surroundings of boxes."""
        sides = (boxes[:, 2:] - boxes[:, :2]).amax(1).clamp(min=1.0) * surroundings
        return cls(frame, (boxes[:, :2] + boxes[:, 2:]) / 2, sides, angles)

    def __getitem__(self, rows: Tensor) -> _Places:
        return _Places(self.frame[rows], self.centres[rows], self.sides[rows], self.angles[rows])

    @property
    def points(self) -> Tensor:
        """(N, 2, 2) float32, the places of `_POINTS` in the frame."""
        half = torch.stack((self.angles.cos(), self.angles.sin()), 1) * (self.sides / 4)[:, None]
        return torch.stack((self.centres - half, self.centres + half), 1)


@dataclass(frozen=True, slots=True)
class _Sights:
    """K faces that were seen in squares."""

    place: Tensor
    """(K,) int64, row of the square."""
    detections: Detections
    """In pixels of the frame."""
    angles: Tensor
    """(K,) float32, of the face in the frame, radians clockwise."""
    ranks: Tensor
    """(K,) float32: evidence that the face is upright."""


def roll(landmarks: Tensor) -> Tensor:
    """Return the (N,) angles in radians by which faces are turned clockwise, by their (N, 5, 2) landmarks."""
    to_crop = similarity_transforms(landmarks, ARCFACE_TEMPLATE)
    return torch.atan2(-to_crop[:, 1, 0], to_crop[:, 0, 0])


def wrapped(angles: Tensor) -> Tensor:
    """Bring angles in radians into -pi..pi."""
    around: Tensor = torch.remainder(angles + math.pi, 2 * math.pi)
    return around - math.pi


def chain(found: Detections) -> Tensor:
    """Return the (N,) int64 number of the chain that each face is in: faces in one place of frames that follow.

    Args:
        found: N faces by ascending frame. Frames of two videos that follow each other in a batch may share a chain by
            chance where faces of one size and roll lie in one place.
    """
    overlaps = iou(found.boxes, found.boxes) >= CHAIN_OVERLAP
    angles = roll(found.landmarks)
    alike = wrapped(angles[:, None] - angles).abs() <= PLAIN_AGREEMENT
    follows = found.frame[:, None] - found.frame == 1
    linked = overlaps & alike & follows
    chains = torch.arange(len(found))
    for row in linked.any(1).nonzero()[:, 0].tolist():  # rows before it have their numbers already
        chains[row] = chains[int(linked[row].nonzero()[0, 0])]
    return chains


def look_upright(detector: FaceDetector, frames: Tensor, given: Detections) -> Tensor:
    """Search the unturned surroundings of faces; returns (N,) bool: plainly upright, as their landmarks are.

    An eighth of the cost of `find_upright`. Of 680 doubtful detections of portraits that were turned by 60 to 300
    degrees none passes, of those of a video of a stage half.

    Args:
        detector: of the release.
        frames: (B, 3, H, W) uint8.
        given: N faces in the frames.
    """
    seen = _look(detector, frames, _Places.around(given.frame, given.boxes, torch.zeros(len(given))))
    best, rows = _best(seen, seen.place)
    agrees = wrapped(seen.angles[best] - roll(given.landmarks[rows])).abs() <= PLAIN_AGREEMENT
    plain = torch.zeros(len(given), dtype=torch.bool)
    plain[rows] = agrees & (seen.ranks[best] >= PLAIN_RANK) & (seen.angles[best].abs() <= PLAIN_ANGLE)
    return plain


def find_upright(detector: FaceDetector, frames: Tensor, given: Detections) -> Upright:
    """Find faces again in their surroundings, whatever their orientation.

    Args:
        detector: of the release.
        frames: (B, 3, H, W) uint8.
        given: N boxes of faces in the frames; their landmarks do not matter.

    Returns:
        Faces as they are seen in one of eight turns of their surroundings.
    """
    seen = _look_around(detector, frames, given)
    rows, face = _best(seen, seen.place // TURNS)
    return _merged(given, face, seen.detections[rows], seen.angles[rows])


def look_close(detector: FaceDetector, frames: Tensor, upright: Upright) -> Upright:
    """Find faces that `find_upright` found once more, in surroundings turned by their own angles: their landmarks.

    Args:
        detector: of the release.
        frames: (B, 3, H, W) uint8.
        upright: N faces.
    """
    given, boxes = upright.detections, _square(upright.detections.boxes)
    seen = _look(detector, frames, _Places.around(given.frame, boxes, upright.angles, CLOSE_SURROUNDINGS))
    rows, face = _best(seen, seen.place)
    return _merged(given, face, seen.detections[rows], seen.angles[rows])


def _merged(given: Detections, rows: Tensor, seen: Detections, angles: Tensor) -> Upright:
    boxes, landmarks, scores = given.boxes.clone(), given.landmarks.clone(), given.scores.clone()
    boxes[rows], landmarks[rows], scores[rows] = seen.boxes, seen.landmarks, seen.scores
    found, turned = torch.zeros(len(given), dtype=torch.bool), torch.zeros(len(given))
    found[rows], turned[rows] = True, angles
    return Upright(Detections(given.frame, boxes, landmarks, scores), found, turned)


def _look_around(detector: FaceDetector, frames: Tensor, given: Detections) -> _Sights:
    """Search the surroundings of faces in eight turns: row n * TURNS + t is turn t of face n."""
    step = 2 * math.pi / TURNS
    angles = (torch.arange(TURNS) * step).repeat(len(given))
    around = _Places.around(given.frame.repeat_interleave(TURNS), given.boxes.repeat_interleave(TURNS, 0), angles)
    drawn = torch.arange(len(angles)) % TURNS < TURNS // 4  # the others are these, turned by quarters
    first = _patches(frames, around[drawn]).view(len(given), TURNS // 4, 3, PATCH_SIDE, PATCH_SIDE)
    patches = torch.cat([torch.rot90(first, quarter, (3, 4)) for quarter in range(4)], 1).flatten(0, 1)
    return _search(detector, patches, around)


def _look(detector: FaceDetector, frames: Tensor, places: _Places) -> _Sights:
    """Search squares for a face in their middle."""
    return _search(detector, _patches(frames, places), places)


def _patches(frames: Tensor, places: _Places) -> Tensor:
    """Cut squares out of frames, (N, 3, PATCH_SIDE, PATCH_SIDE) uint8."""
    return align(frames, places.frame, places.points, _POINTS, PATCH_SIDE)


def _search(detector: FaceDetector, patches: Tensor, places: _Places) -> _Sights:
    """Search squares, whose pixels are given, for a face in their middle."""
    points = places.points
    seen = detector.look(patches, MIN_SCORE)
    seen = seen[_central(seen.boxes)]
    to_frame = invert(similarity_transforms(points, _POINTS))[seen.frame]
    landmarks = seen.landmarks @ to_frame[:, :, :2].mT + to_frame[:, None, :, 2]
    own = roll(seen.landmarks)
    angles = wrapped(places.angles[seen.frame] + own)
    boxes = _turned_boxes(seen.boxes, to_frame, angles)
    misfit, _ = pose(seen.landmarks)
    ranks = torch.logit(seen.scores.clamp(1e-6, 1 - 1e-6)) - own.abs() * ANGLE_WEIGHT - misfit * MISFIT_WEIGHT
    return _Sights(seen.frame, Detections(places.frame[seen.frame], boxes, landmarks, seen.scores), angles, ranks)


def _central(boxes: Tensor) -> Tensor:
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    central: Tensor = (centres - PATCH_SIDE / 2).norm(dim=1) < MAX_DISTANCE * PATCH_SIDE
    central &= (sides.amax(1) > MIN_SIDE * PATCH_SIDE) & (sides.amin(1) < MAX_SIDE * PATCH_SIDE)
    return central


def _turned_boxes(boxes: Tensor, to_frame: Tensor, angles: Tensor) -> Tensor:
    """Return boxes in the frame of faces whose boxes in turned squares are given: those around their ellipses."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    centres = (to_frame[:, :, :2] @ centres[..., None])[..., 0] + to_frame[:, :, 2]
    width, height = ((boxes[:, 2:] - boxes[:, :2]) * to_frame[:, :, 0].norm(dim=1)[:, None] / 2).unbind(1)
    across = torch.hypot(width * angles.cos(), height * angles.sin())
    down = torch.hypot(width * angles.sin(), height * angles.cos())
    half = torch.stack((across, down), 1)
    return torch.cat((centres - half, centres + half), 1)


def _square(boxes: Tensor) -> Tensor:
    """Return squares around boxes, whose sides do not depend on how the face is turned."""
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return torch.cat((centres - half, centres + half), 1)


def _best(sights: _Sights, group: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sight of the highest rank in each group that has one, and those groups."""
    order = sights.ranks.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    sorted_groups = group[order]
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = sorted_groups[1:] != sorted_groups[:-1]
    return order[first], sorted_groups[first]
