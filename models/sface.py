"""SFace: the identity-trained trunk that every branch leaves at its own depth.

Source: Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition" (2021),
arXiv:2205.12010; weights of OpenCV Zoo, face_recognition_sface_2021dec (Apache-2.0).

A plain chain (MobileNetV1 with PReLU) of 27 convolutions and one linear layer. Batch normalisation and the scaling of
the input are folded in; `training.convert` makes these weights from the published ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Collection

CROP_SIDE = 112  # pixels
EMBEDDING_SIZE = 128
GREY = 127.5  # subtracted from each pixel
EMBEDDING_DEPTH = "embedding"

# (outputs, stride) of conv_1, a full convolution, and of conv_2 to conv_14, depthwise-separable ones
_LAYERS = ((32, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def _shapes() -> dict[str, tuple[int, int, int]]:
    shapes, side = {}, CROP_SIDE
    for number, (channels, stride) in enumerate(_LAYERS, 1):
        side //= stride
        shapes[f"conv_{number}"] = (channels, side, side)
    return shapes


MAP_SHAPES = _shapes()
"""Depths at which a branch may leave, in order, and the (C, h, w) of the map there: conv_1 (32, 112, 112), conv_2
(64, 112, 112), conv_3-4 (128, 56, 56), conv_5-6 (256, 28, 28), conv_7-12 (512, 14, 14), conv_13-14 (1024, 7, 7)."""

LAST_MAP = "conv_14"

DEPTHS = (*MAP_SHAPES, EMBEDDING_DEPTH)
"""All depths; the last is the L2-normalised embedding itself, (N, 128)."""


class Layer(nn.Module):
    """A convolution with a PReLU whose slope is learnt for each channel."""

    def __init__(self, shape: tuple[int, int, int], stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        inputs, outputs, kernel = shape
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        self.slope = nn.Parameter(torch.full((outputs,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return functional.prelu(self.conv(x), self.slope)


class Separable(nn.Sequential):
    """A depthwise 3 x 3 convolution and a pointwise one, each with its PReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(Layer((inputs, inputs, 3), stride, groups=inputs), Layer((inputs, outputs, 1)))


class SFace(nn.Module):
    """The trunk: (N, 3, 112, 112) aligned faces to (N, 128) identities, with all maps between."""

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {"conv_1": Layer((3, _LAYERS[0][0], 3))}
        for number in range(2, len(_LAYERS) + 1):
            outputs, stride = _LAYERS[number - 1]
            layers[f"conv_{number}"] = Separable(_LAYERS[number - 2][0], outputs, stride)
        self.layers = nn.ModuleDict(layers)
        channels, height, width = MAP_SHAPES[LAST_MAP]
        self.linear = nn.Linear(channels * height * width, EMBEDDING_SIZE)

    def forward(self, crops: Tensor) -> Tensor:
        """Return the (N, 128) L2-normalised float32 embeddings of (N, 3, 112, 112) RGB crops, 0..255."""
        return self.forward_intermediates(crops, (EMBEDDING_DEPTH,))[EMBEDDING_DEPTH]

    def forward_intermediates(self, crops: Tensor, depths: Collection[str]) -> dict[str, Tensor]:
        """Run once, only as deep as the deepest depth asked for.

        Args:
            crops: (N, 3, 112, 112) RGB 0..255, uint8 or float.
            depths: any of DEPTHS.

        Returns:
            For each depth asked for the (N, C, h, w) map of MAP_SHAPES in the trunk's precision, or the (N, 128)
            L2-normalised float32 embedding.

        Raises:
            ValueError: a depth is unknown.
        """
        deepest = max((depth_rank(depth) for depth in depths), default=-1)
        found: dict[str, Tensor] = {}
        # 127.5 and all differences from it have 8 significant bits: exact in bfloat16.
        x = crops.to(self.linear.weight.dtype) - GREY
        for name in DEPTHS[: deepest + 1]:
            x = self.embed(x) if name == EMBEDDING_DEPTH else self.layers[name](x)
            if name in depths:
                found[name] = x
        return found

    def embed(self, x: Tensor) -> Tensor:
        """Map the (N, 1024, 7, 7) maps of LAST_MAP to (N, 128) L2-normalised float32 embeddings."""
        return functional.normalize(self.linear(x.flatten(1)).float())


def depth_rank(depth: str) -> int:
    """Return how deep a depth lies: its place in DEPTHS.

    Raises:
        ValueError: the depth is unknown.
    """
    if depth not in DEPTHS:
        message = f"unknown depth {depth!r}, expected one of {', '.join(DEPTHS)}"
        raise ValueError(message)
    return DEPTHS.index(depth)
