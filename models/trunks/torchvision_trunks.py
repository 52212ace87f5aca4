"""torchvision's ResNet-18, ResNet-50 and MobileNetV3 (large) as trunks, for users who have their ImageNet weights.

They were trained on objects, not on identity: their embedding, the pooled last map, separates people poorly. Nothing
is downloaded; `training.releases.convert` converts a weights file of torchvision. torchvision is imported when such a
trunk is built.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.geometry import ARCFACE_POINTS, ARCFACE_SIDE
from models.trunks.base import Shape, Trunk, TrunkLayout, TrunkName, register_trunk, scaled

IMAGENET_CROP_SIDE = 224  # pixels
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class TorchvisionTrunk(Trunk):
    """Common base: crops of 224 pixels, ImageNet's normalisation, the mean over the last map as embedding."""

    shapes: ClassVar[dict[str, Shape]]
    mean: Tensor
    deviation: Tensor

    def __init__(self, layout: TrunkLayout | None = None) -> None:
        super().__init__(layout or self.plan(TrunkName("")))
        self.layers = nn.ModuleDict(self.build())
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            # Scaled to pixels of 0..255; float32, whichever precision the weights have.
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None], persistent=False)

    @classmethod
    def plan(cls, name: TrunkName) -> TrunkLayout:
        """Return the layout; these models have one size.

        Raises:
            ValueError: the name asks for another width or side.
        """
        if name.width != 1 or name.side not in {None, IMAGENET_CROP_SIDE}:
            message = f"{name.family} has no multipliers: width is 1 and the side {IMAGENET_CROP_SIDE} pixels"
            raise ValueError(message)
        template = scaled(ARCFACE_POINTS, IMAGENET_CROP_SIDE / ARCFACE_SIDE)
        size = next(reversed(cls.shapes.values()))[0]
        return TrunkLayout(
            side=IMAGENET_CROP_SIDE, template=template, maps=cls.shapes, embedding_size=size, family=name.family
        )

    @abstractmethod
    def build(self) -> dict[str, nn.Module]:
        """Build the layers, with random weights, by depth."""

    @classmethod
    @abstractmethod
    def layer_of(cls, name: str) -> str | None:
        """Return the name that a tensor of torchvision's weights file has here, None for one of the classifier."""

    def prepare(self, crops: Tensor) -> Tensor:
        """Normalise with ImageNet's mean and deviation."""
        return ((crops.float() - self.mean.float()) / self.deviation.float()).to(self.dtype)

    def project(self, x: Tensor) -> Tensor:
        """Average (N, C, 7, 7) to (N, C)."""
        return x.mean((2, 3))


class _ResNet(TorchvisionTrunk):
    """A stem with a maximum, and four stages."""

    builder: ClassVar[str]

    def build(self) -> dict[str, nn.Module]:
        from torchvision import models as published  # noqa: PLC0415 - importing it takes a second, which other trunks do not need

        model = getattr(published, self.builder)(weights=None)
        stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        return {"stem": stem} | {name: getattr(model, name) for name in self.shapes if name != "stem"}

    @classmethod
    def layer_of(cls, name: str) -> str | None:
        first, _, rest = name.partition(".")
        place = {"conv1": "stem.0", "bn1": "stem.1"}.get(first, first)
        return None if first == "fc" else f"layers.{place}.{rest}"


@register_trunk("resnet18")
class ResNet18(_ResNet):
    """He et al. 2015, 1.8 GMAC."""

    builder = "resnet18"
    shapes: ClassVar[dict[str, Shape]] = {
        "stem": (64, 56, 56),
        "layer1": (64, 56, 56),
        "layer2": (128, 28, 28),
        "layer3": (256, 14, 14),
        "layer4": (512, 7, 7),
    }


@register_trunk("resnet50")
class ResNet50(_ResNet):
    """He et al. 2015, 4.1 GMAC."""

    builder = "resnet50"
    shapes: ClassVar[dict[str, Shape]] = {
        "stem": (64, 56, 56),
        "layer1": (256, 56, 56),
        "layer2": (512, 28, 28),
        "layer3": (1024, 14, 14),
        "layer4": (2048, 7, 7),
    }


@register_trunk("mobilenet_v3")
class MobileNetV3(TorchvisionTrunk):
    """Howard et al. 2019, the large one, 0.21 GMAC; with a depth behind each of its seventeen layers."""

    shapes: ClassVar[dict[str, Shape]] = {
        "features_0": (16, 112, 112),
        "features_1": (16, 112, 112),
        "features_2": (24, 56, 56),
        "features_3": (24, 56, 56),
        "features_4": (40, 28, 28),
        "features_5": (40, 28, 28),
        "features_6": (40, 28, 28),
        "features_7": (80, 14, 14),
        "features_8": (80, 14, 14),
        "features_9": (80, 14, 14),
        "features_10": (80, 14, 14),
        "features_11": (112, 14, 14),
        "features_12": (112, 14, 14),
        "features_13": (160, 7, 7),
        "features_14": (160, 7, 7),
        "features_15": (160, 7, 7),
        "features_16": (960, 7, 7),
    }

    def build(self) -> dict[str, nn.Module]:
        """Take the feature layers of torchvision's model."""
        from torchvision.models import mobilenet_v3_large  # noqa: PLC0415 - as above

        return {f"features_{place}": layer for place, layer in enumerate(mobilenet_v3_large(weights=None).features)}

    @classmethod
    def layer_of(cls, name: str) -> str | None:
        """Return the name of a tensor here: features.3.block.0.1.weight is layers.features_3.block.0.1.weight."""
        first, _, rest = name.partition(".")
        return f"layers.features_{rest}" if first == "features" else None
