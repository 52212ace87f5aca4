"""Maps of the frozen trunk, computed once and kept on disk in half precision.

A branch on a frozen trunk reads the same numbers in every epoch, so the trunk runs once per crop and once per mirrored
crop. Training a branch then takes minutes on two CPU cores.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch.nn import functional

from models.inference.precision import compute_dtype
from models.trunks.base import EMBEDDING_DEPTH

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from models.trunks.base import Trunk, TrunkLayout

_log = logging.getLogger(__name__)

TRUNK_BATCH = 64  # crops per forward pass
_PROBES = 16  # crops whose bytes, with the trunk's weights, give the name of a cache file
_FP16_MAX = 65504.0


@dataclass(frozen=True, slots=True, order=True)
class Tap:
    """A depth of the trunk, and the pooling of the map there."""

    depth: str
    pool: int | None = None
    """Cells along each side after average pooling; None keeps the whole map."""

    def shape(self, layout: TrunkLayout) -> tuple[int, int, int]:
        """Return the (C, h, w) of the pooled map; the embedding is a map of one cell."""
        if self.depth == EMBEDDING_DEPTH:
            return layout.embedding_size, 1, 1
        channels, height, width = layout.maps[self.depth]
        return (channels, height, width) if self.pool is None else (channels, self.pool, self.pool)

    def of(self, maps: dict[str, Tensor]) -> Tensor:
        """Select and pool one of the maps, which are given by depth: (N, C, h, w)."""
        found = maps[self.depth]
        if found.dim() == 2:
            return found[:, :, None, None]
        return found if self.pool is None else functional.adaptive_avg_pool2d(found.float(), self.pool)


@dataclass(frozen=True, slots=True)
class Features:
    """Maps of N faces at one tap, plain and mirrored."""

    plain: NDArray[np.float16]
    """(N, h, w, C); channels last, as the trunk computes them."""
    mirrored: NDArray[np.float16]
    """(N, h, w, C) of the crops flipped left to right; the plain ones again where mirrored ones are not wanted."""

    def __len__(self) -> int:
        return len(self.plain)

    def batch(self, rows: NDArray[np.int64], mirror: NDArray[np.bool_]) -> Tensor:
        """Read rows, each plain or mirrored: (B, C, h, w) half precision."""
        found = np.empty((len(rows), *self.plain.shape[1:]), dtype=np.float16)
        found[~mirror] = self.plain[rows[~mirror]]
        found[mirror] = self.mirrored[rows[mirror]]
        return torch.from_numpy(found).permute(0, 3, 1, 2)


def extract(
    trunk: Trunk, pixels: NDArray[np.uint8], taps: tuple[Tap, ...], cache: Path, *, mirror: bool = True
) -> dict[Tap, Features]:
    """Run the trunk over crops and their mirror images, or read the maps from the cache folder.

    Args:
        trunk: in evaluation mode.
        pixels: (N, 3, S, S) RGB crops.
        taps: maps to keep.
        cache: folder for the maps; one of (512, 14, 14) takes 200 kB a face.
        mirror: whether mirrored crops are wanted.
    """
    cache.mkdir(parents=True, exist_ok=True)
    key = _features_key(trunk, pixels)
    plain = _array(trunk, pixels, _Request(taps, mirror=False, cache=cache, key=key))
    mirrored = _array(trunk, pixels, _Request(taps, mirror=True, cache=cache, key=key)) if mirror else plain
    return {tap: Features(plain=plain[tap], mirrored=mirrored[tap]) for tap in taps}


@dataclass(frozen=True, slots=True)
class _Request:
    taps: tuple[Tap, ...]
    mirror: bool
    cache: Path
    key: str

    def path(self, tap: Tap) -> Path:
        variant = "mirrored" if self.mirror else "plain"
        return self.cache / f"{self.key}-{tap.depth}-{tap.pool or 'map'}-{variant}.npy"


def _array(trunk: Trunk, pixels: NDArray[np.uint8], request: _Request) -> dict[Tap, NDArray[np.float16]]:
    missing = tuple(tap for tap in request.taps if not request.path(tap).is_file())
    if missing:
        _compute(trunk, pixels, missing, request)
    return {tap: np.load(request.path(tap), mmap_mode="r") for tap in request.taps}


def _compute(trunk: Trunk, pixels: NDArray[np.uint8], taps: tuple[Tap, ...], request: _Request) -> None:
    partial = {tap: request.path(tap).with_suffix(".partial") for tap in taps}
    kept = {tap: tap.shape(trunk.layout) for tap in taps}
    shapes = {tap: (len(pixels), height, width, channels) for tap, (channels, height, width) in kept.items()}
    arrays = {tap: open_memmap(partial[tap], "w+", np.float16, shapes[tap]) for tap in taps}
    for start in range(0, len(pixels), TRUNK_BATCH):
        crops = torch.from_numpy(np.array(pixels[start : start + TRUNK_BATCH]))
        maps = run_trunk(trunk, crops.flip(3) if request.mirror else crops, taps)
        for tap, found in maps.items():
            arrays[tap][start : start + TRUNK_BATCH] = found.permute(0, 2, 3, 1).to(torch.float16).numpy()
    del arrays
    for tap in taps:
        partial[tap].rename(request.path(tap))  # a file of the final name is complete
    _log.info("computed features", extra={"action": "features", "faces": len(pixels), "taps": len(taps)})


@torch.inference_mode()
def run_trunk(trunk: Trunk, crops: Tensor, taps: tuple[Tap, ...]) -> dict[Tap, Tensor]:
    """Run the trunk once over (N, 3, S, S) crops: (N, C, h, w) float32 by tap, in the range of fp16."""
    parameter = next(trunk.parameters())
    images = crops.to(parameter.device).contiguous(memory_format=torch.channels_last)
    maps = trunk.forward_intermediates(images, {tap.depth for tap in taps})
    return {tap: tap.of(maps).float().clamp(-_FP16_MAX, _FP16_MAX).cpu() for tap in taps}


def ready(trunk: Trunk, device: torch.device) -> Trunk:
    """Move a trunk to a device, in the number format that the device multiplies fastest."""
    return trunk.to(device, compute_dtype(device)).to(memory_format=torch.channels_last).eval()


def _features_key(trunk: Trunk, pixels: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(str(pixels.shape).encode())
    for row in np.linspace(0, max(len(pixels) - 1, 0), _PROBES).astype(int)[: len(pixels)]:
        digest.update(np.ascontiguousarray(pixels[row]).tobytes())
    add_weights(digest, trunk)
    return digest.hexdigest()[:16]


def add_weights(digest: hashlib._Hash, model: nn.Module) -> None:
    """Add all weights of a model to a hash."""
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
