"""Receptive fields: by hand, and against the gradients of real trunks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torchvision.ops.misc import SqueezeExcitation

from models.manifest import TRUNK_FILE, read_manifest
from models.release import DEFAULT
from models.trunks.receptive_fields import ReceptiveField, Window, field_behind, receptive_field
from models.trunks.registry import create_trunk, layout_of, list_trunks
from models.weights import load_into, read_weights

# Of conv_1 to conv_7: a full 3 x 3 convolution, then a depthwise 3 x 3 and a pointwise one each.
SFACE_TO_CONV_7 = (
    Window(3, 1, 1),
    *(window for stride in (1, 2, 1, 2, 1, 2) for window in (Window(3, stride, 1), Window(1))),
)


def test_windows_in_a_row_have_the_field_that_they_have_by_hand():
    assert field_behind([]) == ReceptiveField(0, 1, 1)
    assert field_behind([Window(7, 2, 3)]) == ReceptiveField(-3, 7, 2)
    assert field_behind([Window(7, 2, 3), Window(3, 2)]) == ReceptiveField(-3, 11, 4)
    assert field_behind([Window(3, 1, 2, dilation=2)]) == ReceptiveField(-2, 5, 1)
    assert field_behind(SFACE_TO_CONV_7) == ReceptiveField(-15, 31, 8)
    assert field_behind(SFACE_TO_CONV_7).centre == 0.5


def test_the_rectangle_of_a_place_lies_within_the_crop():
    field = ReceptiveField(-15, 31, 8)
    assert field.rectangle(row=5, column=7, side=112) == (41, 25, 72, 56)
    assert field.rectangle(row=0, column=13, side=112) == (89, 0, 112, 16)
    assert field.stretch(2, 4, 112) == (1, 48)


def test_fields_of_one_step_are_joined_and_others_refused():
    one, other = ReceptiveField(-4, 9, 2), ReceptiveField(-1, 7, 2)
    assert one.joined(other) == other.joined(one) == ReceptiveField(-4, 10, 2)
    with pytest.raises(ValueError, match="every 2 and every 4 pixels"):
        one.joined(replace(other, step=4))


def test_the_windows_of_a_trunk_are_those_that_run():
    layout = layout_of("sface")
    assert receptive_field(layout, "conv_7") == field_behind(SFACE_TO_CONV_7)
    assert receptive_field(layout, "conv_12") == ReceptiveField(-55, 111, 8)
    with pytest.raises(ValueError, match="'embedding' has no map"):
        receptive_field(layout, "embedding")
    with pytest.raises(ValueError, match="no trunk 'other'"):
        receptive_field(replace(layout, family="other"), "conv_7")


def test_a_map_of_one_cell_sees_the_whole_crop():
    layout = layout_of("face24-r64")
    assert receptive_field(layout, "bn320").rectangle(0, 0, 64) == (0, 0, 64, 64)


def seen(trunk, depth, row, column, count=1):
    """Return the rectangle of the pixels that a place of a map depends on, by its gradient for some crops."""
    side = trunk.layout.side
    crops = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3)) * 255
    crops.requires_grad_()
    found = trunk.forward_intermediates(crops, (depth,))[depth]
    weights = torch.randn(found.shape[1], generator=torch.Generator().manual_seed(4))
    (found[:, :, row, column] @ weights).sum().backward()
    rows, columns = (torch.nonzero(crops.grad.abs().sum((0, 1, axis)))[:, 0] for axis in (3, 2))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def places(layout, depth):
    """Return rows and columns: a corner, and places off the middle whose rectangles the crop's edge may not cut."""
    cells = layout.maps[depth][1]
    return (0, 0), (cells // 2, cells // 2 - 1), (cells // 3, cells - 1)


@pytest.mark.parametrize("depth", ["conv_1", "conv_7", pytest.param("conv_12", marks=pytest.mark.slow)])
def test_the_shipped_trunk_depends_on_just_these_pixels(depth):
    manifest = read_manifest(DEFAULT)
    trunk = create_trunk(manifest.trunk)
    load_into(trunk, read_weights(DEFAULT / TRUNK_FILE), "trunk")
    field = receptive_field(trunk.layout, depth)
    for row, column in places(trunk.layout, depth):
        assert seen(trunk, depth, row, column) == field.rectangle(row, column, trunk.layout.side)


@pytest.mark.slow
@pytest.mark.parametrize("family", list_trunks())
def test_a_place_of_any_trunk_depends_on_just_these_pixels(family, monkeypatch):
    scale = SqueezeExcitation._scale
    monkeypatch.setattr(SqueezeExcitation, "_scale", lambda self, x: scale(self, x).detach())  # gates do not count
    torch.manual_seed(0)
    trunk = create_trunk(family).eval()
    layout = trunk.layout
    fields = {depth: receptive_field(layout, depth) for depth in layout.maps}
    inside = [depth for depth, field in fields.items() if field.size < layout.side]
    for depth in (inside[0], inside[-1]):
        row, column = places(layout, depth)[1]
        assert seen(trunk, depth, row, column, count=2) == fields[depth].rectangle(row, column, layout.side)
