"""Candidate faces: detections with their crops, and how far their landmarks can be believed."""

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

CERTAINTY = 8.5  # sum of the logits of both scores from which on landmarks are believed; of upright faces it is 9 to 14
UPRIGHT = math.radians(40)  # angle up to which landmarks can be believed
BELIEVED_SCORE = 0.9995  # from which on a face of a film is not looked at again; turned or negative ones have less
HALF_PROFILE = 0.6  # of the nose's offset in eye distances; of 94 turned portraits that are confirmed one has more
LARGE_SIDE = 64.0  # pixels from which on a face of a film is set upright even where it is not found again in its crop
SURE_UPRIGHT = 3.0  # logit of a crop to show an upright face from which on landmarks are believed
MIN_UPRIGHT = 0.0  # the same below which no face is kept; of 1,226 upright portraits none has less
MIN_UPRIGHT_UNCLEAR = -4.0  # the same of half-profiles and of smaller faces, of which the network is less sure


@dataclass(frozen=True, slots=True)
class CandidateFaces:
    """N faces and how surely each was found again in its crop."""

    detections: Detections
    crops: Tensor
    sharpness: Tensor
    """(N,) float32, as `models.quality.sharpness` returns it."""
    upright: Tensor
    """(N,) float32, logits of the crop to show an upright face; infinite where the release cannot tell."""
    confirmed: Tensor
    """(N,) float32; NaN where nothing was asked, 0 where the face was not found again."""

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
    """Cut the crops of detections, and look again at those that are large enough to be kept and not beyond doubt."""
    faces = _cut(release, frames, found)
    policy = release.manifest.quality
    sized = are_large_enough(found, frames, policy)
    believed = sized & _beyond_doubt(faces, policy)
    return _asked(release, _believing(faces, believed), sized & ~believed)


def confirm_in_video(release: FaceModels, frames: Tensor, found: Detections) -> CandidateFaces:
    """Cut the crops of a film's detections, and look again at those that would be kept and are not beyond doubt.

    Large ones that would not be kept are looked at, too, where nobody is seen upright: the frames may be turned.
    """
    faces = _cut(release, frames, found)
    policy = release.manifest.quality
    sized = are_large_enough(found, frames, policy)
    misfit, aside = pose(found.landmarks)
    upright = roll(found.landmarks).abs() <= UPRIGHT
    believed = sized & _beyond_doubt(faces, policy)
    keepable = sized & (faces.sharpness >= policy.min_sharpness)
    keepable &= ~upright | ((aside <= policy.max_turn) & (misfit <= policy.max_misfit))
    faces = _asked(release, _believing(faces, believed), keepable & ~believed)
    if bool(are_certain(faces, policy).any()):
        return faces
    side, _ = extent(found.boxes, (frames.shape[2], frames.shape[3]))
    return _asked(release, faces, sized & ~keepable & (side >= LARGE_SIDE))


def _beyond_doubt(faces: CandidateFaces, policy: QualityPolicy) -> Tensor:
    """Return (N,) bool: faces that no second look could tell more of.

    The network that tells upright crops learnt from positives, so bright eyes, as negatives have them, stay in doubt.
    """
    scores = faces.detections.scores
    misfit, _ = pose(faces.detections.landmarks)
    plain = (misfit <= policy.sure_misfit) & (roll(faces.detections.landmarks).abs() <= UPRIGHT)
    sure = plain & (scores >= policy.sure_score) & shows_upright(faces)
    if bool(sure.any()):
        dark = eye_brightness(faces.crops[sure.to(faces.crops.device)]).cpu() < POSITIVE_BRIGHTNESS
        sure[sure.clone()] = dark
    return sure | (plain & (scores >= BELIEVED_SCORE) & (faces.upright >= SURE_UPRIGHT))


def _believing(faces: CandidateFaces, rows: Tensor) -> CandidateFaces:
    """Take some faces as found again with the scores that they have; rows is (N,) bool."""
    return replace(faces, confirmed=torch.where(rows, faces.detections.scores, faces.confirmed))


def _cut(release: FaceModels, frames: Tensor, found: Detections) -> CandidateFaces:
    """Cut the crops of detections."""
    crops = release.align(frames, found)
    unknown = torch.full((len(found),), math.nan)
    return CandidateFaces(found, crops, release.sharpness(crops), release.uprightness(crops), unknown)


def are_large_enough(found: Detections, frames: Tensor, policy: QualityPolicy) -> Tensor:
    """Return (N,) bool: faces that are large enough, and as much inside their frame, as what is kept."""
    side, inside = extent(found.boxes, (frames.shape[2], frames.shape[3]))
    return (side >= policy.min_side) & (inside >= policy.min_inside)


def _asked(release: FaceModels, faces: CandidateFaces, rows: Tensor) -> CandidateFaces:
    """Look again at the crops of some faces; rows is (N,) bool."""
    confirmed = faces.confirmed.clone()
    confirmed[rows] = release.confirm(faces.crops[rows.to(faces.crops.device)])
    return replace(faces, confirmed=confirmed)


def are_doubtful(faces: CandidateFaces, policy: QualityPolicy) -> Tensor:
    """Return (N,) bool: faces that were found again, or not, but not so that their landmarks are beyond doubt."""
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
    """Return (N,) bool: faces whose crops tell that they are not upright in them; size is that of the frames."""
    _, aside = pose(faces.detections.landmarks)
    side, _ = extent(faces.detections.boxes, size)
    is_clear = (side >= LARGE_SIDE) & (aside <= HALF_PROFILE)
    return faces.upright < torch.where(is_clear, MIN_UPRIGHT, MIN_UPRIGHT_UNCLEAR)


def shows_upright(faces: CandidateFaces) -> Tensor:
    """Return (N,) bool: faces whose crops alone tell that they are upright, where the release has a network for it."""
    return (
        (faces.upright >= SURE_UPRIGHT) & faces.upright.isfinite() & (roll(faces.detections.landmarks).abs() <= UPRIGHT)
    )


def keep_distinct(faces: CandidateFaces, overlap: float) -> CandidateFaces:
    """Keep one of each face, by frame and in it by falling score, those that were not found again last."""
    found = faces.detections
    strength = found.scores - (faces.confirmed == 0).float()
    return faces[suppress(found.boxes, strength, found.frame, overlap)]
