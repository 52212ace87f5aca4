"""Places: depths of a recipe that are found on whichever trunk it is trained on, or refused with a sentence.

first map               the first of the trunk's maps
last map                the last map that has more than one cell; of SFace conv_14, 7 x 7 cells
last finer map          the last one with more cells than that; of SFace conv_12, 14 x 14 cells
first finer map         the first one with as many cells as that; of SFace conv_7
last 14x14 map          the last map of exactly so many cells a side
2 before last map       so many layers before another place
conv_12, embedding      a depth by the trunk's own name
No place but a name lies inside a module, before its sum.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from models.trunks.base import EMBEDDING_DEPTH
from training.errors import RecipeError

if TYPE_CHECKING:
    from models.trunks.base import Shape, TrunkLayout

FIRST_MAP = "first map"
LAST_MAP = "last map"
FINER_MAP = "last finer map"
FIRST_FINER_MAP = "first finer map"

_SIDE = re.compile(r"last (\d+)x\1 map")
_BEFORE = re.compile(r"(\d+) before (.+)")


def resolve(place: str, layout: TrunkLayout) -> str:
    """Return the depth of a trunk that a place names.

    Raises:
        RecipeError: the trunk has no such place.
    """
    names = tuple(layout.maps)
    if place == FIRST_MAP:
        return names[0]
    if place == LAST_MAP:
        return _last(layout, larger_than=1) or names[-1]
    if place in (FINER_MAP, FIRST_FINER_MAP) and (finer := _finer(layout)):
        return finer[place == FIRST_FINER_MAP]
    if (match := _SIDE.fullmatch(place)) and (found := _of_side(layout, int(match[1]))):
        return found
    if (match := _BEFORE.fullmatch(place)) and (found := _before(layout, resolve(match[2], layout), int(match[1]))):
        return found
    if place in layout.depths:
        return place
    sides = ", ".join(dict.fromkeys(f"{height}x{width}" for _, height, width in layout.maps.values()))
    raise RecipeError(
        f"this trunk has no depth {place!r}: its maps have {sides} cells, its depths are {', '.join(layout.depths)}; "
        "choose one of them or another place (training/recipes/places.py)"
    )


def largest_pool(depths: tuple[str, ...], layout: TrunkLayout, pool: int) -> int:
    """Return the pooling that a recipe asks for, or the finest that all its maps on this trunk allow."""
    return min([pool, *(min(layout.maps[depth][1:]) for depth in depths if depth != EMBEDDING_DEPTH)])


def _maps(layout: TrunkLayout) -> list[tuple[str, Shape]]:
    """Return the maps, last ones first, but for those inside a module."""
    return [(name, shape) for name, shape in reversed(list(layout.maps.items())) if name not in layout.shortcuts]


def _last(layout: TrunkLayout, larger_than: int) -> str | None:
    return next((name for name, shape in _maps(layout) if shape[1] > larger_than), None)


def _finer(layout: TrunkLayout) -> tuple[str, str] | None:
    """Return the last and the first map of the last side above that of the last map."""
    last = _last(layout, larger_than=layout.maps[resolve(LAST_MAP, layout)][1])
    if last is None:
        return None
    return last, next(name for name, shape in reversed(_maps(layout)) if shape[1] == layout.maps[last][1])


def _of_side(layout: TrunkLayout, side: int) -> str | None:
    return next((name for name, shape in _maps(layout) if shape[1:] == (side, side)), None)


def _before(layout: TrunkLayout, depth: str, count: int) -> str | None:
    place = layout.rank(depth) - count
    return layout.depths[place] if place >= 0 else None
