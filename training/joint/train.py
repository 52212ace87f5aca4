"""From a recipe for joint training to calibrated branches, and a trunk that learnt with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from models.manifest import read_manifest
from models.trunks.base import TrunkName
from training.data.crops import crop_faces
from training.errors import TrainingError
from training.fit.targets import READERS
from training.joint.batches import FaceViews
from training.joint.run import JointRun
from training.joint.teachers import Teacher, Teachers
from training.releases.export import TunedTrunk
from training.train import TrainedHead, calibrated, read_trunk
from training.trunk.faces import read_people

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from models.trunks.base import Trunk
    from training.data.face_sets import DataName
    from training.joint.run import JointHead
    from training.recipes.joint import JointOptions, SecondRun
    from training.recipes.recipe import HeadRecipe, Recipe
    from training.train import Bench


@dataclass(frozen=True, slots=True)
class JointlyTrained:
    """What a joint run gave."""

    heads: list[TrainedHead]
    trunk: TunedTrunk | None
    """None where it was frozen."""


def train_jointly(recipe: Recipe, benches: Sequence[Bench], folder: Path, seed: int = 0) -> JointlyTrained:
    """Train all branches of a recipe together, and calibrate each on the validation split before a run learns from it.

    Args:
        recipe: one whose ``joint`` is set.
        benches: one for each of its ``searches``.
        folder: for checkpoints and logs.
        seed: of everything random; a recipe with a second run takes as many more as it has teachers.

    Raises:
        DataError: a data set is missing.
        RecipeError: a set that holds the embeddings is unknown.
        TrainingError: the recipe is not for joint training, or the folder holds another run.
    """
    options, stand = recipe.joint, benches[-1]
    if options is None:
        raise TrainingError(f"recipe {recipe.name!r} says nothing of joint training")
    views = {name: face_views(name, benches) for name in dict.fromkeys(head.data for head in recipe.heads)}
    course = _Course(recipe.heads, options, views, stand, holders(options, stand))
    if options.second is None:
        return course.shipped(course.first(folder, seed))
    firsts = [course.first(folder / f"first-{number}", seed + number) for number in range(options.second.teachers)]
    return course.shipped(course.second(options.second, folder / "second", seed + len(firsts), firsts))


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one run gave."""

    trunk: Trunk
    heads: list[TrainedHead]

    def teacher(self) -> Teacher:
        return Teacher(self.trunk, {head.branch.spec.task: head.branch for head in self.heads})


@dataclass(frozen=True, slots=True)
class _Course:
    """What all runs of a recipe have in common."""

    heads: Sequence[HeadRecipe]
    options: JointOptions
    views: Mapping[DataName, FaceViews]
    stand: Bench
    held_by: Mapping[str, NDArray[np.uint8]]

    def first(self, folder: Path, seed: int) -> _Outcome:
        """Train on the training split, and calibrate on the validation split."""
        run = JointRun(self.heads, self._trunk(), self.views, self.options, folder, seed, held_by=self.held_by)
        heads = [_trained(found) for found in run.run()]
        for recipe, head in zip(self.heads, heads, strict=True):
            rows = run.validation_rows(recipe.spec.task)
            logits = run.logits(recipe.spec.task, rows, head.branch)
            head.branch.spec = calibrated(recipe, logits, run.soft(recipe.spec.task)[rows])
        return _Outcome(run.trunk, heads)

    def second(self, second: SecondRun, folder: Path, seed: int, firsts: Sequence[_Outcome]) -> _Outcome:
        """Train on both splits, taught by first runs; the calibration is that of the first of them."""
        run = JointRun(
            self.heads,
            self._trunk(),
            self.views,
            replace(self.options, steps=second.steps),
            folder,
            seed,
            held_by=self.held_by,
            splits=("train", "val"),
            teachers=Teachers([first.teacher() for first in firsts], second.taught),
        )
        heads = [_trained(found) for found in run.run()]
        for head, before in zip(heads, firsts[0].heads, strict=True):
            head.branch.spec = before.branch.spec
        return _Outcome(run.trunk, heads)

    def shipped(self, outcome: _Outcome) -> JointlyTrained:
        """Bring what a run gave to the CPU, the trunk with its new name where it was tuned."""
        for head in outcome.heads:
            head.branch.cpu()
        if self.options.trunk is None:
            return JointlyTrained(outcome.heads, None)
        before = TrunkName.parse(read_manifest(self.stand.release).trunk)
        name = str(replace(before, weights=self.options.trunk.name))
        sets = tuple(dict.fromkeys((*self.views, *self.options.trunk.held_by)))
        return JointlyTrained(outcome.heads, TunedTrunk(name, outcome.trunk.cpu(), sets))

    def _trunk(self) -> Trunk:
        return learning_trunk(self.stand) if self.options.trunk else self.stand.trunk


def face_views(name: DataName, benches: Sequence[Bench]) -> FaceViews:
    """Cut the faces of a data set as each bench's detector finds them."""
    faces = READERS[name](benches[0].data)
    crops = (crop_faces(faces, stand.detector, stand.cache / "crops", stand.trunk.layout) for stand in benches)
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


def _trained(found: JointHead) -> TrainedHead:
    return TrainedHead(found.head.shipped(), found.score, f"{found.step} steps")
