"""Trains the branches of a recipe one by one on the frozen trunk, and calibrates them."""

from __future__ import annotations

import bisect
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.branches import Branch, Experts
from models.detection.detector import FaceDetector
from models.inference.precision import resolve_device
from models.manifest import DETECTOR_FILE, TRUNK_FILE, read_manifest
from models.readings import interpret
from models.trunks.registry import create_trunk
from models.weights import load_into, read_weights
from training.data.crops import crop_faces
from training.evaluate.metrics import coverage
from training.evaluate.operating_points import thresholds
from training.fit.calibration import TEMPERATURES, abstention_threshold, fit_temperature
from training.fit.features import Features, Tap, extract, ready
from training.fit.fit import Examples, Fit, fit, logits_of, maps_of
from training.fit.progress import progress_bar
from training.fit.targets import READERS, labelled, score, targets
from training.fit.trainable_branch import TrainableBranch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from models.branches import BranchSpec
    from models.trunks.base import Trunk, TrunkLayout
    from training.data.crops import Crops
    from training.data.face_sets import FaceSet
    from training.fit.fit import Epoch
    from training.fit.progress import RunLog
    from training.recipes.recipe import HeadRecipe, Recipe

_log = logging.getLogger(__name__)

STANDARDISED_ON = 1024  # training faces whose features set mean and deviation
INTERVAL_SHARE = 0.8  # of the ages, within the intervals of the age head


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """A release's trunk and detector, with the folders that training reads and writes."""

    trunk: Trunk
    """Frozen, on its device and in its number format."""
    detector: FaceDetector
    data: Path
    """Folder of the data sets."""
    cache: Path
    """Folder for crops and features; tens of gigabytes for recipes with own stages."""
    release: Path
    """Folder of the release that trunk and detector come from."""

    def features(self, faces: FaceSet, taps: tuple[Tap, ...], *, mirror: bool = True) -> dict[Tap, Features]:
        """Compute the features of a data set at the taps, or read them from the cache."""
        return extract(self.trunk, self.crops(faces).pixels, taps, self.cache / "features", mirror=mirror)

    def crops(self, faces: FaceSet) -> Crops:
        """Cut the faces of a data set as the trunk takes them, or read them from the cache."""
        return crop_faces(faces, self.detector, self.cache / "crops", self.trunk.layout)


@dataclass(frozen=True, slots=True)
class TrainedBranch:
    """A branch ready to ship."""

    branch: Branch
    held_out_score: float
    took: str
    """Training until that score, such as `12 epochs`."""


def train_branches(
    recipe: Recipe, context_of: Callable[[int | None], TrainingContext], run_log: RunLog | None = None, seed: int = 0
) -> list[TrainedBranch]:
    """Train every branch of a recipe.

    Args:
        recipe: not for joint training.
        context_of: returns the context for a ``HeadRecipe.smallest_search``.
        run_log: gets a line for every epoch.
        seed: of everything random.

    Raises:
        DataError: a data set is missing.
    """
    return [train_branch(each, context_of(each.smallest_search), run_log, seed) for each in recipe.heads]


def train_branch(
    recipe: HeadRecipe, context: TrainingContext, run_log: RunLog | None = None, seed: int = 0
) -> TrainedBranch:
    """Train one branch on the training split, calibrate it on the validation split, and refit it if the recipe does.

    Raises:
        DataError: the data set is missing.
        RecipeError: the trunk lacks a depth of the branch.
    """
    recipe = recipe.on(context.trunk.layout)
    faces = READERS[recipe.data](context.data)
    found = context.features(faces, recipe.taps(context.trunk.layout), mirror=recipe.fit.mirror)
    soft = targets(recipe.spec.task, faces, len(recipe.spec.labels), recipe.spread_years)
    rows = {split: labelled(recipe.spec.task, soft, np.flatnonzero(faces.split == split)) for split in ("train", "val")}
    features = {tap.depth: values for tap, values in found.items()}
    fitted = _Fitter(context.trunk, run_log, seed, faces)
    examples = Examples(features, soft, rows["train"])
    branch, best = fitted(recipe, examples)
    spec = calibrated(recipe, logits_of(branch, features, rows["val"]), soft[rows["val"]])
    if recipe.refit:
        every = replace(examples, rows=np.union1d(rows["train"], rows["val"]))
        whole = replace(recipe, fit=replace(recipe.fit, patience=recipe.fit.epochs))  # the rate falls to its end
        branch, best = fitted(whole, every)
    branch.spec = spec
    facts = {"action": "head_trained", "task": recipe.spec.task, "held_out": best.score, "epochs": best.epochs}
    _log.info("trained a branch", extra=facts)
    return TrainedBranch(branch.cpu(), best.score, f"{best.epochs} epochs")


@dataclass(frozen=True, slots=True)
class _Fitter:
    """Trains new branches on the trunk's device."""

    trunk: Trunk
    run_log: RunLog | None
    seed: int
    faces: FaceSet

    def __call__(self, recipe: HeadRecipe, examples: Examples) -> tuple[Branch, Fit]:
        """Return the trained branch, not yet calibrated, and the result of its training."""
        return self._experts(recipe, examples) if recipe.expert_task else self._one(recipe, examples)

    def _experts(self, recipe: HeadRecipe, examples: Examples) -> tuple[Branch, Fit]:
        """Train the layers that decide, then those of each label on its faces, and put them into one branch."""
        task, labels = str(recipe.expert_task), recipe.spec.experts
        decided = targets(task, self.faces, len(labels))
        known = labelled(task, decided, examples.rows)
        plain = replace(recipe.spec, experts=(), routing="weighted")
        fits = replace(recipe.fit, enlarge_to=len(known))
        gate = replace(plain, task=task, kind="softmax", labels=labels)
        first = replace(recipe, spec=gate, expert_task=None, fit=replace(recipe.fit, loss="cross_entropy"))
        found = [self._one(first, replace(examples, targets=decided, rows=known))]
        for number, label in enumerate(labels):
            rows = known[decided[known].argmax(dim=1).numpy() == number]
            expert = replace(plain, task=f"{recipe.spec.task} of {label}")
            one = replace(recipe, spec=expert, expert_task=None, fit=fits)
            found.append(self._one(one, replace(examples, rows=rows)))
        branch = fused(recipe.spec, [each for each, _ in found], self.trunk.layout)
        best = [each for _, each in found[1:]]
        return branch, Fit(float(np.mean([each.score for each in best])), max(each.epochs for each in best))

    def _one(self, recipe: HeadRecipe, examples: Examples) -> tuple[Branch, Fit]:
        task, options = recipe.spec.task, replace(recipe.fit, seed=self.seed)
        branch = new_branch(recipe, self.trunk, examples.features, examples.rows, self.seed)
        branch.to(next(self.trunk.parameters()).device)
        with progress_bar(task, options.epochs) as advance:

            def on_epoch(epoch: Epoch) -> None:
                advance(epoch.number, f"{epoch.held_out:.3f}")
                if self.run_log:
                    self.run_log.write(task, epoch.number, epoch.loss, epoch.held_out, epoch.best)

            best = fit(branch, examples, score(recipe.spec, options.balance), options, on_epoch)
        return branch.shipped(), best


def fused(spec: BranchSpec, parts: Sequence[Branch], layout: TrunkLayout) -> Branch:
    """Return a branch with experts.

    Args:
        spec: of the branch.
        parts: branches with the same features: the one that decides, then one for each of the spec's experts.
        layout: of the trunk.
    """
    branch = Branch(spec, layout)
    if not isinstance(branch.head, Experts):
        raise TypeError(f"branch {spec.task!r} has no experts, got {len(parts)} parts for it")
    for layers, part in zip(branch.head.parts, parts, strict=True):
        layers.load_state_dict(part.head.state_dict())
    return branch.to(next(parts[0].parameters()).device).eval()


def new_branch(
    recipe: HeadRecipe, trunk: Trunk, features: Mapping[str, Features], rows: NDArray[np.int64], seed: int
) -> TrainableBranch:
    """Return an untrained branch whose inputs are standardised on some training faces."""
    torch.manual_seed(seed)
    branch = TrainableBranch(
        recipe.spec, dropout=recipe.dropout, layout=trunk.layout, regresses=recipe.fit.loss == "years"
    )
    if recipe.copies:
        branch.start_from(trunk)
    some = np.random.default_rng(seed).permutation(rows)[:STANDARDISED_ON]
    maps = maps_of(features, some, np.zeros(len(some), dtype=np.bool_))
    branch.standardise({depth: found.float() for depth, found in maps.items()})
    return branch


def calibrated(recipe: HeadRecipe, logits: Tensor, soft: Tensor) -> BranchSpec:
    """Return the recipe's branch with temperature, thresholds and abstention from validation data.

    Args:
        recipe: of the branch.
        logits: (M, K) of validation faces.
        soft: (M, K) their targets.
    """
    spec = recipe.spec
    if spec.kind == "multilabel":
        temperature = fit_temperature(logits, soft, multi_label=True)
        return replace(spec, temperature=temperature, thresholds=(0.5,) * len(spec.labels))
    if spec.kind == "age":
        return replace(spec, temperature=_interval_temperature(spec, logits, soft))
    spec = replace(spec, temperature=fit_temperature(logits, soft))
    probabilities, truth = interpret(spec, logits).probabilities.numpy(), soft.argmax(dim=1).numpy()
    if recipe.most_false is not None:
        spec = replace(spec, thresholds=tuple(thresholds(probabilities, truth, recipe.most_false).tolist()))
    if recipe.answers_accuracy is not None:
        correct = probabilities.argmax(axis=1) == truth
        sure = abstention_threshold(probabilities.max(axis=1), correct, recipe.answers_accuracy)
        spec = replace(spec, abstain=sure)
    return spec


def _interval_temperature(spec: BranchSpec, logits: Tensor, soft: Tensor) -> float:
    """Choose the temperature whose intervals hold the true age of INTERVAL_SHARE of the faces."""
    years = (soft @ torch.tensor([float(label) for label in spec.labels])).numpy()

    def share(temperature: float) -> float:
        found = interpret(replace(spec, temperature=temperature), logits)
        return coverage(np.asarray(found.low), np.asarray(found.high), years)

    # Intervals only grow with the temperature.
    place = bisect.bisect_left(TEMPERATURES, INTERVAL_SHARE, key=share)
    return TEMPERATURES[min(place, len(TEMPERATURES) - 1)]


def load_context(release: Path, data: Path, cache: Path, *, smallest_search: int | None) -> TrainingContext:
    """Load trunk and detector of a release for training.

    Args:
        release: folder.
        data: folder of the data sets.
        cache: folder for crops and features.
        smallest_search: pixels, see ``HeadRecipe.smallest_search``.

    Raises:
        WeightsError: a file of the release is damaged or exchanged.
    """
    manifest = read_manifest(release)
    device = resolve_device()
    detection = read_weights(release / DETECTOR_FILE, manifest.files[DETECTOR_FILE])
    policy = manifest.detection if smallest_search is None else replace(manifest.detection, min_side=smallest_search)
    detector = FaceDetector(detection, policy, device)
    return TrainingContext(ready(load_trunk(release), device), detector, data, cache, release)


def load_trunk(release: Path) -> Trunk:
    """Read a release's trunk, float32, on the CPU.

    Raises:
        WeightsError: its file is damaged or exchanged.
    """
    manifest = read_manifest(release)
    trunk = create_trunk(manifest.trunk)
    load_into(trunk, read_weights(release / TRUNK_FILE, manifest.files[TRUNK_FILE]), "trunk")
    return trunk
