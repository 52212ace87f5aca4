"""The base of all trunks: a chain of named layers whose maps can be read, with an embedding at the end.

A trunk's layout (crops, depths, shapes) is known without its weights, so that releases can be checked before a byte of
them is loaded. `models.trunks.registry` lists the trunks and builds them by name.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

EMBEDDING_DEPTH = "embedding"  # the deepest depth of every trunk: the (N, D) L2-normalised embedding itself

Shape = tuple[int, int, int]  # (C, h, w) of one face's map
Template = tuple[tuple[float, float], ...]  # five landmarks in crop pixels, ordered as models.types.LANDMARK_NAMES

_NAME = re.compile(r"(?P<family>[a-z0-9_]+)(-w(?P<width>\d+(\.\d+)?))?(-r(?P<side>\d+))?(-(?P<weights>[\w.]+))?")
_CHANNEL_STEP = 8  # scaled channels are multiples of it: fast on matrix units; source: MobileNets' reference code


@dataclass(frozen=True, slots=True)
class TrunkName:
    """A trunk's name in a release, `FAMILY[-wWIDTH][-rSIDE][-WEIGHTS]`: sface-2021dec, face24-w0.5-r112."""

    family: str
    """Name in the registry."""
    width: float = 1.0
    """MobileNets' width multiplier: the factor of the channels of every layer."""
    side: int | None = None
    """Side of the crops in pixels, MobileNets' resolution multiplier; None for the family's own."""
    weights: str = ""
    """Name of the set of weights; the shape of the model does not depend on it."""

    @classmethod
    def parse(cls, name: str) -> TrunkName:
        """Read a name.

        Raises:
            ValueError: it does not have this form.
        """
        found = _NAME.fullmatch(name)
        if found is None:
            message = f"trunk {name!r} is no name: expected FAMILY[-wWIDTH][-rSIDE][-WEIGHTS], such as face24-w0.5-r112"
            raise ValueError(message)
        side = found["side"]
        return cls(found["family"], float(found["width"] or 1), int(side) if side else None, found["weights"] or "")

    def __str__(self) -> str:
        """Write the name as `parse` reads it."""
        width = f"-w{self.width:g}" if self.width != 1 else ""
        side = f"-r{self.side}" if self.side else ""
        return f"{self.family}{width}{side}" + (f"-{self.weights}" if self.weights else "")

    def channels(self, count: int) -> int:
        """Return a layer's number of channels under the width multiplier."""
        if self.width == 1:
            return count
        return max(_CHANNEL_STEP, round(count * self.width / _CHANNEL_STEP) * _CHANNEL_STEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkLayout:
    """Everything about a trunk except its weights."""

    side: int
    """Of the square crops, in pixels."""
    template: Template
    """Places of the landmarks in a crop."""
    maps: Mapping[str, Shape]
    """Depths at which a branch may leave, in order, each with the shape of its map."""
    embedding_size: int
    """D, length of the embedding."""
    family: str = ""
    """Name of the trunk's family in the registry."""
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    """By depth inside a module, the depth whose map its shortcut adds further on: layers behind read both maps."""

    @property
    def depths(self) -> tuple[str, ...]:
        """All depths in order; the last is the embedding."""
        return (*self.maps, EMBEDDING_DEPTH)

    @property
    def last_map(self) -> str:
        """Depth of the map from which the embedding is made."""
        return next(reversed(tuple(self.maps)))

    def rank(self, depth: str) -> int:
        """Return the place of a depth in `depths`.

        Raises:
            ValueError: the depth is unknown.
        """
        if depth not in self.depths:
            message = f"unknown depth {depth!r}, expected one of {', '.join(self.depths)}"
            raise ValueError(message)
        return self.depths.index(depth)

    def read_behind(self, depth: str) -> tuple[str, ...]:
        """Return the depths whose maps the layers behind a depth read: the depth, and inside a module its shortcut."""
        return (depth, self.shortcuts[depth]) if depth in self.shortcuts else (depth,)

    def between(self, depth: str, last: str) -> tuple[str, ...]:
        """Return the depths of the layers behind a depth, up to another one.

        Raises:
            ValueError: a depth has no map, or no layer lies between them.
        """
        for name in (depth, last):
            if name not in self.maps:
                message = f"depth {name!r} has no map, expected one of {', '.join(self.maps)}"
                raise ValueError(message)
        if self.rank(last) <= self.rank(depth):
            message = f"no layer lies behind depth {depth!r} up to {last!r}: choose an earlier depth"
            raise ValueError(message)
        return self.depths[self.rank(depth) + 1 : self.rank(last) + 1]

    def feature_count(self, depth: str, pool: int) -> int:
        """Return the count of features of a depth whose map is averaged over a grid of `pool` x `pool` cells."""
        return self.embedding_size if depth == EMBEDDING_DEPTH else self.maps[depth][0] * pool**2


class Trunk(nn.Module, ABC):
    """An identity-trained model whose maps branches read.

    A subclass fills `layers` with one module for each map of its layout, in order, and defines how crops are prepared
    and how the last map becomes an embedding.
    """

    layers: nn.ModuleDict

    def __init__(self, layout: TrunkLayout) -> None:
        super().__init__()
        self.layout = layout

    @classmethod
    @abstractmethod
    def plan(cls, name: TrunkName) -> TrunkLayout:
        """Return the layout of a member of this family.

        Raises:
            ValueError: the family has no such width or side.
        """

    @abstractmethod
    def prepare(self, crops: Tensor) -> Tensor:
        """Turn (N, 3, S, S) RGB crops, 0..255, uint8 or float, into the input of the first layer."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Map the last map, (N, C, h, w), to (N, D) embeddings of any length."""

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return next(self.parameters()).dtype

    def forward(self, crops: Tensor) -> Tensor:
        """Return the (N, D) L2-normalised float32 embeddings of (N, 3, S, S) RGB crops, 0..255."""
        return self.forward_intermediates(crops, (EMBEDDING_DEPTH,))[EMBEDDING_DEPTH]

    def forward_intermediates(self, crops: Tensor, depths: Collection[str]) -> dict[str, Tensor]:
        """Run once, only as deep as the deepest depth requested.

        Args:
            crops: (N, 3, S, S) RGB 0..255, uint8 or float, where S is the layout's side.
            depths: any of the layout's.

        Returns:
            For each requested depth the (N, C, h, w) map of the layout in the trunk's precision, or the (N, D)
            L2-normalised float32 embedding.

        Raises:
            ValueError: a depth is unknown.
        """
        if not depths:
            return {}
        deepest = self.layout.depths[max(self.layout.rank(depth) for depth in depths)]
        found: dict[str, Tensor] = {}
        for name, x in self.walk(self.prepare(crops)):
            if name in depths:
                found[name] = x
            if name == deepest:
                return found
        return found | {EMBEDDING_DEPTH: self.embed(x)}

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield depth and map, layer after layer; a layer runs when its map is asked for.

        Args:
            x: prepared crops.
        """
        yield from self.follow(self.layers.items(), x, x)

    @staticmethod
    def follow(layers: Iterable[tuple[str, nn.Module]], x: Tensor, entered: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Run layers one after the other and yield depth and map of each.

        Args:
            layers: neighbours, by depth.
            x: map that the first of them reads.
            entered: map that its shortcut reads, see `TrunkLayout.shortcuts`; `x` where there is none.
        """
        del entered
        for name, layer in layers:
            x = layer(x)
            yield name, x

    def embed(self, x: Tensor) -> Tensor:
        """Map the maps of the layout's last depth to (N, D) L2-normalised float32 embeddings."""
        return functional.normalize(self.project(x).float())


class Tail(nn.Module):
    """Layers of the same shape as a trunk's behind a depth, up to another, with random weights of their own."""

    def __init__(self, layout: TrunkLayout, depth: str, last: str) -> None:
        """Build the layers.

        Args:
            layout: of the trunk; its family must be registered.
            depth: the layers begin behind it.
            last: depth of the last of them.

        Raises:
            ValueError: a depth has no map, no layer lies between them, or the family is unknown.
        """
        super().__init__()
        if layout.family not in TRUNKS:
            message = f"no trunk {layout.family!r} to take layers of, expected one of {', '.join(TRUNKS)}"
            raise ValueError(message)
        names = layout.between(depth, last)
        trunk = TRUNKS[layout.family](layout)
        self.layers = nn.ModuleDict({name: trunk.layers[name] for name in names})
        self._follow = trunk.follow

    def forward(self, x: Tensor, entered: Tensor) -> Tensor:
        """Map (N, C, h, w) at the depth, and the map that its shortcut reads, to the map of the last layer."""
        for _, found in self._follow(self.layers.items(), x, entered):
            x = found
        return x

    @torch.no_grad()
    def copy_from(self, trunk: Trunk) -> None:
        """Take over the weights and statistics of a trunk's layers."""
        for name, layer in self.layers.items():
            layer.load_state_dict(trunk.layers[name].state_dict())


TRUNKS: dict[str, type[Trunk]] = {}  # families of trunks by name; models.trunks.registry fills it

Family = TypeVar("Family", bound=type[Trunk])


def register_trunk(name: str) -> Callable[[Family], Family]:
    """Register a family of trunks under a name.

    Raises:
        ValueError: the name is taken, or would be read as another part of a trunk's name.
    """

    def add(family: Family) -> Family:
        if name in TRUNKS or TrunkName.parse(name) != TrunkName(name):
            message = f"trunk {name!r} is registered already or is no plain name: choose another"
            raise ValueError(message)
        TRUNKS[name] = family
        return family

    return add


def scaled(template: Template, factor: float) -> Template:
    """Return a template for crops whose side is so many times as long."""
    return tuple((round(x * factor, 4), round(y * factor, 4)) for x, y in template)
