"""The trunks of this program, by name.

sface         the default: MobileNetV1 with PReLU on crops of 112 pixels
dlib29        light: dlib's ResNet on crops of 150 pixels
face24        trained by this project: 24 convolutions on crops of 224 pixels, narrower and smaller by choice
mobilenet     MobileNetV1, narrower and smaller by choice
resnet18, resnet50, mobilenet_v2, mobilenet_v3, densenet121, vgg19_bn       torchvision's, smaller by choice
xception, efficientnet_lite0            others that classify images, smaller by choice
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import ReleaseError
from models.trunks import (  # noqa: F401 - importing them registers them
    dlib29,
    efficientnet_lite,
    face24,
    mobilenet,
    sface,
    torchvision_trunks,
    xception,
)
from models.trunks.base import TRUNKS, Trunk, TrunkName

if TYPE_CHECKING:
    from models.trunks.base import TrunkLayout


def list_trunks() -> tuple[str, ...]:
    """Return the names of all families of trunks."""
    return tuple(sorted(TRUNKS))


def layout_of(name: str) -> TrunkLayout:
    """Return the layout of a trunk, such as sface-2021dec or face24-w0.5-r112.

    Raises:
        ReleaseError: the trunk is unknown to this program.
    """
    family, parsed = _find(name)
    try:
        return family.plan(parsed)
    except ValueError as err:
        raise ReleaseError(f"trunk {name!r} is not possible: {err}") from err


def create_trunk(name: str) -> Trunk:
    """Build a trunk with random weights; `models.weights.load_into` fills them.

    Raises:
        ReleaseError: the trunk is unknown to this program.
    """
    family, _ = _find(name)
    return family(layout_of(name))


def _find(name: str) -> tuple[type[Trunk], TrunkName]:
    try:
        parsed = TrunkName.parse(name)
    except ValueError as err:
        raise ReleaseError(str(err)) from err
    if parsed.family not in TRUNKS:
        raise ReleaseError(f"no trunk {parsed.family!r}: this program has {', '.join(list_trunks())}")
    return TRUNKS[parsed.family], parsed
