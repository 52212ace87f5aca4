from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from models import geometry
from models.geometry import ARCFACE_TEMPLATE, align, invert, similarity_transforms


def turned(points: torch.Tensor, degrees: float, scale: float, shift: tuple[float, float]) -> torch.Tensor:
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return scale * points @ turn.T + torch.tensor(shift)


CASES = [(0.0, 1.0, (0.0, 0.0)), (30.0, 2.5, (311.0, 97.0)), (-170.0, 0.13, (11.0, 5.0)), (90.0, 17.0, (-40.0, 9.0))]


@pytest.mark.parametrize(("degrees", "scale", "shift"), CASES)
def test_transform_undoes_a_similarity(degrees, scale, shift):
    landmarks = turned(ARCFACE_TEMPLATE, degrees, scale, shift)[None]
    transform = similarity_transforms(landmarks, ARCFACE_TEMPLATE)[0]
    back = landmarks[0] @ transform[:, :2].T + transform[:, 2]
    assert torch.allclose(back, ARCFACE_TEMPLATE, atol=1e-3)


def test_transforms_are_of_each_face_alone():
    landmarks = torch.stack([turned(ARCFACE_TEMPLATE, *case) for case in CASES])
    together = similarity_transforms(landmarks, ARCFACE_TEMPLATE)
    alone = torch.cat([similarity_transforms(one[None], ARCFACE_TEMPLATE) for one in landmarks])
    assert torch.equal(together, alone)


def test_a_mirrored_face_is_not_mirrored_back():
    landmarks = (ARCFACE_TEMPLATE * torch.tensor([-1.0, 1.0]))[None]
    transform = similarity_transforms(landmarks, ARCFACE_TEMPLATE)[0, :, :2]
    assert torch.linalg.det(transform) > 0


def test_inverse():
    transform = similarity_transforms(turned(ARCFACE_TEMPLATE, 20.0, 3.0, (7.0, 8.0))[None], ARCFACE_TEMPLATE)
    there_and_back = invert(invert(transform))
    assert torch.allclose(there_and_back, transform, atol=1e-4)


def test_landmarks_in_one_point_are_no_error():
    transform = similarity_transforms(torch.full((1, 5, 2), 9.0), ARCFACE_TEMPLATE)
    assert transform.isfinite().all()
    assert align(
        torch.zeros(1, 3, 20, 30, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), torch.full((1, 5, 2), 9.0)
    ).shape == (1, 3, 112, 112)


def test_no_face():
    crops = align(torch.zeros(2, 3, 41, 53, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 5, 2))
    assert crops.shape == (0, 3, 112, 112)
    assert crops.dtype == torch.uint8


def test_a_face_that_lies_on_the_template_is_copied():
    frames = torch.randint(0, 256, (3, 3, 112, 112), dtype=torch.uint8)
    crops = align(frames, torch.tensor([2, 0]), ARCFACE_TEMPLATE.expand(2, 5, 2))
    assert (crops.int() - frames[[2, 0]].int()).abs().max() <= 1


def test_a_shift_by_whole_pixels_is_exact_and_outside_is_black():
    frame = torch.randint(1, 256, (1, 3, 131, 149), dtype=torch.uint8)
    crop = align(frame, torch.tensor([0]), (ARCFACE_TEMPLATE + torch.tensor([60.0, -10.0]))[None])[0]
    assert (crop[:, 10:, :89].int() - frame[0, :, :102, 60:].int()).abs().max() <= 1
    assert crop[:, :9].max() == 0
    assert crop[:, :, 90:].max() == 0


def test_a_face_far_outside_is_black():
    frame = torch.full((1, 3, 31, 37), 255, dtype=torch.uint8)
    for shift in (-5000.0, 5000.0):
        assert align(frame, torch.tensor([0]), (ARCFACE_TEMPLATE + shift)[None]).max() == 0


@pytest.mark.parametrize("scale", [2, 3, 7, 9, 17])
def test_a_large_face_is_averaged_not_sampled(scale):
    """A checkerboard finer than the crop becomes grey; picking pixels would leave black and white."""
    y, x = torch.meshgrid(torch.arange(112 * scale), torch.arange(112 * scale), indexing="ij")
    frame = ((x + y) % 2 * 255).to(torch.uint8).expand(1, 3, -1, -1)
    crop = align(frame, torch.tensor([0]), (ARCFACE_TEMPLATE * scale)[None])[0]
    inner = crop[:, 4:-4, 4:-4].float()
    assert (inner - 127.5).abs().max() < 20


@pytest.mark.parametrize("degrees", [0.0, 33.0])
def test_crops_of_one_scene_at_many_sizes_agree(photo, degrees):
    eyes = turned(ARCFACE_TEMPLATE - 56, degrees, 1.7, (225.0, 120.0))
    crops = []
    for scale in (0.5, 1.0, 2.0, 5.0):
        frame = torch.nn.functional.interpolate(photo.float(), scale_factor=scale, mode="bilinear", antialias=True)
        crops.append(align(frame.round().to(torch.uint8), torch.tensor([0]), (eyes * scale)[None])[0].float())
    for crop in crops:
        assert (crop - crops[1]).abs().mean() < 6


def test_a_crop_does_not_depend_on_other_faces(photo):
    landmarks = torch.stack(
        [turned(ARCFACE_TEMPLATE - 56, a, s, (230.0, 130.0)) for a, s in ((0.0, 0.4), (50.0, 3.5), (9.0, 1.3))]
    )
    index = torch.zeros(3, dtype=torch.int64)
    together = align(photo, index, landmarks)
    assert torch.equal(together, torch.cat([align(photo, index[:1], one[None]) for one in landmarks]))
    assert torch.equal(together, align(photo.contiguous(memory_format=torch.channels_last), index, landmarks))


def bilinear(plane: torch.Tensor, x: float, y: float) -> float:
    """Read a plane, whose pixels' centres lie at + 0.5, between them."""
    left, top = math.floor(x - 0.5), math.floor(y - 0.5)
    across, down = x - 0.5 - left, y - 0.5 - top
    rows = plane[top : top + 2, left : left + 2].double()
    columns = rows @ torch.tensor([1 - across, across], dtype=torch.float64)
    return float(columns @ torch.tensor([1 - down, down], dtype=torch.float64))


@pytest.mark.parametrize(
    ("scale", "places"), [(0.3, (0.0,)), (1.0, (0.0,)), (1.2, (0.0,)), (1.5, (-0.25, 0.25)), (1.9, (-0.25, 0.25))]
)
@pytest.mark.parametrize(("degrees", "shift"), [(0.0, (3.3, 5.6)), (0.0, (10.05, 9.95)), (17.0, (70.2, 4.6))])
def test_a_crop_pixel_is_the_mean_of_four_places_around_its_centre(scale, places, degrees, shift):
    """Computed by hand, point by point; below 1.25 source pixels to one of the crop, its centre is enough."""
    frame = torch.randint(0, 256, (1, 3, 290, 281), dtype=torch.uint8, generator=torch.Generator().manual_seed(11))
    crop = align(frame, torch.tensor([0]), turned(ARCFACE_TEMPLATE, degrees, scale, shift)[None])[0]
    for row, column in ((0, 0), (0, 111), (111, 0), (111, 111), (17, 95), (56, 57), (101, 30)):
        spots = torch.tensor([(column + 0.5 + x, row + 0.5 + y) for x in places for y in places])
        found = turned(spots, degrees, scale, shift).tolist()
        for plane, drawn in zip(frame[0], crop[:, row, column].tolist(), strict=True):
            mean = sum(bilinear(plane, *spot) for spot in found) / len(found)
            assert drawn == pytest.approx(mean, abs=0.7)


def test_the_template_is_that_of_arcface_in_coordinates_whose_pixel_centres_are_halves():
    published = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    assert torch.allclose(ARCFACE_TEMPLATE, torch.tensor(published) + 0.5, atol=1e-4)


def test_landmarks_that_are_nearly_one_point_are_only_shifted():
    for spread, one_point in ((0.009, True), (0.02, False)):
        landmarks = 40 + spread * torch.tensor([[-1.0, 0], [1, 0], [0, 0], [0, -1], [0, 1]])[None]  # 4 spread^2
        scale = float(similarity_transforms(landmarks, ARCFACE_TEMPLATE)[0, 0, 0])
        assert (scale == 1.0) is one_point


@pytest.mark.parametrize("factor", [2, 3])
def test_a_large_face_is_the_mean_of_its_pixels(factor):
    """At a whole number of source pixels to one of the crop, each crop pixel is about the mean of its own ones."""
    ramp = torch.arange(160 * factor).float() / factor
    frame = torch.stack(
        [ramp.expand(160 * factor, -1), ramp[:, None].expand(-1, 160 * factor), torch.zeros(160 * factor, 160 * factor)]
    )
    landmarks = ((ARCFACE_TEMPLATE + torch.tensor([20.0, 10.0])) * factor)[None]
    crop = align(frame.round().to(torch.uint8)[None], torch.tensor([0]), landmarks)[0].float()
    centres = torch.arange(112) + 0.5
    assert (crop[0] - (centres + 20 - 0.5 / factor)).abs().max() <= 1
    assert (crop[1] - (centres + 10 - 0.5 / factor)[:, None]).abs().max() <= 1


def test_many_faces_are_cut_as_one_by_one():
    frames = torch.randint(0, 256, (2, 3, 90, 110), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    landmarks = torch.stack([turned(ARCFACE_TEMPLATE, n, 0.4 + 0.01 * n, (n, 0.5 * n)) for n in range(70)])
    index = torch.arange(70) % 2
    together = align(frames, index, landmarks)
    for row in (0, 31, 32, 33, 63, 64, 69):
        assert torch.equal(together[row], align(frames, index[row : row + 1], landmarks[row : row + 1])[0])


def test_surroundings_are_cut_no_larger_than_needed_and_scaled_as_bytes(monkeypatch):
    """A large face costs little more than a small one: patches of at most 320 pixels, no copy of it as floats."""
    patches, scaled = [], []

    def sample(patch, *args, **kwargs):
        patches.append(patch.shape)
        return torch.nn.functional.grid_sample(patch, *args, **kwargs)

    def shrink(pixels, **kwargs):
        scaled.append(pixels.dtype)
        return torch.nn.functional.interpolate(pixels, **kwargs)

    monkeypatch.setattr(geometry, "functional", SimpleNamespace(grid_sample=sample, interpolate=shrink))
    frame = torch.zeros(1, 3, 1000, 1000, dtype=torch.uint8)
    for degrees, scale, side in ((0.0, 0.9, 128), (45.0, 1.9, 320), (45.0, 2.9, 256), (0.0, 5.0, 128)):
        align(frame, torch.tensor([0]), turned(ARCFACE_TEMPLATE - 56, degrees, scale, (500.0, 500.0))[None])
        assert patches.pop() == (1, 3, side, side)
    assert scaled == [torch.uint8] * 2
