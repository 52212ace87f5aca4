"""Faces of frames, from detection to quality: upright ones, turned ones, small ones of large frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.detection.candidates import (
    HALF_PROFILE,
    LARGE_SIDE,
    UPRIGHT,
    CandidateFaces,
    are_doubtful,
    are_large_enough,
    certainty,
    confirm_in_image,
    confirm_in_video,
    keep_distinct,
    shows_turned,
    shows_upright,
)
from models.detection.negatives import POSITIVE_BRIGHTNESS, POSITIVE_CONFIRMATION, are_negatives, eye_brightness
from models.detection.upright import Upright, chain, find_upright, look_close, look_upright, roll, wrapped
from models.quality import Evidence, extent, pose
from models.types import Detections

if TYPE_CHECKING:
    from models.detection.face_models import FaceModels
    from models.quality import FaceQuality, QualityPolicy

WEAK_SCORE = 0.05  # of a candidate whose surroundings are searched for a turned face
PLAIN_CERTAINTY = 4.0  # the same of a face that one more search shows upright
AGREEMENT = math.radians(30)  # between two angles of one face
TURNED = math.radians(40)  # angle from which a weak candidate counts as turned
WEAK_SHARE = 0.5  # side of a weak candidate in that of the largest face of its frame: smaller ones are hardly faces
CLEAR_SIDE = 32.0  # pixels from which a face must be found in its surroundings
TURNED_SCORE = 0.9  # with which such a face must be detected, and confirmed
FEW = 8  # up to so many faces, one search of all takes no longer than two of a part each
NEGATIVE_SAMPLES = 2  # faces of a batch of video frames that are tested first
NOTED_REDUCTION = 0.8  # scale of a frame below which a note is made: a face of 20 pixels is then smaller than 16
QUARTERS = (1, 2, 3)  # turns by 90 degrees in which a frame without a face is searched


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Thoroughness of a search."""

    thorough: bool = False
    """Whether faces are searched for that are turned too far to be detections."""
    max_tiles: int = 0
    """Tiles of a frame larger than the detector's longest side, at most."""


@dataclass(frozen=True, slots=True)
class Faces:
    """N faces of a batch of frames."""

    detections: Detections
    crops: Tensor
    """(N, 3, S, S) uint8, as the trunk takes them."""
    quality: FaceQuality
    note: str | None = None
    """Faces that cannot be seen because the frames were reduced, if they were by much."""


def find_faces(release: FaceModels, frames: Tensor, search: Search) -> Faces:
    """Detect faces, set them upright and measure their quality.

    Args:
        release: the loaded release.
        frames: (B, 3, H, W) uint8 RGB, on the release's device.
        search: how thoroughly.
    """
    size = (frames.shape[2], frames.shape[3])
    lowest = release.manifest.detection.threshold
    threshold = min(WEAK_SCORE, lowest) if search.thorough else lowest
    candidates = release.detector.detect(frames, threshold=threshold, max_tiles=search.max_tiles)
    faces = _checked(release, frames, candidates[candidates.scores >= lowest], search)
    if search.thorough:
        faces = _with_turned(release, frames, faces, candidates[candidates.scores < lowest])
        faces = _with_quarters(release, frames, faces, search)
    quality = release.quality(faces.detections, faces.crops, size, Evidence(faces.sharpness, faces.confirmed))
    quality = _without_negatives(release, faces, quality, samples=None if search.thorough else NEGATIVE_SAMPLES)
    quality = _dropped(quality, shows_turned(faces, size), "unconfirmed")
    return Faces(faces.detections, faces.crops, quality, _reduction(release, size, search))


def _reduction(release: FaceModels, size: tuple[int, int], search: Search) -> str | None:
    longest, side = max(size), release.detector.searched_side(*size, search.max_tiles)
    if side > NOTED_REDUCTION * longest:
        return None
    unseen = math.ceil(release.manifest.quality.min_side * longest / side)
    return f"reduced to {side} of {longest} px: faces under {unseen} px not seen"


def _checked(release: FaceModels, frames: Tensor, found: Detections, search: Search) -> CandidateFaces:
    """Confirm detections, and set upright those whose landmarks are in doubt."""
    faces = confirm_in_image(release, frames, found) if search.thorough else confirm_in_video(release, frames, found)
    doubtful = are_doubtful(faces, release.manifest.quality)
    side, _ = extent(found.boxes, (frames.shape[2], frames.shape[3]))
    worth = _worth_checking_image if search.thorough else _worth_checking
    doubtful &= worth(faces, doubtful, side, release.manifest.quality)
    rows = doubtful.nonzero()[:, 0]
    if search.thorough:
        rows = rows[~_plain(release, frames, faces, rows)]
    else:
        rows = _unlike_neighbours(release, frames, faces, rows)
    if not len(rows):
        return faces
    upright = find_upright(release.detector, frames, found[rows])
    agrees = _agrees(upright, found[rows]) & (upright.detections.scores >= release.manifest.detection.threshold)
    rows, upright = rows[~agrees], upright[~agrees]
    return _set_upright(release, frames, faces, rows, upright) if len(rows) else faces


def _set_upright(
    release: FaceModels, frames: Tensor, faces: CandidateFaces, rows: Tensor, upright: Upright
) -> CandidateFaces:
    """Replace turned faces by upright ones, and reject those that are clearly no faces.

    Args:
        release: the loaded release.
        frames: (B, 3, H, W) uint8.
        faces: N faces.
        rows: (R,) int64, those whose landmarks disagree with their surroundings.
        upright: the R faces in these.
    """
    found = faces.detections
    upright = look_close(release.detector, frames, upright)
    agrees = _agrees(upright, found[rows])
    turned = ~agrees & (upright.detections.scores >= TURNED_SCORE) & upright.found
    lost = ~upright.found | (upright.detections.scores < release.manifest.detection.threshold) | ~(agrees | turned)
    side, _ = extent(found.boxes[rows], (frames.shape[2], frames.shape[3]))
    faces.confirmed[rows[lost & (side >= CLEAR_SIDE)]] = 0.0
    again = confirm_in_image(release, frames, upright.detections[turned])
    again.confirmed[again.confirmed < TURNED_SCORE] = 0.0
    stays = torch.ones(len(found), dtype=torch.bool)
    stays[rows[turned]] = False
    return keep_distinct(CandidateFaces.cat((faces[stays], again)), release.manifest.detection.nms)


def _worth_checking(faces: CandidateFaces, doubtful: Tensor, side: Tensor, policy: QualityPolicy) -> Tensor:
    """Return (N,) bool: faces of a video that would be kept, and large ones where no face is plainly upright.

    Unconfirmed faces are dropped anyway, and videos of crowds have many of them; only where frames show no
    other face may they be turned as a whole. Half-profiles are in doubt for their misfit alone: the landmarks that a
    turned face is given are those of a frontal one.
    """
    _, aside = pose(faces.detections.landmarks)
    half_profile = (aside > HALF_PROFILE) & (roll(faces.detections.landmarks).abs() <= UPRIGHT)
    keepable = (faces.confirmed >= policy.min_confirmation) & ~half_profile
    if bool((keepable & ~doubtful).any()):
        return keepable
    return keepable | (side >= LARGE_SIDE)


def _worth_checking_image(faces: CandidateFaces, doubtful: Tensor, side: Tensor, policy: QualityPolicy) -> Tensor:
    """Return (N,) bool: faces of images that would be kept, and others unless small beside one that is sure."""
    keepable = faces.confirmed >= policy.min_confirmation
    sure = faces.detections.frame[keepable & ~doubtful]
    return keepable | (side >= CLEAR_SIDE) | ~torch.isin(faces.detections.frame, sure)


def _unlike_neighbours(release: FaceModels, frames: Tensor, faces: CandidateFaces, rows: Tensor) -> Tensor:
    """Return the rows of doubtful faces of a video that are neither plainly upright nor in one place with one that is.

    Among many, a face that stays in its place from frame to frame is searched once, where it is surest. Only where that
    one is not plainly upright are the others searched, too.
    """
    if len(rows) <= FEW:
        return rows[~_plain(release, frames, faces, rows)]
    chains = chain(faces.detections[rows])
    order = certainty(faces)[rows].argsort(descending=True, stable=True)
    order = order[chains[order].argsort(stable=True)]
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = chains[order][1:] != chains[order][:-1]
    surest, others = order[first], order[~first]
    plain = surest[_plain(release, frames, faces, rows[surest])]
    others = others[~torch.isin(chains[others], chains[plain])]
    others = others[~_plain(release, frames, faces, rows[others])]
    return rows[torch.cat((surest[~torch.isin(surest, plain)], others)).sort().values]


def _plain(release: FaceModels, frames: Tensor, faces: CandidateFaces, rows: Tensor) -> Tensor:
    """Return (R,) bool: faces that one search shows upright, as their landmarks do."""
    plain = certainty(faces)[rows] >= PLAIN_CERTAINTY
    doubted = plain & ~shows_upright(faces)[rows]
    if bool(doubted.any()):
        plain[doubted] = look_upright(release.detector, frames, faces.detections[rows[doubted]])
    return plain


def _agrees(upright: Upright, given: Detections) -> Tensor:
    """Return (N,) bool: faces whose angle in their surroundings agrees with their landmarks."""
    angles = roll(given.landmarks)
    return upright.found & (wrapped(upright.angles - angles).abs() <= AGREEMENT) & (angles.abs() <= UPRIGHT)


def _with_turned(release: FaceModels, frames: Tensor, faces: CandidateFaces, weak: Detections) -> CandidateFaces:
    """Add the weak candidates that are faces once they are set upright."""
    side, _ = extent(weak.boxes, (frames.shape[2], frames.shape[3]))
    policy = release.manifest.quality
    beside = _largest(faces, len(frames), policy)[weak.frame] * WEAK_SHARE
    weak = weak[are_large_enough(weak, frames, policy) & (side >= beside)]
    weak = weak[~look_upright(release.detector, frames, weak)] if len(weak) else weak
    if not len(weak):
        return faces
    upright = find_upright(release.detector, frames, weak)
    upright = upright[upright.found & (upright.angles.abs() >= TURNED / 2)]
    upright = look_close(release.detector, frames, upright)
    turned = upright.found & (upright.angles.abs() >= TURNED) & (upright.detections.scores >= TURNED_SCORE)
    added = confirm_in_image(release, frames, upright.detections[turned])
    added = added[added.confirmed >= TURNED_SCORE]
    return keep_distinct(CandidateFaces.cat((faces, added)), release.manifest.detection.nms)


def _largest(faces: CandidateFaces, count: int, policy: QualityPolicy) -> Tensor:
    """Return (B,) float32: the side of the largest confirmed face of each frame; 0 without one."""
    found = faces.detections[faces.confirmed >= policy.min_confirmation]
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).amin(1)
    return torch.zeros(count).scatter_reduce(0, found.frame, sides, "amax")


def _with_quarters(release: FaceModels, frames: Tensor, faces: CandidateFaces, search: Search) -> CandidateFaces:
    """Search frames without a face that was confirmed, and is upright in its crop, at 90, 180 and 270 degrees."""
    upright = ~shows_turned(faces, (frames.shape[2], frames.shape[3]))
    seen = faces.detections.frame[(faces.confirmed >= release.manifest.quality.min_confirmation) & upright]
    empty = torch.ones(len(frames), dtype=torch.bool)
    empty[seen] = False
    rows = empty.nonzero()[:, 0]
    if not len(rows):
        return faces
    parts = [_quarter(release, frames, rows, quarter, search) for quarter in QUARTERS]
    return _with_turned(release, frames, faces, Detections.cat(parts))


def _quarter(release: FaceModels, frames: Tensor, rows: Tensor, quarter: int, search: Search) -> Detections:
    """Search frames turned by a count of quarters, and return the boxes in their own pixels."""
    turned = torch.rot90(frames[rows.to(frames.device)], quarter, (2, 3)).contiguous()
    found = release.detector.detect(turned, max_tiles=search.max_tiles)
    boxes = found.boxes
    for left in range(quarter, 0, -1):  # undo one turn after the other: (x, y) of a turned frame was at (W - y, x)
        width = frames.shape[3] if left % 2 else frames.shape[2]
        boxes = torch.stack((width - boxes[:, 3], boxes[:, 0], width - boxes[:, 1], boxes[:, 2]), 1)
    return Detections(rows[found.frame], boxes, found.landmarks, found.scores)


def _without_negatives(
    release: FaceModels, faces: CandidateFaces, quality: FaceQuality, samples: int | None
) -> FaceQuality:
    """Drop kept faces that are photographic negatives.

    Of a video only some faces are tested first, and the others if one of these is a negative: a video is negative as a
    whole.
    Nothing is asked where eyes are as dark as those of positives.
    """
    kept = torch.tensor([reason is None for reason in quality.dropped], dtype=torch.bool)
    rows = (kept & (faces.confirmed < POSITIVE_CONFIRMATION)).nonzero()[:, 0]
    if samples is not None and not _bright_eyed(faces, rows):
        return quality
    if samples is not None and len(rows) > samples:
        some = rows[torch.linspace(0, len(rows) - 1, samples).long()]
        rows = rows if len(_negatives(release, faces, some)) else some[:0]
    negative = torch.zeros(len(kept), dtype=torch.bool)
    negative[_negatives(release, faces, rows)] = True
    return _dropped(quality, negative, "negative")


def _dropped(quality: FaceQuality, rows: Tensor, reason: str) -> FaceQuality:
    """Drop some of the kept faces; rows is (N,) bool."""
    scores, dropped = quality.scores.clone(), list(quality.dropped)
    for row in rows.nonzero()[:, 0].tolist():
        if dropped[row] is None:
            scores[row], dropped[row] = 0.0, reason
    return replace(quality, scores=scores, dropped=tuple(dropped))


def _bright_eyed(faces: CandidateFaces, rows: Tensor) -> bool:
    """Return whether the eyes of some faces, taken together, are as bright as those of negatives."""
    crops = faces.crops[rows.to(faces.crops.device)]
    return len(rows) > 0 and bool(eye_brightness(crops).mean() >= POSITIVE_BRIGHTNESS)


def _negatives(release: FaceModels, faces: CandidateFaces, rows: Tensor) -> Tensor:
    """Return the rows among some whose faces are negatives."""
    return rows[are_negatives(release, faces.crops[rows.to(faces.crops.device)], faces.confirmed[rows])]
