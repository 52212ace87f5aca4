"""Which faces are searched again, and when two angles of a face agree."""

from __future__ import annotations

import math

import pytest
import torch

from models.detection.candidates import LARGE_SIDE, CandidateFaces
from models.detection.finding import QUARTERS, Search, _agrees, _quarter, _worth_checking
from models.detection.upright import Upright
from models.geometry import ARCFACE_TEMPLATE
from models.quality import QualityPolicy
from models.types import Detections

POLICY = QualityPolicy()


def faces_at(degrees, *, side=112.0):
    """Return one face a row, turned clockwise in the plane of the image."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float32))
    turns = torch.stack((angles.cos(), -angles.sin(), angles.sin(), angles.cos()), 1).reshape(-1, 2, 2)
    landmarks = (ARCFACE_TEMPLATE - 56) * side / 112 @ turns.mT + 300
    boxes = torch.tensor([[300 - side / 2] * 2 + [300 + side / 2] * 2]).repeat(len(degrees), 1)
    count = len(degrees)
    return Detections(torch.zeros(count, dtype=torch.int64), boxes, landmarks, torch.full((count,), 0.9))


@pytest.mark.parametrize(
    ("given", "around", "agrees"),
    [(0, 0, True), (20, 20, True), (20, 45, True), (20, 55, False), (-20, -45, True), (-20, 20, False),
     (50, 50, False)],
)  # fmt: skip
def test_a_face_agrees_with_its_surroundings_where_both_angles_are_near(given, around, agrees):
    found = faces_at([given])
    for seen in (True, False):
        upright = Upright(found, torch.tensor([seen]), torch.deg2rad(torch.tensor([float(around)])))
        assert _agrees(upright, found).tolist() == [agrees and seen]


def candidates(confirmed, side):
    found = faces_at([0] * len(confirmed), side=side)
    blank, ones = torch.zeros(len(confirmed), 3, 112, 112, dtype=torch.uint8), torch.ones(len(confirmed))
    return CandidateFaces(found, blank, 9 * ones, 9 * ones, torch.tensor(confirmed))


@pytest.mark.parametrize("side", [LARGE_SIDE, LARGE_SIDE - 1])
def test_large_faces_of_a_video_are_checked_where_none_is_plainly_upright(side):
    faces = candidates([0.9, 0.5, 0.1], side)
    size = torch.full((3,), side)
    doubtful = torch.tensor([True, True, True])
    is_large = side >= LARGE_SIDE
    assert _worth_checking(faces, doubtful, size, POLICY).tolist() == [True, True, is_large]
    doubtful[0] = False
    assert _worth_checking(faces, doubtful, size, POLICY).tolist() == [True, True, False]


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_box_found_in_a_turned_frame_is_that_of_the_frame(release, photo, quarter):
    assert quarter in QUARTERS
    frame = torch.rot90(photo[:, :, :400], -quarter, (2, 3)).contiguous()
    (found,) = _quarter(release, frame, torch.tensor([0]), quarter, Search()).boxes
    left, top, right, bottom = release.detector.detect(photo[:, :, :400]).boxes[0].tolist()
    height, width = 400, 512
    expected = {
        1: (height - bottom, left, height - top, right),
        2: (width - right, height - bottom, width - left, height - top),
        3: (top, width - right, bottom, width - left),
    }
    assert found.tolist() == pytest.approx(expected[quarter], abs=1e-3)
    assert math.isclose((found[2] - found[0]) * (found[3] - found[1]), (right - left) * (bottom - top), rel_tol=1e-4)
