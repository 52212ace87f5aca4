"""torchvision's ResNets, MobileNets, DenseNet and VGG as trunks, to train them or to take their ImageNet weights.

Where they were trained on objects, not on identity, their embedding separates people poorly. Nothing is downloaded;
`training.releases.import_trunk` converts a weights file of torchvision. torchvision is imported when such a trunk is
built. Crops of 112 pixels (`resnet18-r112`) cost a quarter of those of 224.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from models.trunks.averaged import AveragedTrunk, Step
from models.trunks.base import register_trunk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.trunks.base import TrunkLayout

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class TorchvisionTrunk(AveragedTrunk):
    """Common base: ImageNet's normalisation, the mean over the last map as embedding."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, layout: TrunkLayout | None = None) -> None:
        super().__init__(layout)
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            # Scaled to pixels of 0..255; float32, whichever precision the weights have.
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None], persistent=False)

    @classmethod
    @abstractmethod
    def layer_of(cls, name: str) -> str | None:
        """Return the name that a tensor of torchvision's weights file has here, None for one of the classifier."""

    def prepare(self, crops: Tensor) -> Tensor:
        """Normalise with ImageNet's mean and deviation."""
        return ((crops.float() - self.mean.float()) / self.deviation.float()).to(self.dtype)


def published(name: str) -> Any:
    """Return a model of torchvision with random weights, an `nn.Module`."""
    from torchvision import models  # noqa: PLC0415 - importing it takes a second, which other trunks do not need

    return getattr(models, name)(weights=None)


def _vgg_features() -> Any:
    """Return the layers of VGG-19 before its classifier with random weights, an `nn.Sequential`.

    The classifier has a shape only: drawing its 124 million weights takes a second and half a gigabyte.
    """
    from torchvision.models import vgg  # noqa: PLC0415 - importing it takes a second, which other trunks do not need

    features = vgg.make_layers(vgg.cfgs["E"], batch_norm=True)
    with torch.device("meta"):
        return vgg.VGG(features).features


class _ResNet(TorchvisionTrunk):
    """A stem with a maximum, and four stages."""

    builder: ClassVar[str]

    def build(self, channels: Mapping[str, int]) -> dict[str, nn.Module]:
        model = published(self.builder)
        stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        return {"stem": stem} | {name: getattr(model, name) for name in channels if name != "stem"}

    @classmethod
    def layer_of(cls, name: str) -> str | None:
        first, _, rest = name.partition(".")
        place = {"conv1": "stem.0", "bn1": "stem.1"}.get(first, first)
        return None if first == "fc" else f"layers.{place}.{rest}"


@register_trunk("resnet18")
class ResNet18(_ResNet):
    """He et al. 2015, 1.8 GMAC."""

    builder = "resnet18"
    steps: ClassVar[Mapping[str, Step]] = {
        "stem": Step(64, 4),
        "layer1": Step(64),
        "layer2": Step(128, 2),
        "layer3": Step(256, 2),
        "layer4": Step(512, 2),
    }


@register_trunk("resnet50")
class ResNet50(_ResNet):
    """He et al. 2015, 4.1 GMAC."""

    builder = "resnet50"
    steps: ClassVar[Mapping[str, Step]] = {
        "stem": Step(64, 4),
        "layer1": Step(256),
        "layer2": Step(512, 2),
        "layer3": Step(1024, 2),
        "layer4": Step(2048, 2),
    }


class _MobileNet(TorchvisionTrunk):
    """A chain of feature layers, with a depth behind each of them."""

    builder: ClassVar[str]

    def build(self, channels: Mapping[str, int]) -> dict[str, nn.Module]:
        return dict(zip(channels, published(self.builder).features, strict=True))

    @classmethod
    def layer_of(cls, name: str) -> str | None:
        """Return the name of a tensor here: features.3.block.0.1.weight is layers.features_3.block.0.1.weight."""
        first, _, rest = name.partition(".")
        return f"layers.features_{rest}" if first == "features" else None


def _features(*steps: Step) -> dict[str, Step]:
    return {f"features_{place}": step for place, step in enumerate(steps)}


@register_trunk("mobilenet_v2")
class MobileNetV2(_MobileNet):
    """Sandler et al. 2018, 0.3 GMAC."""

    builder = "mobilenet_v2"
    steps: ClassVar[Mapping[str, Step]] = _features(
        *(Step(32, 2), Step(16), Step(24, 2), Step(24), Step(32, 2), Step(32), Step(32), Step(64, 2)),
        *(Step(64), Step(64), Step(64), Step(96), Step(96), Step(96), Step(160, 2), Step(160), Step(160)),
        *(Step(320), Step(1280)),
    )


@register_trunk("mobilenet_v3")
class MobileNetV3(_MobileNet):
    """Howard et al. 2019, the large one, 0.21 GMAC."""

    builder = "mobilenet_v3_large"
    steps: ClassVar[Mapping[str, Step]] = _features(
        *(Step(16, 2), Step(16), Step(24, 2), Step(24), Step(40, 2), Step(40), Step(40), Step(80, 2)),
        *(Step(80), Step(80), Step(80), Step(112), Step(112), Step(160, 2), Step(160), Step(160), Step(960)),
    )


@register_trunk("densenet121")
class DenseNet121(TorchvisionTrunk):
    """Huang et al. 2016, 2.8 GMAC; the last block with the normalisation behind it."""

    rounds_up = False
    steps: ClassVar[Mapping[str, Step]] = {
        "stem": Step(64, 4),
        "denseblock1": Step(256),
        "transition1": Step(128, 2),
        "denseblock2": Step(512),
        "transition2": Step(256, 2),
        "denseblock3": Step(1024),
        "transition3": Step(512, 2),
        "denseblock4": Step(1024),
    }
    # Weights of torchvision are from before its modules were renamed.
    _OLD_NAME: ClassVar[re.Pattern[str]] = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..+)")

    def build(self, channels: Mapping[str, int]) -> dict[str, nn.Module]:
        """Build the layers."""
        features = published("densenet121").features
        layers = {depth: getattr(features, depth) for depth in channels if depth != "stem"}
        layers["denseblock4"] = nn.Sequential(features.denseblock4, features.norm5, nn.ReLU())
        return {"stem": nn.Sequential(features.conv0, features.norm0, features.relu0, features.pool0)} | layers

    @classmethod
    def layer_of(cls, name: str) -> str | None:
        """Return the name of a tensor here: features.conv0.weight is layers.stem.0.weight."""
        if found := cls._OLD_NAME.fullmatch(name):
            name = found[1] + found[2]
        first, _, rest = name.partition(".")
        part, _, rest = rest.partition(".")
        places = {"conv0": "stem.0", "norm0": "stem.1", "denseblock4": "denseblock4.0", "norm5": "denseblock4.1"}
        return f"layers.{places.get(part, part)}.{rest}" if first == "features" else None


@register_trunk("vgg19_bn")
class Vgg19(TorchvisionTrunk):
    """Simonyan and Zisserman 2014 with batch normalisation, 19.5 GMAC; a depth behind each maximum."""

    rounds_up = False
    steps: ClassVar[Mapping[str, Step]] = {
        "block1": Step(64, 2),
        "block2": Step(128, 2),
        "block3": Step(256, 2),
        "block4": Step(512, 2),
        "block5": Step(512, 2),
    }
    _ENDS: ClassVar[tuple[int, ...]] = (7, 14, 27, 40, 53)  # modules of torchvision's `features` up to each maximum

    def build(self, channels: Mapping[str, int]) -> dict[str, nn.Module]:
        """Build the layers."""
        features = _vgg_features()
        starts = (0, *self._ENDS[:-1])
        return {depth: features[start:end] for depth, start, end in zip(channels, starts, self._ENDS, strict=True)}

    @classmethod
    def layer_of(cls, name: str) -> str | None:
        """Return the name of a tensor here: features.7.weight is layers.block2.7.weight."""
        first, _, rest = name.partition(".")
        place = rest.partition(".")[0]
        number = next(
            (number for number, end in enumerate(cls._ENDS, 1) if first == "features" and int(place) < end), 0
        )
        return f"layers.block{number}.{rest}" if number else None
