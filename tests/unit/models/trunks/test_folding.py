from __future__ import annotations

import pytest
import torch
from torch import nn

from models.trunks.folding import fold_batch_norm, freeze, freeze_to
from models.trunks.registry import create_trunk, list_trunks


def lively(trunk: nn.Module) -> nn.Module:
    """Set every normalisation to other statistics than those of an untrained one."""
    generator = torch.Generator().manual_seed(4)
    for layer in trunk.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low in ((layer.weight, 0.5), (layer.bias, -0.2), (layer.running_mean, -0.2)):
                tensor.data.uniform_(low, low + 0.7, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    return trunk


@pytest.mark.parametrize(
    "name",
    [
        *("face24-w0.5-r116", "mobilenet-w0.5-r64", "resnet18-r64", "resnet50-r64", "mobilenet_v2-r64"),
        *("mobilenet_v3-r64", "densenet121-r64", "vgg19_bn-r64", "xception-r64", "efficientnet_lite0-r64"),
    ],
)
@torch.no_grad()
def test_folding_changes_no_output(name):
    torch.manual_seed(8)
    trunk = freeze(lively(create_trunk(name)))
    side = trunk.layout.side
    crops = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    expected = trunk(crops)
    fold_batch_norm(trunk)
    left = sum(isinstance(layer, nn.BatchNorm2d) for layer in trunk.modules())
    assert left == (62 if name.startswith("densenet") else 0), "those before convolutions stay"
    assert (trunk(crops) - expected).abs().max() < 1e-5


def test_a_normalisation_of_something_else_stays():
    network = freeze(nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.BatchNorm2d(5)))
    assert isinstance(fold_batch_norm(network)[2], nn.BatchNorm2d)


@pytest.mark.parametrize("name", list_trunks())
def test_a_frozen_part_does_not_learn(name):
    trunk = create_trunk(name).train()
    names = list(trunk.layers)
    assert freeze_to(trunk, names[1]) == names[2:]
    learning = {depth: all(p.requires_grad for p in trunk.layers[depth].parameters()) for depth in names}
    assert learning == {depth: place > 1 for place, depth in enumerate(names)}
    assert [trunk.layers[depth].training for depth in names[:3]] == [False, False, True]
    with pytest.raises(ValueError, match="unknown depth"):
        freeze_to(trunk, "nowhere")
