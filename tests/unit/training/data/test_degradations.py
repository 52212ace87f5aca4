"""Each degraded copy of a drawn crop, by the change that it stands for."""

from __future__ import annotations

import pytest
import torch

from training.data.degradations import COPIES, degraded_copy

SIDE = 112


def crops(count=6):
    """Return a checked face-like pattern in colour: fine and coarse shapes in the middle tones."""
    place = torch.arange(SIDE)
    fine = ((place[:, None] // 2 + place // 2) % 2) * 40
    coarse = ((place[:, None] // 28 + place // 28) % 2) * 60
    tones = torch.tensor([110, 80, 60])[:, None, None]
    return (tones + fine + coarse).to(torch.uint8).expand(count, -1, -1, -1).contiguous()


def copy(name, **options):
    return degraded_copy(crops(), name, **options).float()


def detail(x):
    """Return the mean step from pixel to pixel along rows."""
    return (x[..., 1:] - x[..., :-1]).abs().mean()


@pytest.mark.parametrize("name", COPIES)
def test_every_copy_is_changed_bytes_of_the_same_shape_and_repeats_by_its_seed(name):
    found = degraded_copy(crops(), name)
    assert (found.shape, found.dtype) == (crops().shape, torch.uint8)
    assert (found.float() - crops().float()).abs().mean() > 1
    assert torch.equal(found, degraded_copy(crops(), name))
    assert degraded_copy(crops(0), name).shape == (0, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    "name", ["tinted", "faded", "low light", "grain", "scratches", "patch", "rotated", "old print"]
)
def test_random_copies_differ_by_seed(name):
    assert not torch.equal(copy(name, seed=0), copy(name, seed=1))


def test_grey_copies_have_three_equal_channels_and_the_brightness_of_the_eye():
    found = copy("grey")
    assert (found.amax(dim=1) - found.amin(dim=1)).max() == 0
    expected = (crops().float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1)
    assert (found[:, 0] - expected).abs().max() <= 1
    assert (copy("old print").amax(dim=1) - copy("old print").amin(dim=1)).max() == 0


def test_light_and_colour():
    mean = crops().float().mean()
    assert copy("low light").mean() < 0.5 * mean
    assert copy("over-exposed").mean() > 1.4 * mean
    faded = copy("faded")
    assert faded.std() < 0.6 * crops().float().std()
    ratio = copy("tinted").mean(dim=(2, 3)) / crops().float().mean(dim=(2, 3))
    assert (ratio / ratio.mean(dim=1, keepdim=True) - 1).abs().max() > 0.05


@pytest.mark.parametrize(("name", "most"), [("blur", 0.4), ("48 px", 0.8), ("32 px", 0.5), ("24 px", 0.4)])
def test_fine_detail_is_lost(name, most):
    assert detail(copy(name)) < most * detail(crops().float())


def test_the_fewer_pixels_the_less_detail():
    few, some, many = (detail(copy(name)) for name in ("24 px", "32 px", "48 px"))
    assert few < some < many


def test_a_reduced_face_keeps_its_place_and_size():
    wide = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    wide[..., 28:84, 28:84] = 200
    found = degraded_copy(wide, "24 px").float()
    assert found[..., 40:72, 40:72].mean() > 190
    assert found[..., :20, :].max() < 10


def test_grain_and_jpeg_change_details_and_not_the_mean():
    for name in ("grain", "JPEG 30"):
        difference = copy(name) - crops().float()
        assert difference.mean().abs() < 2
        assert 2 < difference.std() < 40


def test_a_patch_has_one_colour_and_hides_a_part_only():
    changed = (copy("patch") != crops().float()).any(dim=1).float().mean(dim=(1, 2))
    assert changed.min() > 0.02
    assert changed.max() < 0.25


def test_scratches_run_from_top_to_bottom():
    changed = ((copy("scratches") - crops().float()).abs().amax(dim=1) > 20).any(dim=2)
    assert changed.float().mean() > 0.9
    columns = ((copy("scratches") - crops().float()).abs().amax(dim=1) > 20).float().mean(dim=(1, 2))
    assert columns.max() < 0.3


def test_turning_keeps_the_middle_and_moves_the_edge():
    point = torch.zeros(40, 3, SIDE, SIDE, dtype=torch.uint8)
    point[..., 52:60, 100:108] = 255  # to the right of the middle
    found = degraded_copy(point, "rotated").float()[:, 0]
    rows, columns = (found.sum(dim=axis) @ torch.arange(SIDE).float() / found.sum(dim=(1, 2)) for axis in (2, 1))
    angle = torch.rad2deg(torch.atan2(rows - 55.5, columns - 55.5))
    assert angle.abs().max() <= 31
    assert angle.max() > 15
    assert angle.min() < -15
