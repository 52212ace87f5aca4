"""Tiles of the faces that moved most, for a contact sheet."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from worker.errors import FacetError
from worker.pictures.sheets import Tile
from worker.pictures.tiles import CROP_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from worker.releases.diff.movers import Mover
    from worker.storage.crops import CropStore


def mover_tiles(store: CropStore, movers: Sequence[Mover]) -> list[Tile]:
    """Return a tile for each mover whose crop is kept, head by head."""

    @lru_cache(maxsize=8)
    def strip(name: str) -> NDArray[np.uint8] | None:
        try:
            return store.read(name, CROP_SIZE)
        except FacetError:  # its file was erased meanwhile, or the store lost it
            return None

    tiles = []
    for one in movers:
        crops = None if one.crop_uri is None else strip(one.crop_uri)
        if crops is not None and one.crop_index is not None and one.crop_index < len(crops):
            captions = (one.after, f"before: {one.before}", f"face {one.face_id}")
            tiles.append(Tile(pixels=crops[one.crop_index], captions=captions, group=one.head))
    return tiles
