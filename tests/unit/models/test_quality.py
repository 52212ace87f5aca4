from __future__ import annotations

import pytest
import torch

from models.geometry import ARCFACE_TEMPLATE
from models.quality import Evidence, QualityPolicy, measure, sharpness
from models.types import Detections

POLICY = QualityPolicy()


def face(scale: float, shift: tuple[float, float] = (100.0, 100.0), *, turn: float = 0.0) -> tuple[torch.Tensor, ...]:
    """Return box and landmarks of an upright face; turn moves the nose aside, in eye distances."""
    landmarks = ARCFACE_TEMPLATE * scale + torch.tensor(shift)
    landmarks[2, 0] += turn * (landmarks[1, 0] - landmarks[0, 0])
    low, high = torch.tensor(shift), torch.tensor(shift) + 112 * scale
    return torch.cat((low, high)), landmarks


def detections(*faces: tuple[torch.Tensor, ...]) -> Detections:
    boxes, landmarks = (torch.stack(column) for column in zip(*faces, strict=True))
    return Detections(torch.zeros(len(faces), dtype=torch.int64), boxes, landmarks, torch.full((len(faces),), 0.9))


def sharp(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 112, 112), dtype=torch.uint8)


def judge(found: Detections, crops: torch.Tensor, confirmation: float = 0.95):
    return measure(found, crops, (500, 900), POLICY, lambda crops: torch.full((len(crops),), confirmation))


def test_each_reason():
    scrambled = face(1.0)
    found = detections(
        face(1.0),
        face(0.1),
        face(1.0, (-60.0, 100.0)),
        (scrambled[0], scrambled[1][[3, 1, 4, 0, 2]]),
        face(1.0, turn=1.2),
        face(1.0),
    )
    crops = sharp(6)
    crops[5] = 77
    assert judge(found, crops).dropped == (
        None,
        "too_small",
        "outside_frame",
        "implausible_landmarks",
        "profile",
        "too_blurred",
    )


def test_a_face_that_is_not_found_again_is_unconfirmed():
    quality = judge(detections(face(1.0)), sharp(1), confirmation=0.3)
    assert quality.dropped == ("unconfirmed",)
    assert quality.scores.tolist() == [0.0]


def test_only_faces_in_doubt_are_looked_at_again():
    """The small face is dropped anyway, and the detector is sure of the third: neither is confirmed."""
    asked = []

    def confirm(crops: torch.Tensor) -> torch.Tensor:
        asked.append(len(crops))
        return torch.ones(len(crops))

    found = detections(face(0.1), face(1.0), face(1.0))
    found.scores[2] = 0.995
    measure(found, sharp(3), (500, 900), POLICY, confirm)
    assert asked == [1]


def test_quality_falls_with_size_turn_and_blur():
    crops = sharp(4)
    crops[3] = crops[3] // 16 + 100
    quality = judge(detections(face(1.0), face(0.3), face(1.0, turn=0.5), face(1.0)), crops)
    assert quality.dropped == (None,) * 4
    assert (quality.scores[1:] < quality.scores[0]).all()
    assert quality.scores[0] > 0.85
    assert ((quality.scores >= 0) & (quality.scores <= 1)).all()


def test_a_dropped_face_has_no_quality():
    assert judge(detections(face(0.1)), sharp(1)).scores.tolist() == [0.0]


def test_no_face():
    quality = measure(Detections.empty(), sharp(0), (500, 900), POLICY, lambda crops: torch.zeros(len(crops)))
    assert quality.scores.shape == (0,)
    assert quality.dropped == ()


def test_a_flat_crop_has_no_sharpness():
    assert sharpness(torch.full((2, 3, 112, 112), 31, dtype=torch.uint8)).tolist() == [0.0, 0.0]
    assert sharpness(sharp(0)).shape == (0,)


def test_the_astronaut_is_kept(release, photo):
    found = release.detector.detect(photo)
    quality = release.quality(found, release.align(photo, found), (512, 512))
    assert quality.dropped == (None,)
    assert quality.scores[0] > 0.7


def test_confetti_is_not_confirmed(release):
    assert release.detector.confirm(sharp(2)).max() < POLICY.min_confirmation


def measured(side, sharp, *, confirmed=float("nan"), score=1.0):
    """Measure an upright face of a size in an evidence of sharpness."""
    found = detections(face(side / 112))
    found.scores[:] = score
    evidence = Evidence(torch.tensor([sharp]), torch.tensor([confirmed]))
    return measure(found, torch.zeros(1, 3, 112, 112), (500, 900), POLICY, lambda _: torch.zeros(0), evidence)


@pytest.mark.parametrize(
    ("side", "sharp", "quality"),
    [(80.0, 20.0, 1.0), (112.0, 90.0, 1.0), (40.0, 20.0, 0.5 ** (1 / 3)), (80.0, 5.0, 0.25 ** (1 / 3)),
     (20.0, 10.0, 0.125 ** (1 / 3))],
)  # fmt: skip
def test_quality_is_the_geometric_mean_of_size_detail_and_pose(side, sharp, quality):
    assert measured(side, sharp).scores.tolist() == pytest.approx([quality], abs=0.01)  # the template leans a little


def test_quality_is_no_higher_than_what_the_detector_is_sure_of():
    assert measured(112.0, 90.0, confirmed=0.6, score=0.8).scores.tolist() == pytest.approx([0.6], abs=0.01)
    assert measured(112.0, 90.0, confirmed=0.9, score=0.8).scores.tolist() == pytest.approx([0.8], abs=0.01)


@pytest.mark.parametrize(
    ("side", "sharp", "confirmed", "reason"),
    [(16.5, 1.5, 0.5, None), (15.5, 9.0, 0.9, "too_small"), (80.0, 1.49, 0.9, "too_blurred"),
     (80.0, 9.0, 0.49, "unconfirmed")],
)  # fmt: skip
def test_a_face_is_dropped_just_below_a_limit(side, sharp, confirmed, reason):
    assert measured(side, sharp, confirmed=confirmed, score=0.98).dropped == (reason,)
