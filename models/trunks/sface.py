"""SFace: the identity-trained trunk that every branch leaves at its own depth.

Source: Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition" (2021),
arXiv:2205.12010; weights of OpenCV Zoo, face_recognition_sface_2021dec (Apache-2.0).

A plain chain (MobileNetV1 with PReLU) of 27 convolutions and one linear layer. Batch normalisation and the scaling of
the input are folded in; `training.releases.convert` builds these weights from the published ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.geometry import ARCFACE_POINTS, ARCFACE_SIDE
from models.inference.fused import convolve_prelu
from models.trunks.base import Trunk, TrunkLayout, TrunkName, register_trunk, scaled

SFACE_CROP_SIDE = ARCFACE_SIDE  # pixels
SFACE_EMBEDDING_SIZE = 128
SFACE_GREY = 127.5  # subtracted from each pixel

# (outputs, stride) of conv_1, a full convolution, and of conv_2 to conv_14, depthwise-separable ones
_LAYERS = ((32, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
_SIDE_STEP = 16  # pixels: the side is halved four times


class Layer(nn.Module):
    """A convolution with a PReLU whose slope is learnt for each channel."""

    def __init__(self, shape: tuple[int, int, int], stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        inputs, outputs, kernel = shape
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        self.slope = nn.Parameter(torch.full((outputs,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return convolve_prelu(self.conv, self.slope, x)


class Separable(nn.Sequential):
    """A depthwise 3 x 3 convolution and a pointwise one, each with its PReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(Layer((inputs, inputs, 3), stride, groups=inputs), Layer((inputs, outputs, 1)))


@register_trunk("sface")
class SFace(Trunk):
    """The trunk: (N, 3, 112, 112) aligned faces to (N, 128) embeddings, with all maps between."""

    def __init__(self, layout: TrunkLayout | None = None) -> None:
        super().__init__(layout or SFACE)
        shapes = list(self.layout.maps.values())
        layers: dict[str, nn.Module] = {"conv_1": Layer((3, shapes[0][0], 3))}
        for number in range(2, len(_LAYERS) + 1):
            inputs, outputs = shapes[number - 2][0], shapes[number - 1][0]
            layers[f"conv_{number}"] = Separable(inputs, outputs, _LAYERS[number - 1][1])
        self.layers = nn.ModuleDict(layers)
        channels, height, width = shapes[-1]
        self.linear = nn.Linear(channels * height * width, self.layout.embedding_size)

    @classmethod
    def plan(cls, name: TrunkName) -> TrunkLayout:
        """Return the layout for a width and a side that is a multiple of 16 pixels.

        Raises:
            ValueError: the side is no such multiple.
        """
        crop = side = name.side or SFACE_CROP_SIDE
        if side % _SIDE_STEP:
            message = f"SFace takes crops whose side is a multiple of {_SIDE_STEP} pixels, got {side}"
            raise ValueError(message)
        shapes = {}
        for number, (channels, stride) in enumerate(_LAYERS, 1):
            side //= stride
            shapes[f"conv_{number}"] = (name.channels(channels), side, side)
        template = scaled(ARCFACE_POINTS, crop / SFACE_CROP_SIDE)
        return TrunkLayout(
            side=crop, template=template, maps=shapes, embedding_size=SFACE_EMBEDDING_SIZE, family="sface"
        )

    def prepare(self, crops: Tensor) -> Tensor:
        """Subtract the grey level; 127.5 and all differences from it have 8 significant bits, which bfloat16 holds."""
        return crops.to(self.dtype) - SFACE_GREY

    def project(self, x: Tensor) -> Tensor:
        """Map the (N, 1024, 7, 7) maps of conv_14 to (N, 128)."""
        return torch.as_tensor(self.linear(x.flatten(1)))


SFACE = SFace.plan(TrunkName("sface"))  # the layout of the published weights

# Depths at which a branch may leave, in order, and the (C, h, w) of the map there: conv_1 (32, 112, 112), conv_2
# (64, 112, 112), conv_3-4 (128, 56, 56), conv_5-6 (256, 28, 28), conv_7-12 (512, 14, 14), conv_13-14 (1024, 7, 7).
MAP_SHAPES = SFACE.maps
