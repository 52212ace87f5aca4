"""face24: a residual network of 24 convolutions on crops of 224 pixels, designed to be shared by many attributes.

Source: a paper of 2016 on the attributes of faces in a large photo service: one model trained on identity, which
attributes leave at depths found by cross-validation. From its text: a 7 x 7 convolution (32, stride 2) and a 2 x 2
maximum; modules of a 1 x 1 reduction, batch norm, ReLU, a 3 x 3 expansion and an element-wise sum, with a 1 x 1
shortcut where shapes change; average pooling, a 1 x 1 convolution to 320 with batch norm, a fully connected layer. The
text leaves the widths of conv2 to conv9 open; here the expansion doubles at every second module and the reduction is
half of it.

0.73 GMAC a face, 1.45 GFLOP where a multiply-add counts as two. The parameters relearnt behind a depth (convolutions
and fully connected layers, batch norm not counted) agree with the paper's table as follows:

behind     classes  parameters here  in the paper
conv22          14          889,230       889,230
bn320            2              642           642
bn320            9            2,889           642   (its table repeats the figure of gender)
conv19           7        1,312,967     1,018,055   (less by 294,912: the weights of conv21)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from models.geometry import ARCFACE_POINTS, ARCFACE_SIDE
from models.trunks.base import Shape, Trunk, TrunkLayout, TrunkName, register_trunk, scaled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FACE24_CROP_SIDE = 224  # pixels
FACE24_EMBEDDING_SIZE = 128
FACE24_GREY = 127.5  # subtracted from each pixel before it is
GREY_SCALE = 128.0  # divided; both are exact in bfloat16

_STEM = 32  # channels
# (reduction, expansion, stride) of the modules; in each, the reduction has the even number, the expansion the odd one
_MODULES = (
    (32, 64, 1),  # conv2-3, 56 x 56
    (64, 128, 2),  # conv4-5, 28 x 28
    (64, 128, 1),  # conv6-7
    (128, 256, 2),  # conv8-9, 14 x 14
    *((128, 256, 1),) * 5,  # conv10 to conv19
    (128, 256, 2),  # conv20-21, 7 x 7
    (128, 512, 1),  # conv22-23
)
_BOTTLENECK = 320
_SIDE_STEP = 4  # pixels: stem and maximum halve the side


class Face24Stem(nn.Module):
    """A 7 x 7 convolution with stride 2 and a maximum over 2 x 2."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, outputs, 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, S, S) to (N, outputs, S / 4, S / 4)."""
        return functional.max_pool2d(functional.relu(self.norm(self.conv(x))), 2)


class Reduction(nn.Module):
    """The first half of a module: a 1 x 1 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, h, w) to (N, outputs, h, w)."""
        return functional.relu(self.norm(self.conv(x)))


class Expansion(nn.Module):
    """The second half: a 3 x 3 convolution, and the sum with the module's input."""

    def __init__(self, entered: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        changes = entered != outputs or stride > 1
        self.shortcut = nn.Conv2d(entered, outputs, 1, stride, bias=False) if changes else nn.Identity()

    def forward(self, x: Tensor, entered: Tensor) -> Tensor:
        """Map (N, inputs, h, w) and (N, entered, h, w) to (N, outputs, h / stride, w / stride)."""
        total: Tensor = self.conv(x) + self.shortcut(entered)
        return total


@register_trunk("face24")
class Face24(Trunk):
    """The trunk: (N, 3, 224, 224) aligned faces to (N, 128) embeddings, with a map after each convolution.

    The depth `fc` is the fully connected layer, written as a 1 x 1 convolution; the embedding is its L2-normalised
    output.
    """

    def __init__(self, layout: TrunkLayout | None = None) -> None:
        super().__init__(layout or FACE24)
        channels = [channels for channels, _, _ in self.layout.maps.values()]
        layers: dict[str, nn.Module] = {"conv1": Face24Stem(channels[0])}
        for place, (_, _, stride) in enumerate(_MODULES):
            entered, reduced, expanded = channels[2 * place : 2 * place + 3]
            layers[f"conv{2 * place + 2}"] = Reduction(entered, reduced)
            layers[f"conv{2 * place + 3}"] = Expansion(entered, reduced, expanded, stride)
        last, bottleneck, embedding = channels[-3:]
        layers["bn320"] = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(last, bottleneck, 1, bias=False), nn.BatchNorm2d(bottleneck)
        )
        layers["fc"] = nn.Conv2d(bottleneck, embedding, 1)
        self.layers = nn.ModuleDict(layers)

    @classmethod
    def plan(cls, name: TrunkName) -> TrunkLayout:
        """Return the layout for a width and a side that is a multiple of 4 pixels.

        Raises:
            ValueError: the side is no such multiple.
        """
        crop = name.side or FACE24_CROP_SIDE
        if crop % _SIDE_STEP:
            message = f"face24 takes crops whose side is a multiple of {_SIDE_STEP} pixels, got {crop}"
            raise ValueError(message)
        side = crop // _SIDE_STEP
        shapes: dict[str, Shape] = {"conv1": (name.channels(_STEM), side, side)}
        for place, (reduced, expanded, stride) in enumerate(_MODULES):
            shapes[f"conv{2 * place + 2}"] = (name.channels(reduced), side, side)
            side = -(-side // stride)
            shapes[f"conv{2 * place + 3}"] = (name.channels(expanded), side, side)
        shapes["bn320"] = (name.channels(_BOTTLENECK), 1, 1)
        shapes["fc"] = (FACE24_EMBEDDING_SIZE, 1, 1)
        template = scaled(ARCFACE_POINTS, crop / ARCFACE_SIDE)
        inside = {f"conv{2 * place + 2}": f"conv{2 * place + 1}" for place in range(len(_MODULES))}
        return TrunkLayout(
            side=crop,
            template=template,
            maps=shapes,
            embedding_size=FACE24_EMBEDDING_SIZE,
            family="face24",
            shortcuts=inside,
        )

    def prepare(self, crops: Tensor) -> Tensor:
        """Scale pixels to -1..1."""
        return (crops.to(self.dtype) - FACE24_GREY) / GREY_SCALE

    @staticmethod
    def follow(layers: Iterable[tuple[str, nn.Module]], x: Tensor, entered: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Run layers one after the other; `entered` is the input of the current module, if any."""
        for name, layer in layers:
            if isinstance(layer, Expansion):
                x = layer(x, entered)
            else:
                entered, x = x, layer(x)
            yield name, x

    def project(self, x: Tensor) -> Tensor:
        """Flatten the (N, 128, 1, 1) of fc."""
        return x.flatten(1)


FACE24 = Face24.plan(TrunkName("face24"))  # the paper's layout
