"""Mean responses and regions of a release's attributes over aligned faces, for a figure that shows no face of a set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.errors import RecipeError
from training.fit.targets import labelled, targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.branches import Branch
    from models.manifest import Manifest
    from models.trunks.base import Trunk
    from models.trunks.receptive_fields import ReceptiveField
    from training.data.face_sets import FaceSet

MIN_AVERAGED = 50  # faces; the mean of fewer would still show some of them
_CROPS_PER_PASS = 64


@dataclass(frozen=True, slots=True)
class RegionMaps:
    """Where a branch finds its K labels."""

    labels: tuple[str, ...]
    face: NDArray[np.float32]
    """(S, S, 3) mean of the aligned crops, 0..255."""
    responses: NDArray[np.float32]
    """(K, h, w) mean over the faces with the label, 0..1; nan where no face has it."""
    boxes: NDArray[np.float32]
    """(K, 4) x0, y0, x1, y1 in pixels of the crop."""
    field: ReceptiveField
    """Of the map of the responses."""

    def smallest(self, count: int) -> list[str]:
        """Return the labels with the smallest regions, the smallest first, without those that no face has."""
        width, height = self.boxes[:, 2] - self.boxes[:, 0], self.boxes[:, 3] - self.boxes[:, 1]
        order = np.argsort(width * height, kind="stable")
        return [self.labels[number] for number in order if np.isfinite(self.responses[number]).all()][:count]

    def table(self) -> str:
        """Format the regions as a Markdown table, in pixels of the crop."""
        rows = [
            f"| {label} | " + " | ".join(f"{edge:.0f}" for edge in box) + " |"
            for label, box in zip(self.labels, self.boxes, strict=True)
        ]
        return "\n".join(["| label | left | top | right | bottom |", "|---|---|---|---|---|", *rows])


def task_with_regions(manifest: Manifest) -> str:
    """Return the task of the first branch with regions.

    Raises:
        RecipeError: there is none.
    """
    for spec in manifest.branches:
        if spec.regions:
            return spec.task
    raise RecipeError(f"release {manifest.name} has no branch with regions; train one with the recipe 'regions'")


def region_maps(trunk: Trunk, branch: Branch, pixels: NDArray[np.uint8], soft: NDArray[np.float32]) -> RegionMaps:
    """Average the responses of a branch over the faces with each label.

    Args:
        trunk: in evaluation mode.
        branch: with regions, in float32.
        pixels: (N, 3, S, S) aligned crops.
        soft: (N, K) labels of the faces, 0..1.

    Raises:
        RecipeError: the branch has no regions, or there are too few faces for a mean that shows none of them.
    """
    if branch.regions is None:
        raise RecipeError(f"branch {branch.spec.task!r} has no regions; train one with the recipe 'regions'")
    if len(pixels) < MIN_AVERAGED:
        raise RecipeError(f"got {len(pixels)} faces to average, expected {MIN_AVERAGED} or more; choose another split")
    having, depth = (soft > 0.5).astype(np.float32), branch.spec.depths[0]
    sums = torch.zeros(len(branch.spec.labels), *trunk.layout.maps[depth][1:])
    with torch.inference_mode():
        for start in range(0, len(pixels), _CROPS_PER_PASS):
            rows = slice(start, start + _CROPS_PER_PASS)
            crops = torch.from_numpy(np.array(pixels[rows])).contiguous(memory_format=torch.channels_last)
            maps = trunk.forward_intermediates(crops.to(next(trunk.parameters()).device), (depth,))[depth]
            found = branch.regions.responses(maps.float().cpu()).sigmoid()
            sums += torch.einsum("nk,nkhw->khw", torch.from_numpy(having[rows]), found)
    count = having.sum(axis=0)[:, None, None]
    mean = np.divide(sums.numpy(), count, out=np.full(sums.shape, np.nan, np.float32), where=count > 0)
    face = pixels.mean(axis=0, dtype=np.float64).transpose(1, 2, 0).astype(np.float32)
    return RegionMaps(branch.spec.labels, face, mean, branch.regions.boxes.numpy(), branch.regions.field)


def labelled_rows(task: str, faces: FaceSet, labels: int, split: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the labelled rows of a split, and their (M, K) labels."""
    soft = targets(task, faces, labels)
    rows = labelled(task, soft, np.flatnonzero(faces.split == split))
    return rows, soft[rows].numpy()
