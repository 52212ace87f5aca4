"""Candidate faces: detections with their crops, and how far their landmarks can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from models.detection.boxes import suppress
from models.detection.negatives import POSITIVE_BRIGHTNESS, eye_brightness
from models.detection.upright import roll
from models.quality import extent, pose
from models.types import Detections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.detection.face_models import FaceModels
    from models.quality import QualityPolicy

CERTAINTY = 8.5  # sum of the logits of both scores from which landmarks are trusted; of upright faces it is 9 to 14
UPRIGHT = math.radians(40)  # angle up to which landmarks can be trusted
TRUSTED_SCORE = 0.9995  # from which a face of a video is not confirmed; turned or negative ones have less
HALF_PROFILE = 0.6  # of the nose's offset in eye distances; of 94 turned portraits that are confirmed one has more
LARGE_SIDE = 64.0  # pixels from which a face of a video is set upright even where it is not confirmed
SURE_UPRIGHT = 3.0  # logit of a crop to show an upright face from which landmarks are trusted
MIN_UPRIGHT = 0.0  # the same below which no face is kept; of 1,226 upright portraits none has less
MIN_UPRIGHT_UNCLEAR = -4.0  # the same of half-profiles and of smaller faces, of which the model is less sure


@dataclass(frozen=True, slots=True)
class CandidateFaces:
    """N faces and the score with which each was confirmed in its crop."""

    detections: Detections
    crops: Tensor
    sharpness: Tensor
    """(N,) float32, as `models.quality.sharpness` returns it."""
    upright: Tensor
    """(N,) float32, logits of the crop to show an upright face; infinite where the release has no model for it."""
    confirmed: Tensor
    """(N,) float32; NaN where the face was not tested, 0 where it was not confirmed."""

    def __getitem__(self, rows: Tensor) -> Self:
        crops = self.crops[rows.to(self.crops.device)]
        return type(self)(self.detections[rows], crops, self.sharpness[rows], self.upright[rows], self.confirmed[rows])

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Return the faces of all parts, one after the other."""
        return cls(
            Detections.cat([part.detections for part in parts]),
            torch.cat([part.crops for part in parts]),
            torch.cat([part.sharpness for part in parts]),
            torch.cat([part.upright for part in parts]),
            torch.cat([part.confirmed for part in parts]),
        )


def confirm_in_image(release: FaceModels, frames: Tensor, found: Detections) -> CandidateFaces:
    """Cut the crops of detections, and confirm those that are large enough to be kept and not beyond doubt."""
    faces = _cut(release, frames, found)
    policy = release.manifest.quality
    sized = are_large_enough(found, frames, policy)
    trusted = sized & _beyond_doubt(faces, policy)
    return _confirm(release, _trust(faces, trusted), sized & ~trusted)


def confirm_in_video(release: FaceModels, frames: Tensor, found: Detections) -> CandidateFaces:
    """Cut the crops of a video's detections, and confirm those that would be kept and are not beyond doubt.

    Large ones that would not be kept are confirmed, too, where no face is upright: the frames may be turned.
    """
    faces = _cut(release, frames, found)
    policy = release.manifest.quality
    sized = are_large_enough(found, frames, policy)
    misfit, aside = pose(found.landmarks)
    upright = roll(found.landmarks).abs() <= UPRIGHT
    trusted = sized & _beyond_doubt(faces, policy)
    keepable = sized & (faces.sharpness >= policy.min_sharpness)
    keepable &= ~upright | ((aside <= policy.max_turn) & (misfit <= policy.max_misfit))
    faces = _confirm(release, _trust(faces, trusted), keepable & ~trusted)
    if bool(are_certain(faces, policy).any()):
        return faces
    side, _ = extent(found.boxes, (frames.shape[2], frames.shape[3]))
    return _confirm(release, faces, sized & ~keepable & (side >= LARGE_SIDE))


def _beyond_doubt(faces: CandidateFaces, policy: QualityPolicy) -> Tensor:
    """Return (N,) bool: faces that need no second search.

    The model of upright crops was trained on positives, so bright eyes, as negatives have them, stay in doubt.
    """
    scores = faces.detections.scores
    misfit, _ = pose(faces.detections.landmarks)
    plain = (misfit <= policy.sure_misfit) & (roll(faces.detections.landmarks).abs() <= UPRIGHT)
    sure = plain & (scores >= policy.sure_score) & shows_upright(faces)
    if bool(sure.any()):
        dark = eye_brightness(faces.crops[sure.to(faces.crops.device)]).cpu() < POSITIVE_BRIGHTNESS
        sure[sure.clone()] = dark
    return sure | (plain & (scores >= TRUSTED_SCORE) & (faces.upright >= SURE_UPRIGHT))


def _trust(faces: CandidateFaces, rows: Tensor) -> CandidateFaces:
    """Count some faces as confirmed with their detection scores; rows is (N,) bool."""
    return replace(faces, confirmed=torch.where(rows, faces.detections.scores, faces.confirmed))


def _cut(release: FaceModels, frames: Tensor, found: Detections) -> CandidateFaces:
    """Cut the crops of detections."""
    crops = release.align(frames, found)
    unknown = torch.full((len(found),), math.nan)
    return CandidateFaces(found, crops, release.sharpness(crops), release.uprightness(crops), unknown)


def are_large_enough(found: Detections, frames: Tensor, policy: QualityPolicy) -> Tensor:
    """Return (N,) bool: faces whose size and share inside the frame suffice to be kept."""
    side, inside = extent(found.boxes, (frames.shape[2], frames.shape[3]))
    return (side >= policy.min_side) & (inside >= policy.min_inside)


def _confirm(release: FaceModels, faces: CandidateFaces, rows: Tensor) -> CandidateFaces:
    """Confirm some faces in their crops; rows is (N,) bool."""
    confirmed = faces.confirmed.clone()
    confirmed[rows] = release.confirm(faces.crops[rows.to(faces.crops.device)])
    return replace(faces, confirmed=confirmed)


def are_doubtful(faces: CandidateFaces, policy: QualityPolicy) -> Tensor:
    """Return (N,) bool: tested faces whose landmarks are not beyond doubt."""
    return ~are_certain(faces, policy) & ~faces.confirmed.isnan()


def are_certain(faces: CandidateFaces, policy: QualityPolicy) -> Tensor:
    """Return (N,) bool: faces whose landmarks are beyond doubt."""
    misfit, _ = pose(faces.detections.landmarks)
    certain: Tensor = (certainty(faces) >= CERTAINTY) & (misfit <= policy.sure_misfit)
    certain &= faces.upright >= SURE_UPRIGHT
    certain &= roll(faces.detections.landmarks).abs() <= UPRIGHT
    return certain


def certainty(faces: CandidateFaces) -> Tensor:
    """Return (N,) float32: the sum of the logits of both scores."""
    both = torch.stack((faces.detections.scores, faces.confirmed)).clamp(1e-6, 1 - 1e-6)
    return torch.logit(both).sum(0)


def shows_turned(faces: CandidateFaces, size: tuple[int, int]) -> Tensor:
    """Return (N,) bool: faces that are not upright in their crops; size is that of the frames."""
    _, aside = pose(faces.detections.landmarks)
    side, _ = extent(faces.detections.boxes, size)
    is_clear = (side >= LARGE_SIDE) & (aside <= HALF_PROFILE)
    return faces.upright < torch.where(is_clear, MIN_UPRIGHT, MIN_UPRIGHT_UNCLEAR)


def shows_upright(faces: CandidateFaces) -> Tensor:
    """Return (N,) bool: faces that are upright by their crops alone, where the release has a model for it."""
    return (
        (faces.upright >= SURE_UPRIGHT) & faces.upright.isfinite() & (roll(faces.detections.landmarks).abs() <= UPRIGHT)
    )


def keep_distinct(faces: CandidateFaces, overlap: float) -> CandidateFaces:
    """Keep one of each face, by frame and in it by falling score, unconfirmed ones last."""
    found = faces.detections
    strength = found.scores - (faces.confirmed == 0).float()
    return faces[suppress(found.boxes, strength, found.frame, overlap)]
