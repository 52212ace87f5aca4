"""dlib's ResNet-29: the light trunk, 0.27 GMAC a face.

Source: Davis King, dlib_face_recognition_resnet_model_v1 (CC0) and dlib's anet_type. `training.releases.convert` builds
these weights from the published file; its frozen normalisations, the input's mean and its scale are folded in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.trunks.base import Shape, Trunk, TrunkLayout, TrunkName, register_trunk, scaled

DLIB_CROP_SIDE = 150  # pixels
DLIB_EMBEDDING_SIZE = 128
# Crop pixels. dlib aligns by 68 points of its own; these are the places of RetinaFace's five points in its crops.
TEMPLATE = ((47.4, 45.1), (100.6, 45.1), (74.0, 77.5), (50.7, 100.8), (97.3, 100.8))

_STEM = 32  # channels
# (channels, halves the map) of the fourteen blocks, two convolutions each
_BLOCKS = (
    *((32, False),) * 3,
    (64, True),
    *((64, False),) * 3,
    (128, True),
    *((128, False),) * 2,
    (256, True),
    *((256, False),) * 2,
    (256, True),
)
_MIN_SIDE = 113  # pixels: the last block still has a 3 x 3 map to read


class DlibStem(nn.Module):
    """A 7 x 7 convolution and a maximum over 3 x 3, each with stride 2 and without padding."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, outputs, 7, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, S, S) to (N, outputs, h, h), h = ((S - 7) // 2 + 1 - 3) // 2 + 1."""
        return functional.max_pool2d(functional.relu(self.conv(x)), 3, 2)


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without weights."""

    def __init__(self, inputs: int, outputs: int, *, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.first = nn.Conv2d(inputs, outputs, 3, 2 if halves else 1, 0 if halves else 1)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, h, h) to (N, outputs, h or h // 2, ...)."""
        y = self.second(functional.relu(self.first(x)))
        shortcut = functional.avg_pool2d(x, 2) if self.halves else x
        return functional.relu(_extended_sum(y, shortcut))


def _extended_sum(a: Tensor, b: Tensor) -> Tensor:
    """Add two (N, C, h, w) maps of different C, h, w as dlib does: both are padded with zeros."""
    if a.shape == b.shape:
        return a + b
    shape = [max(sizes) for sizes in zip(a.shape[1:], b.shape[1:], strict=True)]
    return _extended(a, shape) + _extended(b, shape)


def _extended(x: Tensor, shape: list[int]) -> Tensor:
    channels, height, width = (size - own for size, own in zip(shape, x.shape[1:], strict=True))
    return functional.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x


@register_trunk("dlib29")
class Dlib29(Trunk):
    """The trunk: (N, 3, 150, 150) aligned faces to (N, 128) embeddings, with the maps after each block."""

    def __init__(self, layout: TrunkLayout | None = None) -> None:
        super().__init__(layout or DLIB29)
        channels = [channels for channels, _, _ in self.layout.maps.values()]
        layers: dict[str, nn.Module] = {"conv_1": DlibStem(channels[0])}
        for place, (_, halves) in enumerate(_BLOCKS):
            layers[_depth(place)] = Block(channels[place], channels[place + 1], halves=halves)
        self.layers = nn.ModuleDict(layers)
        self.linear = nn.Linear(channels[-1], self.layout.embedding_size, bias=False)

    @classmethod
    def plan(cls, name: TrunkName) -> TrunkLayout:
        """Return the layout for a width and a side of at least 113 pixels.

        Raises:
            ValueError: the side is smaller.
        """
        crop = name.side or DLIB_CROP_SIDE
        if crop < _MIN_SIDE:
            message = f"dlib29 takes crops of at least {_MIN_SIDE} pixels, got {crop}"
            raise ValueError(message)
        side = (((crop - 7) // 2 + 1) - 3) // 2 + 1
        shapes: dict[str, Shape] = {"conv_1": (name.channels(_STEM), side, side)}
        for place, (channels, halves) in enumerate(_BLOCKS):
            # The convolution gives (side - 3) // 2 + 1 cells, the shortcut at least as many.
            side = side // 2 if halves else side
            shapes[_depth(place)] = (name.channels(channels), side, side)
        template = scaled(TEMPLATE, crop / DLIB_CROP_SIDE)
        return TrunkLayout(
            side=crop, template=template, maps=shapes, embedding_size=DLIB_EMBEDDING_SIZE, family="dlib29"
        )

    def prepare(self, crops: Tensor) -> Tensor:
        """Change the number format only: mean and scale are folded into the first convolution, which does not pad."""
        return crops.to(self.dtype)

    def project(self, x: Tensor) -> Tensor:
        """Map the (N, 256, 2, 2) maps of conv_29 to (N, 128)."""
        return torch.as_tensor(self.linear(x.mean((2, 3))))


def _depth(place: int) -> str:
    """Name the depth behind a block by its second convolution: conv_3, conv_5, ... conv_29."""
    return f"conv_{2 * place + 3}"


# The layout of the published weights: conv_1 to conv_7 (32, 35, 35), conv_9-15 (64, 17, 17), conv_17-21 (128, 8, 8),
# conv_23-27 (256, 4, 4), conv_29 (256, 2, 2).
DLIB29 = Dlib29.plan(TrunkName("dlib29"))
