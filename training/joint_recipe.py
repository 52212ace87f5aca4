"""From a recipe for joint training to calibrated branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.crops import crop_faces
from training.errors import TrainingError
from training.joint import FaceViews, JointRun
from training.tasks import READERS
from training.train import TrainedHead, calibrated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.joint import JointHead
    from training.recipes import DataName, HeadRecipe, Recipe
    from training.train import Bench


def train_jointly(recipe: Recipe, benches: Sequence[Bench], folder: Path, seed: int = 0) -> list[TrainedHead]:
    """Train all branches of a recipe in one run, and calibrate each on its validation split.

    Args:
        recipe: one whose ``joint`` is set.
        benches: one for each of its ``searches``.
        folder: for checkpoint and log.
        seed: of everything random.

    Raises:
        DataError: a data set is missing.
        TrainingError: the recipe is not for joint training, or the folder holds another run.
    """
    if recipe.joint is None:
        raise TrainingError(f"recipe {recipe.name!r} says nothing of joint training")
    views = {name: face_views(name, benches) for name in dict.fromkeys(head.data for head in recipe.heads)}
    run = JointRun(recipe.heads, benches[-1].trunk, views, recipe.joint, folder, seed)
    return [_calibrated(run, head, found) for head, found in zip(recipe.heads, run.run(), strict=True)]


def face_views(name: DataName, benches: Sequence[Bench]) -> FaceViews:
    """Cut the faces of a data set as each bench's detector finds them."""
    faces = READERS[name](benches[0].data)
    crops = (crop_faces(faces, stand.detector, stand.cache / "crops") for stand in benches)
    return FaceViews(faces, tuple(found.pixels for found in crops))


def _calibrated(run: JointRun, recipe: HeadRecipe, found: JointHead) -> TrainedHead:
    branch = found.head.shipped()
    rows = run.validation_rows(recipe.spec.task)
    branch.spec = calibrated(recipe, run.logits(recipe.spec.task, rows, branch), run.soft(recipe.spec.task)[rows])
    return TrainedHead(branch.cpu(), found.score, f"{found.step} steps")
