"""From a recipe for joint training to calibrated branches, and a trunk that learnt with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from models.manifest import read_manifest
from models.trunk import TrunkName
from training.crops import crop_faces
from training.errors import TrainingError
from training.export import TunedTrunk
from training.identity_data import read_people
from training.joint import FaceViews, JointRun
from training.tasks import READERS
from training.train import TrainedHead, calibrated, read_trunk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from models.trunk import Trunk
    from training.joint import JointHead
    from training.joint_options import JointOptions
    from training.recipes import DataName, HeadRecipe, Recipe
    from training.train import Bench


@dataclass(frozen=True, slots=True)
class JointlyTrained:
    """What a joint run gave."""

    heads: list[TrainedHead]
    trunk: TunedTrunk | None
    """None where it was frozen."""


def train_jointly(recipe: Recipe, benches: Sequence[Bench], folder: Path, seed: int = 0) -> JointlyTrained:
    """Train all branches of a recipe in one run, and calibrate each on its validation split.

    Args:
        recipe: one whose ``joint`` is set.
        benches: one for each of its ``searches``.
        folder: for checkpoint and log.
        seed: of everything random.

    Raises:
        DataError: a data set is missing.
        RecipeError: a set that holds the embeddings is unknown.
        TrainingError: the recipe is not for joint training, or the folder holds another run.
    """
    options, stand = recipe.joint, benches[-1]
    if options is None:
        raise TrainingError(f"recipe {recipe.name!r} says nothing of joint training")
    views = {name: face_views(name, benches) for name in dict.fromkeys(head.data for head in recipe.heads)}
    trunk = learning_trunk(stand) if options.trunk else stand.trunk
    run = JointRun(recipe.heads, trunk, views, options, folder, seed, held_by=holders(options, stand))
    found = run.run()
    heads = [_calibrated(run, head, one) for head, one in zip(recipe.heads, found, strict=True)]
    return JointlyTrained(heads, _tuned(run, options, stand))


def face_views(name: DataName, benches: Sequence[Bench]) -> FaceViews:
    """Cut the faces of a data set as each bench's detector finds them."""
    faces = READERS[name](benches[0].data)
    crops = (crop_faces(faces, stand.detector, stand.cache / "crops") for stand in benches)
    return FaceViews(faces, tuple(found.pixels for found in crops))


def learning_trunk(stand: Bench) -> Trunk:
    """Read the bench's trunk again, float32 on its device: the smallest steps of learning are lost in bfloat16."""
    device = next(stand.trunk.parameters()).device
    return read_trunk(stand.release).to(device).to(memory_format=torch.channels_last).eval()


def holders(options: JointOptions, stand: Bench) -> dict[str, NDArray[np.uint8]]:
    """Cut the faces that only hold the embeddings of a trunk that learns: (N, 3, S, S) by set."""
    names = tuple(options.trunk.held_by) if options.trunk else ()
    sources = zip(names, read_people(stand.data, names), strict=True)
    layout, cache = stand.trunk.layout, stand.cache / "crops"
    return {name: crop_faces(source.faces, stand.detector, cache, layout).pixels for name, source in sources}


def _tuned(run: JointRun, options: JointOptions, stand: Bench) -> TunedTrunk | None:
    if run.tuned_trunk is None or options.trunk is None:
        return None
    before = TrunkName.parse(read_manifest(stand.release).trunk)
    name = str(replace(before, weights=options.trunk.name))
    return TunedTrunk(name, run.tuned_trunk.cpu(), tuple(dict.fromkeys((*options.batch, *options.trunk.held_by))))


def _calibrated(run: JointRun, recipe: HeadRecipe, found: JointHead) -> TrainedHead:
    branch = found.head.shipped()
    rows = run.validation_rows(recipe.spec.task)
    branch.spec = calibrated(recipe, run.logits(recipe.spec.task, rows, branch), run.soft(recipe.spec.task)[rows])
    return TrainedHead(branch.cpu(), found.score, f"{found.step} steps")
