"""Trains a joint recipe: calibrated branches, and a trunk that learnt with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.manifest import read_manifest
from models.trunks.base import TrunkName
from training.errors import TrainingError
from training.fit.targets import READERS
from training.joint.batches import FaceViews
from training.joint.run import JointRun
from training.joint.setup import JointSetup
from training.joint.teachers import Base, Teacher, Teachers
from training.releases.export import TunedTrunk, branches_of
from training.train import TrainedBranch, calibrated, load_trunk
from training.trunk.faces import read_people

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.trunks.base import Trunk
    from training.data.face_sets import DataName
    from training.joint.run import JointResult
    from training.recipes.joint import JointOptions, SecondRun
    from training.recipes.recipe import Recipe
    from training.train import TrainingContext


@dataclass(frozen=True, slots=True)
class JointlyTrained:
    """The branches and the trunk of a joint recipe, on the CPU."""

    branches: list[TrainedBranch]
    trunk: TunedTrunk | None
    """None where it was frozen."""


def train_jointly(recipe: Recipe, contexts: Sequence[TrainingContext], folder: Path, seed: int = 0) -> JointlyTrained:
    """Train all branches of a recipe together, and calibrate each on the validation split before a run learns from it.

    Args:
        recipe: one whose ``joint`` is set.
        contexts: one for each of its ``searches``.
        folder: for checkpoints and run logs.
        seed: of everything random; a recipe with a second run takes as many more as it has teachers.

    Raises:
        DataError: a data set is missing.
        RecipeError: a set that holds the embeddings is unknown, or the trunk lacks a depth of a branch.
        TrainingError: the recipe is not for joint training, or the folder holds another run.
    """
    recipe, context = recipe.on(contexts[-1].trunk.layout), contexts[-1]
    options = recipe.joint
    if options is None:
        raise TrainingError(f"recipe {recipe.name!r} has no joint options; train its branches one by one")
    views = {name: face_views(name, contexts) for name in dict.fromkeys(each.data for each in recipe.heads)}
    trunk = learning_trunk(context) if options.trunk else context.trunk
    setup = JointSetup(
        recipes=recipe.heads,
        trunk=trunk,
        views=views,
        options=options,
        seed=seed,
        held_by=held_crops(options, context, views),
        base=base_of(recipe, options, context),
    )
    if options.second is None:
        return _ready_to_ship(setup, context, train_first(setup, folder))
    numbers = range(options.second.teachers)
    firsts = [train_first(replace(setup, seed=seed + number), folder / f"first-{number}") for number in numbers]
    setup = replace(setup, seed=seed + len(firsts))
    return _ready_to_ship(setup, context, train_second(setup, options.second, folder / "second", firsts))


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """Trunk and branches that one run gave."""

    trunk: Trunk
    branches: list[TrainedBranch]

    def teacher(self) -> Teacher:
        """Return them as a teacher for another run."""
        return Teacher(self.trunk, {each.branch.spec.task: each.branch for each in self.branches})


def train_first(setup: JointSetup, folder: Path) -> RunOutcome:
    """Train on the training split, and calibrate on the validation split."""
    run = JointRun(setup, folder)
    branches = [_trained(found) for found in run.run()]
    for recipe, trained in zip(setup.recipes, branches, strict=True):
        task = recipe.spec.task
        rows = run.evaluation.validation_rows(task)
        logits = run.evaluation.logits(task, rows, trained.branch)
        trained.branch.spec = calibrated(recipe, logits, run.state.task(task).soft[rows])
    return RunOutcome(run.trunk, branches)


def train_second(setup: JointSetup, second: SecondRun, folder: Path, firsts: Sequence[RunOutcome]) -> RunOutcome:
    """Train on both splits with the first runs as teachers; the calibration is that of the first of them."""
    teachers = Teachers([first.teacher() for first in firsts], second.taught)
    options = replace(setup.options, steps=second.steps)
    run = JointRun(replace(setup, options=options, splits=("train", "val"), teachers=teachers), folder)
    branches = [_trained(found) for found in run.run()]
    for trained, before in zip(branches, firsts[0].branches, strict=True):
        trained.branch.spec = before.branch.spec
    return RunOutcome(run.trunk, branches)


def _ready_to_ship(setup: JointSetup, context: TrainingContext, outcome: RunOutcome) -> JointlyTrained:
    """Move what a run gave to the CPU, the trunk with its new name where it was tuned."""
    for trained in outcome.branches:
        trained.branch.cpu()
    tuning = setup.options.trunk
    if tuning is None:
        return JointlyTrained(outcome.branches, None)
    before = TrunkName.parse(read_manifest(context.release).trunk)
    sets = tuple(dict.fromkeys((*setup.views, *tuning.held_by)))
    name = str(replace(before, weights=tuning.name))
    return JointlyTrained(outcome.branches, TunedTrunk(name, outcome.trunk.cpu(), sets))


def face_views(name: DataName, contexts: Sequence[TrainingContext]) -> FaceViews:
    """Cut the faces of a data set as the detector of each context finds them."""
    faces = READERS[name](contexts[0].data)
    crops = (context.crops(faces) for context in contexts)
    return FaceViews(faces, tuple(found.pixels for found in crops))


def learning_trunk(context: TrainingContext) -> Trunk:
    """Load the context's trunk again, float32 on its device: the smallest steps of learning are lost in bfloat16."""
    device = next(context.trunk.parameters()).device
    return load_trunk(context.release).to(device).to(memory_format=torch.channels_last).eval()


def held_crops(
    options: JointOptions, context: TrainingContext, views: Mapping[DataName, FaceViews]
) -> dict[str, NDArray[np.uint8]]:
    """Return the faces that only hold the embeddings of a trunk that learns: (N, 3, S, S) by set.

    They are cut unless their set is learnt from, too, so that they are among its views.
    """
    names = tuple(options.trunk.held_by) if options.trunk else ()
    cut = {str(name): found for name, found in views.items()}
    found = {}
    for name, source in zip(names, read_people(context.data, names), strict=True):
        if name in cut:
            rows = np.flatnonzero(np.isin(cut[name].faces.files, source.faces.files))
            found[name] = np.asarray(cut[name].pixels[-1][rows])
        else:
            found[name] = context.crops(source.faces).pixels
    return found


def base_of(recipe: Recipe, options: JointOptions, context: TrainingContext) -> Base | None:
    """Load the branches of the base from which a run goes on, as far as it has them; None where the run begins anew."""
    if options.base is None:
        return None
    wanted = {head.spec.task for head in recipe.heads}
    tasks = [spec.task for spec in read_manifest(context.release).branches if spec.task in wanted]
    device = next(context.trunk.parameters()).device
    return Base(
        {branch.spec.task: branch.to(device) for branch in branches_of(context.release, tasks)}, options.base.taught
    )


def _trained(found: JointResult) -> TrainedBranch:
    return TrainedBranch(found.branch.shipped(), found.score, f"{found.step} steps")
