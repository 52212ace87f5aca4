"""Freezing and folding: they make a trained model fixed and faster, with the same outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from models.trunks.base import Trunk

Module = TypeVar("Module", bound=nn.Module)


def freeze(module: Module) -> Module:
    """Freeze a module: no gradients, running statistics and dropout fixed."""
    return module.eval().requires_grad_(requires_grad=False)


def freeze_to(trunk: Trunk, depth: str) -> list[str]:
    """Freeze the layers of a trunk up to a depth, to retrain those behind it.

    `trunk.train()` unfreezes the normalisations: call this after it.

    Args:
        trunk: its layers behind the depth stay as they are.
        depth: one of its maps.

    Returns:
        Depths whose layers are not frozen.

    Raises:
        ValueError: the depth is unknown.
    """
    last = trunk.layout.rank(depth)
    for name in trunk.layout.depths[: last + 1]:
        if name in trunk.layers:
            freeze(trunk.layers[name])
    return list(trunk.layout.maps)[last + 1 :]


def fold_batch_norm(module: Module) -> Module:
    """Fold each batch normalisation into the convolution before it, in place; needs evaluation mode.

    A normalisation belongs to a convolution where it is the next child of the same parent with as many channels, which
    is so in our trunks and in torchvision's.
    """
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None and before[1].out_channels == child.num_features:
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norm(child)
        before = (name, child) if isinstance(child, nn.Conv2d) else None
    return module
