"""The second part of a joint run of a branch with regions: they are found, and all its layers learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from models.trunks.receptive_fields import ReceptiveField
    from models.trunks.regions import Regions
    from training.joint.setup import JointSetup
    from training.joint.state import JointState
    from training.joint.task import JointTask

_CROPS_PER_PASS = 128


def find_regions(state: JointState, task: JointTask, setup: JointSetup) -> None:
    """Find the regions of a branch by its response networks, and let all its layers learn from now on."""
    search, regions = task.recipe.regions, task.branch.branch.regions
    if search is None or regions is None:
        raise TypeError(f"branch {task.name!r} has no regions to find")
    task.branch.load_state_dict(task.average.state_dict())  # the second part begins from the running mean
    rows = np.random.default_rng(setup.seed).permutation(task.rows)[: search.faces]
    pixels, side = setup.views[task.recipe.data].pixels[-1], setup.trunk.layout.side
    chunks = [rows[start : start + _CROPS_PER_PASS] for start in range(0, len(rows), _CROPS_PER_PASS)]
    responses = (_responses(state, regions, pixels[chunk], task.recipe.spec.depths[0]) for chunk in chunks)
    found = [rectangles(each, regions.field, side, search.threshold) for each in responses]
    regions.boxes.copy_(average_regions(torch.cat(found), task.soft[np.concatenate(chunks)], side))
    task.begin_second()
    state.standardise(setup, [task])


@torch.no_grad()
def _responses(state: JointState, regions: Regions, pixels: NDArray[np.uint8], depth: str) -> Tensor:
    """Return the (N, K, h, w) responses for (N, 3, S, S) crops, on the CPU."""
    return regions.responses(state.trunk.maps(torch.from_numpy(np.array(pixels)))[depth].float()).cpu()


def rectangles(responses: Tensor, field: ReceptiveField, side: int, threshold: float) -> Tensor:
    """Return the rectangle of the crop that the places of high response see, for each label of each face.

    Args:
        responses: (N, K, h, w).
        field: of the map of the responses.
        side: of the crops, in pixels.
        threshold: see ``training.recipes.joint.RegionSearch``.

    Returns:
        (N, K, 4) x0, y0, x1, y1 in pixels.
    """
    low, high = responses.amin((2, 3), keepdim=True), responses.amax((2, 3), keepdim=True)
    belongs = responses >= low + (high - low) * threshold
    belongs |= responses == high  # also where rounding puts the threshold above the greatest
    (x0, x1), (y0, y1) = (_stretch(belongs.any(dim=axis), field) for axis in (2, 3))
    return torch.stack([x0, y0, x1, y1], 2).clamp(0, side)


def _stretch(belongs: Tensor, field: ReceptiveField) -> tuple[Tensor, Tensor]:
    """Return the first pixel that the places along an axis see, and the one behind the last: (N, K) each."""
    places = torch.arange(belongs.shape[2], device=belongs.device)
    first = torch.where(belongs, places, belongs.shape[2]).amin(dim=2)
    last = torch.where(belongs, places, -1).amax(dim=2)
    return (field.start + first * field.step).float(), (field.start + last * field.step + field.size).float()


def average_regions(found: Tensor, targets: Tensor, side: int) -> Tensor:
    """Average the rectangles of the faces that have a label.

    Args:
        found: (N, K, 4) pixels.
        targets: (N, K) 0..1.
        side: of the crops, in pixels.

    Returns:
        (K, 4) whole pixels; the whole crop for a label that no face has.
    """
    having = (targets > 0.5).to(found)
    count = having.sum(dim=0)[:, None]
    mean = (found * having[..., None]).sum(dim=0) / count.clamp(min=1)
    whole = found.new_tensor([0, 0, side, side])
    return torch.where(count > 0, mean, whole).round()
