"""RetinaFace with a MobileNetV1 x0.25 backbone: places of faces and their five landmarks.

Source: Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild" (2019), arXiv:1905.00641; layout and
weights of yakhyo/retinaface-pytorch (MIT), trained on WIDER FACE.

Batch normalisation is folded into the convolutions, and convolutions that read the same map are one convolution with
more outputs; `training.releases.convert` makes these weights from the published ones.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
ANCHOR_SIDES = ((16, 32), (64, 128), (256, 512))  # pixels, by stride
ANCHORS_PER_CELL = 2
VALUES_PER_ANCHOR = 15  # 1 score, 4 box, 10 landmarks
MEAN_RGB = (123.0, 117.0, 104.0)  # the training's BGR (104, 117, 123)

LEAK = 0.1  # slope of every leaky ReLU below
MAP_CHANNELS = 64  # of the three feature maps

# oneDNN's convolution that applies what follows it to each value while it is at hand, as torch's compiler calls it: the
# leaky ReLUs would take a quarter of a search. None where torch was built without oneDNN.
_FUSED = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)

# Brings weights into the order in which oneDNN multiplies them, which it would otherwise do in every call: a sixth of
# the time of a small search. None in a torch without it.
_ORDERED = getattr(torch.ops.mkldnn, "_reorder_convolution_weight", None)
_PACKED_FOR = (1, 32, 32)  # batch, height and width that are named to it; the order serves all others as well


class RawFaces(NamedTuple):
    """The outputs of the model for every anchor of one stride."""

    stride: int
    sides: tuple[int, int]
    """Anchor sides in pixels."""
    logits: Tensor
    """(B, h, w, 2) score before the sigmoid, one for each anchor side."""
    offsets: Tensor
    """(B, h, w, 2, 14): box centre, log box size, five landmarks, relative to the anchor."""


class Convolution(nn.Conv2d):
    """A convolution that keeps the size (divided by the stride), with a leaky ReLU unless `leak` is None."""

    def __init__(
        self, shape: tuple[int, int, int], stride: int = 1, *, groups: int = 1, leak: float | None = LEAK
    ) -> None:
        inputs, outputs, kernel = shape
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        self.leak = leak
        self._packed: Tensor | None = None

    @torch.inference_mode()
    def pack(self) -> None:
        """Prepare the weights as they are now for inference on the CPU."""
        if _FUSED is None or _ORDERED is None or self.weight.device.type != "cpu":
            return
        batch, *sides = _PACKED_FOR
        shape = [batch, self.in_channels, *sides]
        layout = (list(self.padding), list(self.stride), list(self.dilation), self.groups)
        self._packed = _ORDERED(self.weight.detach(), *layout, shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        if x.device.type == "cpu" and _FUSED is not None and not torch.is_grad_enabled():
            slope: list[float | None] = [] if self.leak is None else [self.leak]
            follows = "none" if self.leak is None else "leaky_relu"
            weight = self.weight if self._packed is None else self._packed
            shape = (self.padding, self.stride, self.dilation, self.groups)
            return cast("Tensor", _FUSED(x, weight, self.bias, *shape, follows, slope, ""))
        mapped = super().forward(x)
        return mapped if self.leak is None else functional.leaky_relu_(mapped, self.leak)


def _separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Convolution((inputs, inputs, 3), stride, groups=inputs), Convolution((inputs, outputs, 1)))


class Context(nn.Module):
    """Three receptive fields (3, 5 and 7 pixels wide) of one map, side by side."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = MAP_CHANNELS // 2, MAP_CHANNELS // 4
        # The output passes a ReLU, so a leaky one before it changes nothing.
        self.near = Convolution((MAP_CHANNELS, half + quarter, 3))
        self.middle = Convolution((quarter, 2 * quarter, 3))
        self.far = Convolution((quarter, quarter, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, h, w) to (B, 64, h, w)."""
        near, onward = self.near(x).split((MAP_CHANNELS // 2, MAP_CHANNELS // 4), 1)
        middle, onward = self.middle(onward).chunk(2, 1)
        return functional.relu_(torch.cat((near, middle, self.far(onward)), 1))


class RetinaFace(nn.Module):
    """Backbone, feature pyramid, context modules and one fused head for each of the three strides."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        stem = Convolution((3, 8, 3), 2)
        shapes = ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))
        self.stage1 = nn.Sequential(stem, *(_separable(*shape) for shape in shapes))
        self.stage2 = nn.Sequential(_separable(64, 128, 2), *(_separable(128, 128) for _ in range(5)))
        self.stage3 = nn.Sequential(_separable(128, 256, 2), _separable(256, 256))
        self.lateral = nn.ModuleList(Convolution((channels, MAP_CHANNELS, 1)) for channels in (64, 128, 256))
        self.merge = nn.ModuleList(Convolution((MAP_CHANNELS, MAP_CHANNELS, 3)) for _ in range(2))
        self.context = nn.ModuleList(Context() for _ in STRIDES)
        outputs = ANCHORS_PER_CELL * VALUES_PER_ANCHOR
        self.head = nn.ModuleList(Convolution((MAP_CHANNELS, outputs, 1), leak=None) for _ in STRIDES)
        self.register_buffer("mean", torch.tensor(MEAN_RGB), persistent=False)

    def pack(self) -> None:
        """Prepare the weights as they are now for inference on the CPU."""
        for module in self.modules():
            if isinstance(module, Convolution):
                module.pack()

    def forward(self, frames: Tensor, step: int = STRIDES[-1]) -> list[RawFaces]:
        """Search frames of any size.

        They are continued to the right and below with the mean colour, to whole cells of the coarsest stride: each map
        is then exactly twice as wide as the next.

        Args:
            frames: (B, 3, H, W) RGB 0..255, uint8 or float.
            step: pixels, a multiple of the coarsest stride, to whole ones of which frames are continued.
        """
        pyramid = self._pyramid(self._centred(frames, step))
        maps = (head(context(level)) for head, context, level in zip(self.head, self.context, pyramid, strict=True))
        return [_unpack(*values) for values in zip(STRIDES, ANCHOR_SIDES, maps, strict=True)]

    def _centred(self, frames: Tensor, step: int) -> Tensor:
        """Subtract the mean colour; integers up to 255 and their differences are exact in bfloat16.

        A row of pixels at once: three values at a time would cost as much as a quarter of the model.
        """
        count, _, height, width = frames.shape
        below, right = (-side % step for side in (height, width))
        rows = self.mean.new_empty(count, height + below, 3 * (width + right))
        rows[:, height:], rows[:, :height, 3 * width :] = 0, 0
        inside = rows[:, :height, : 3 * width]
        torch.sub(frames.permute(0, 2, 3, 1).reshape(count, height, -1), self.mean.repeat(width), out=inside)
        return rows.view(count, height + below, -1, 3).permute(0, 3, 1, 2)

    def _pyramid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.stage1(x)
        middle = self.stage2(fine)
        coarse = self.stage3(middle)
        fine, middle, coarse = (lateral(x) for lateral, x in zip(self.lateral, (fine, middle, coarse), strict=True))
        middle = self.merge[1](middle + functional.interpolate(coarse, size=middle.shape[2:]))
        fine = self.merge[0](fine + functional.interpolate(middle, size=fine.shape[2:]))
        return fine, middle, coarse


def _unpack(stride: int, sides: tuple[int, int], values: Tensor) -> RawFaces:
    """Name the outputs of a head, (B, 30, h, w): both scores come first, then 14 offsets for each anchor."""
    cells = values.permute(0, 2, 3, 1)
    return RawFaces(
        stride, sides, cells[..., :ANCHORS_PER_CELL], cells[..., ANCHORS_PER_CELL:].reshape(*cells.shape[:3], 2, 14)
    )
