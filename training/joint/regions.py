"""The second part of a joint run of a branch with regions: they are found, and all its layers learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from training.fit.regions import average_regions, rectangles

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

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
