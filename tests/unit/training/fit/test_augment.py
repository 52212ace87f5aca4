from __future__ import annotations

from dataclasses import replace

import torch

from training.fit.augment import AugmentOptions, augment

NOTHING = AugmentOptions(
    mirror=0, rotation_degrees=0, scale=0, shift=0, brightness=0, contrast=0, grey=0, coarse=0, erase=0
)
SIDE, PIXELS = 64, 8


def test_uniform_shifts_reach_their_bound_and_no_further():
    crops = torch.zeros(600, 3, SIDE, SIDE)
    crops[:, :, 32, 32] = 255  # one bright pixel
    moved = augment(crops, replace(NOTHING, uniform_shift=PIXELS / SIDE), torch.Generator().manual_seed(3))
    place = torch.arange(SIDE).float()
    light = moved[:, 0] / moved[:, 0].sum((1, 2), keepdim=True)
    offsets = torch.stack([(light.sum(1) * place).sum(1), (light.sum(2) * place).sum(1)]) - 32
    assert float(offsets.abs().max()) <= PIXELS + 0.05
    assert float(offsets.abs().max()) > PIXELS - 0.2
    shares = [float((offsets.abs() < bound).float().mean()) for bound in (2, 4, 6)]
    assert all(abs(share - expected) < 0.05 for share, expected in zip(shares, (0.25, 0.5, 0.75), strict=True))


def test_other_changes_are_drawn_as_before_where_there_are_no_uniform_shifts():
    crops = torch.randint(0, 256, (6, 3, SIDE, SIDE), dtype=torch.uint8)
    generators = [torch.Generator().manual_seed(9) for _ in range(2)]
    one, other = (
        augment(crops, replace(AugmentOptions(), uniform_shift=share), generator)
        for share, generator in zip((0.0, 0.1), generators, strict=True)
    )
    assert not torch.equal(one, other)
    assert not torch.equal(generators[0].get_state(), generators[1].get_state())
