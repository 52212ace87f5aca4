"""Batches for orientation: crops drawn from patches, changes, and that a step's batch is always the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.data.turned_crops import TurnedCrops
from training.errors import DataError
from training.fit import turned_batches
from training.fit.turned_batches import TurnedBatches, change, draw_crops


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def data(patches=3, upright=5, turned=7):
    random = np.random.default_rng(0)
    labels = np.array([True] * upright + [False] * turned)
    crops = np.where(labels[:, None, None], 200, 40) + random.integers(0, 9, (len(labels), 56, 56))
    return TurnedCrops(random.integers(90, 160, (patches, 160, 160)).astype(np.uint8), crops.astype(np.uint8), labels)


@pytest.fixture
def exact(monkeypatch):
    """Draw without variation: upright at 0 degrees, turned at 90."""
    for name in ("UPRIGHT_DEGREES", "UPRIGHT_SIZE", "UPRIGHT_SHIFT", "TURNED_SHIFT"):
        monkeypatch.setattr(turned_batches, name, 0.0)
    monkeypatch.setattr(turned_batches, "TURNED_DEGREES", (90.0, 90.0))
    monkeypatch.setattr(turned_batches, "TURNED_SIZE", (0.0, 0.0))


def test_an_upright_crop_is_the_middle_of_its_patch(exact):
    y, x = torch.meshgrid(torch.arange(160.0) + 0.5, torch.arange(160.0) + 0.5, indexing="ij")
    upright = draw_crops(torch.stack((x, y))[:, None], generator(), upright=True)
    place = 48 + (torch.arange(56) + 0.5) * 64 / 56
    assert (upright[0, 0] - place).abs().max() < 1e-3
    assert (upright[1, 0] - place[:, None]).abs().max() < 1e-3


def test_a_turned_crop_is_the_upright_one_turned(exact):
    patches = torch.rand(2, 1, 160, 160, generator=generator())
    upright = draw_crops(patches, generator(), upright=True)
    turned = draw_crops(patches, generator(), upright=False)
    assert (turned - upright.rot90(1, (2, 3))).abs().max() < 1e-4 or (
        turned - upright.rot90(-1, (2, 3))
    ).abs().max() < 1e-4


def test_drawn_crops_never_reach_beyond_their_patch():
    patches = torch.full((400, 1, 160, 160), 200.0)
    for upright in (True, False):
        assert draw_crops(patches, generator(1), upright=upright).min() > 199


def test_turned_crops_are_turned_by_25_degrees_or_more():
    """A patch whose brightness rises to the right: its slope in the crop shows the angle."""
    patches = torch.arange(160.0).expand(300, 1, 160, 160)
    for upright, low, high in ((True, 0, 20), (False, 25, 180)):
        crops = draw_crops(patches, generator(2), upright=upright)[:, 0]
        across, down = (crops[:, 28, 40] - crops[:, 28, 16]), (crops[:, 40, 28] - crops[:, 16, 28])
        angles = torch.atan2(down, across).rad2deg().abs()
        assert low <= angles.min() + 0.01
        assert angles.max() <= high


def test_changed_crops_stay_grey_levels_of_their_size():
    crops = torch.rand(300, 1, 56, 56, generator=generator()) * 255
    before = crops.clone()
    found = change(crops, generator(1))
    assert found.shape == crops.shape
    assert found.min() >= 0
    assert found.max() <= 255
    assert torch.equal(crops, before)
    unchanged = (found == crops).flatten(1).all(1).float().mean()
    assert 0.05 < unchanged < 0.25
    assert torch.equal(found, change(crops, generator(1)))
    assert not torch.equal(found, change(crops, generator(2)))


@pytest.mark.parametrize("name", ["_blur", "_coarsen"])
def test_blur_and_coarseness_lose_contrast_and_no_brightness(name):
    crops = torch.rand(9, 1, 56, 56, generator=generator()) * 100 + 50
    crops[0] = 77
    found = getattr(turned_batches, name)(crops.clone(), generator(1))
    assert (found[0] - 77).abs().max() < 1e-3
    assert (found.mean((1, 2, 3)) - crops.mean((1, 2, 3))).abs().max() < 1.5
    assert (found[1:].std((1, 2, 3)) < crops[1:].std((1, 2, 3))).all()


def test_each_crop_is_blurred_by_itself():
    crops = torch.zeros(2, 1, 56, 56)
    crops[0, 0, 28, 28] = 255
    found = turned_batches._blur(crops, generator())
    assert found[1].max() == 0
    assert found[0].sum() == pytest.approx(255, rel=1e-4)
    assert torch.allclose(found[0, 0], found[0, 0].T, atol=1e-4)


def test_a_hidden_part_is_a_plain_rectangle():
    crops = torch.full((40, 1, 56, 56), -1.0)
    found = turned_batches._hide(crops, generator())[:, 0]
    for crop in found:
        rows, columns = (crop >= 0).any(1), (crop >= 0).any(0)
        assert 8 <= rows.sum() <= 25
        assert 8 <= columns.sum() <= 25
        assert (crop >= 0).sum() == rows.sum() * columns.sum()
        assert len(crop.unique()) == 2


def test_a_batch_has_four_equal_parts_and_follows_from_its_step(monkeypatch):
    monkeypatch.setattr(turned_batches, "change", lambda crops, generator: crops)
    batches = TurnedBatches(data(), 20, seed=0, device=torch.device("cpu"))
    batch = batches.take(4)
    assert batch.crops.shape == (20, 1, 56, 56)
    assert batch.upright.tolist() == [1.0] * 5 + [0.0] * 5 + [1.0] * 5 + [0.0] * 5
    level = batch.crops.mean((1, 2, 3))
    assert (level[:10] - 125).abs().max() < 5
    assert (level[10:15] > 195).all()
    assert (level[15:] < 50).all()
    assert torch.equal(batch.crops, batches.take(4).crops)
    assert not torch.equal(batch.crops, batches.take(5).crops)


@pytest.mark.parametrize("lacking", [{"patches": 0}, {"upright": 0}, {"turned": 0}])
def test_data_without_one_kind_is_refused(lacking):
    with pytest.raises(DataError, match="take more images"):
        TurnedBatches(data(**lacking), 20, 0, torch.device("cpu"))
