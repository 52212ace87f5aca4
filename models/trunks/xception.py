"""xception: depthwise-separable convolutions in residual blocks.

Source: Chollet 2016, "Xception: Deep Learning with Depthwise Separable Convolutions", arXiv:1610.02357, figure 5.
Convolutions of the stem are padded, which the paper does for all others. Nobody's weights are read here: it is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from models.trunks.averaged import AveragedTrunk, Step
from models.trunks.base import register_trunk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_FIRST = 32  # channels of the first convolution of the stem
_EXIT_MIDDLE = 1536  # channels of the first separable convolution behind the blocks
# Channels of the separable convolutions of each block; the last ones are those of its map.
_MIDDLE = (728, 728, 728)  # of the blocks that keep the side
_BLOCKS = ((128, 128), (256, 256), (728, 728), *(_MIDDLE,) * 8, (728, 1024))


def separable(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """Return a depthwise 3 x 3 convolution, a pointwise one and batch normalisation; nothing lies between the two."""
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return depthwise, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)


class XceptionBlock(nn.Module):
    """Separable convolutions, each behind a ReLU, and a shortcut, which is a 1 x 1 convolution where shapes change."""

    def __init__(self, inputs: int, channels: tuple[int, ...], stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for entered, outputs in zip((inputs, *channels), channels, strict=False):
            layers += [nn.ReLU(), *separable(entered, outputs)]
        self.convolutions = nn.Sequential(*layers, *([nn.MaxPool2d(3, stride, 1)] if stride > 1 else []))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            conv = nn.Conv2d(inputs, channels[-1], 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, h, w) to (N, outputs, h / stride, w / stride)."""
        total: Tensor = self.convolutions(x) + self.shortcut(x)
        return total


@register_trunk("xception")
class Xception(AveragedTrunk):
    """The trunk: (N, 3, 224, 224) aligned faces to (N, 2048) embeddings; 4.6 GMAC."""

    steps: ClassVar[Mapping[str, Step]] = {
        "stem": Step(64, 2),
        **{
            f"block{number}": Step(channels[-1], 1 if channels == _MIDDLE else 2)
            for number, channels in enumerate(_BLOCKS, 1)
        },
        "exit": Step(2048),
    }

    def build(self, channels: Mapping[str, int]) -> dict[str, nn.Module]:
        """Build the layers."""
        entered = channels["stem"]
        first = (nn.Conv2d(3, _FIRST, 3, 2, 1, bias=False), nn.BatchNorm2d(_FIRST), nn.ReLU())
        second = (nn.Conv2d(_FIRST, entered, 3, 1, 1, bias=False), nn.BatchNorm2d(entered), nn.ReLU())
        layers: dict[str, nn.Module] = {"stem": nn.Sequential(*first, *second)}
        for number, inside in enumerate(_BLOCKS, 1):
            layers[f"block{number}"] = XceptionBlock(entered, inside, self.steps[f"block{number}"].stride)
            entered = inside[-1]
        middle = (*separable(entered, _EXIT_MIDDLE), nn.ReLU())
        layers["exit"] = nn.Sequential(*middle, *separable(_EXIT_MIDDLE, channels["exit"]), nn.ReLU())
        return layers
