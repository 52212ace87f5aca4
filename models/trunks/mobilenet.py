"""mobilenet: MobileNetV1, 28 layers of which 26 are the halves of depthwise-separable convolutions.

Source: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
arXiv:1704.04861, table 1, with its two multipliers: `mobilenet-w0.5-r96` has half the channels and crops of 96 pixels.
The 28th layer, the classifier, is no part of a trunk. Nobody's weights are read here: it is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from models.trunks.averaged import AveragedTrunk, Step
from models.trunks.base import register_trunk

if TYPE_CHECKING:
    from collections.abc import Mapping

# conv_1 is a full convolution, conv_2 to conv_14 are depthwise-separable ones.
_STEPS = (
    *(Step(32, 2), Step(64), Step(128, 2), Step(128), Step(256, 2), Step(256), Step(512, 2)),
    *((Step(512),) * 5),
    *(Step(1024, 2), Step(1024)),
)


def rectified_convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, ...]:
    """Return a convolution without bias, batch normalisation and ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(outputs), nn.ReLU()


@register_trunk("mobilenet")
class MobileNet(AveragedTrunk):
    """The trunk: (N, 3, 224, 224) aligned faces to (N, 1024) embeddings; 0.57 GMAC."""

    steps: ClassVar[Mapping[str, Step]] = {f"conv_{number}": step for number, step in enumerate(_STEPS, 1)}
    has_widths = True

    def build(self, channels: Mapping[str, int]) -> dict[str, nn.Module]:
        """Build the layers."""
        layers: dict[str, nn.Module] = {}
        entered = 3
        for depth, step in self.steps.items():
            outputs = channels[depth]
            if layers:
                depthwise = rectified_convolution(entered, entered, 3, step.stride, groups=entered)
                layers[depth] = nn.Sequential(*depthwise, *rectified_convolution(entered, outputs, 1))
            else:
                layers[depth] = nn.Sequential(*rectified_convolution(entered, outputs, 3, step.stride))
            entered = outputs
        return layers
