"""The base of trunks that were designed to classify images: their embedding is the mean over the last map."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import nn

from models.geometry import ARCFACE_POINTS, ARCFACE_SIDE
from models.trunks.base import Trunk, TrunkLayout, TrunkName, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from models.trunks.base import Shape

IMAGENET_CROP_SIDE = 224  # pixels
_SIDE_STEP = 16  # pixels: the side is halved four times, and a fifth time with a rest


class Step(NamedTuple):
    """A layer whose map branches can read."""

    channels: int
    stride: int = 1
    """Of all its convolutions and maxima together."""


class AveragedTrunk(Trunk):
    """Crops of 224 pixels or of another multiple of 16, and the mean over the last map as embedding."""

    steps: ClassVar[Mapping[str, Step]]
    """By depth, in order."""
    has_widths: ClassVar[bool] = False
    """Whether the family has a width multiplier."""
    rounds_up: ClassVar[bool] = True
    """Whether half of a side of 7 cells is 4 cells, as convolutions are padded, or 3."""
    grey: ClassVar[float] = 127.5
    """Subtracted from each pixel before it is divided by 128; both are exact in bfloat16."""

    def __init__(self, layout: TrunkLayout | None = None) -> None:
        super().__init__(layout or self.plan(TrunkName("")))
        self.layers = nn.ModuleDict(self.build({depth: shape[0] for depth, shape in self.layout.maps.items()}))

    @classmethod
    def plan(cls, name: TrunkName) -> TrunkLayout:
        """Return the layout for a side that is a multiple of 16 pixels.

        Raises:
            ValueError: the side is no such multiple, or the name asks for a width that the family does not have.
        """
        if name.width != 1 and not cls.has_widths:
            message = f"{name.family} has no width multiplier, got {name.width:g}"
            raise ValueError(message)
        crop = side = name.side or IMAGENET_CROP_SIDE
        if crop % _SIDE_STEP:
            message = f"{name.family} takes crops whose side is a multiple of {_SIDE_STEP} pixels, got {crop}"
            raise ValueError(message)
        shapes: dict[str, Shape] = {}
        for depth, (channels, stride) in cls.steps.items():
            side = -(-side // stride) if cls.rounds_up else side // stride
            shapes[depth] = (name.channels(channels), side, side)
        return TrunkLayout(
            side=crop,
            template=scaled(ARCFACE_POINTS, crop / ARCFACE_SIDE),
            maps=shapes,
            embedding_size=next(reversed(shapes.values()))[0],
            family=name.family,
        )

    @abstractmethod
    def build(self, channels: Mapping[str, int]) -> dict[str, nn.Module]:
        """Build the layers, with random weights, by depth; given are the channels of their maps."""

    def prepare(self, crops: Tensor) -> Tensor:
        """Scale pixels to -1..1."""
        return (crops.to(self.dtype) - self.grey) / 128.0

    def project(self, x: Tensor) -> Tensor:
        """Average (N, C, h, w) to (N, C)."""
        return x.mean((2, 3))
