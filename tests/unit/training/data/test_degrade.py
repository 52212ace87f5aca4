from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from training.data.degrade import DEGRADATIONS, DegradationName, degrade, degrade_at_random

SIDE, COUNT = 56, 12
NAMES = sorted(DEGRADATIONS)


def faces() -> torch.Tensor:
    """(COUNT, 3, SIDE, SIDE) smooth coloured patterns with edges, 0..255."""
    place = torch.linspace(0, 3, SIDE)
    waves = torch.sin(place[:, None] * 4) * torch.cos(place * 3) * 60 + 120
    colours = torch.tensor([1.2, 1.0, 0.7])[:, None, None] * waves
    colours[:, 20:30, 15:40] += 40
    return colours.clamp(0, 255).expand(COUNT, 3, SIDE, SIDE).clone()


def at(name: DegradationName, strength: float, seed: int = 3) -> torch.Tensor:
    return degrade(faces(), name, torch.full((COUNT,), strength), torch.Generator().manual_seed(seed))


def change(name: DegradationName, strength: float) -> float:
    return float((at(name, strength) - faces()).abs().mean())


def edges(x: torch.Tensor) -> float:
    return float(((x[..., 1:] - x[..., :-1]) ** 2).mean())


@pytest.mark.parametrize("name", NAMES)
def test_a_stronger_degradation_changes_more(name):
    weak, strong = change(name, 0.1), change(name, 1.0)
    assert strong > weak
    assert strong > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_pixels_stay_in_range_and_the_input_as_it_was(name):
    crops = faces()
    found = degrade(crops, name, torch.ones(COUNT), torch.Generator().manual_seed(1))
    assert found.shape == crops.shape
    assert found.dtype == torch.float32
    assert 0 <= float(found.min()) <= float(found.max()) <= 255
    assert torch.equal(crops, faces())


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_gives_one_result_and_each_crop_has_its_own_strength(name):
    assert torch.equal(at(name, 0.7, seed=5), at(name, 0.7, seed=5))
    strength = torch.cat([torch.zeros(COUNT // 2), torch.ones(COUNT // 2)])
    found = degrade(faces(), name, strength, torch.Generator().manual_seed(5))
    changed = (found - faces()).abs().mean(dim=(1, 2, 3))
    assert float(changed[COUNT // 2 :].mean()) > float(changed[: COUNT // 2].mean())


def test_grey_leaves_no_colour():
    found = at("grey", 0.5)
    assert float((found.amax(dim=1) - found.amin(dim=1)).max()) < 1e-3


@pytest.mark.parametrize("name", ["blur", "motion", "small", "fade"])
def test_edges_become_softer(name):
    assert edges(at(name, 1.0)) < 0.8 * edges(faces())


def test_light_moves_the_mean():
    assert float(at("dark", 1.0).mean()) < 0.5 * float(faces().mean())
    assert float(at("bright", 1.0).mean()) > 1.3 * float(faces().mean())


def test_a_patch_hides_one_rectangle_and_leaves_the_rest():
    changed = (at("patch", 1.0) != faces()).any(dim=1)
    share = changed.float().mean(dim=(1, 2))
    assert 0.02 < float(share.min()) < float(share.max()) < 0.25


def test_scratches_are_narrow():
    changed = ((at("scratches", 1.0) - faces()).abs() > 25).any(dim=1)
    assert 0.01 < float(changed.float().mean()) < 0.3


def test_jpeg_comes_near_to_that_of_a_library(tmp_path):
    grey = faces()[0].mean(dim=0, keepdim=True).expand(3, SIDE, SIDE)
    path = tmp_path / "face.jpg"
    Image.fromarray(grey.permute(1, 2, 0).round().to(torch.uint8).numpy()).save(path, quality=24)
    theirs = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float()
    ours = degrade(grey[None], "jpeg", torch.tensor([0.5]), torch.Generator().manual_seed(0))[0]
    lost = (theirs - grey).abs().mean()
    assert float((ours - theirs).abs().mean()) < 0.5 * float(lost) + 0.6


def test_a_share_of_the_crops_is_degraded_at_random():
    crops = faces().repeat(20, 1, 1, 1)
    found = degrade_at_random(crops, 0.6, torch.Generator().manual_seed(2))
    changed = ((found - crops).abs() > 0).flatten(1).any(dim=1).float().mean()
    assert 0.45 < float(changed) < 0.75
    again = degrade_at_random(crops, 0.6, torch.Generator().manual_seed(2))
    assert torch.equal(found, again)
    assert torch.equal(degrade_at_random(crops, 0.0, torch.Generator().manual_seed(2)), crops)
