"""The search with relearnt layers: behind each depth the trunk's own layers learn each task from random weights.

A probe asks what a map holds; this asks what the trunk's own layers behind it can make of it, as the paper of face24
did. Each cell is a branch that is trained anew for every fold, on maps that are computed once and kept on disk.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from models.cost import count_weights
from models.readings import interpret
from models.trunks.base import EMBEDDING_DEPTH
from training.depth.grid import SEARCHED, Cell
from training.depth.probes import TEST
from training.errors import RecipeError
from training.fit.fit import Examples, fit, logits_of
from training.fit.targets import score
from training.recipes.catalogue import FROZEN
from training.train import new_branch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.trunks.base import TrunkLayout
    from training.data.face_sets import FaceSet
    from training.depth.folds import Folds
    from training.depth.grid import GridProgress, Relearning
    from training.fit.features import Features
    from training.recipes.recipe import HeadRecipe
    from training.train import TrainingContext

_log = logging.getLogger(__name__)

WHOLE = 1  # as the pooling of a cell: relearnt maps are averaged over all cells


def check_relearning(relearning: Relearning, layout: TrunkLayout) -> None:
    """Refuse depths that the trunk does not have.

    Raises:
        RecipeError: a depth is unknown, or the layers that are relearnt end at the embedding.
    """
    for depth in (*relearning.depths, relearning.last):
        if depth not in layout.depths:
            raise RecipeError(f"no depth {depth!r} in this trunk, expected one of {', '.join(layout.depths)}")
    if relearning.last == EMBEDDING_DEPTH:
        raise RecipeError(f"layers are relearnt up to a map, got {EMBEDDING_DEPTH!r}; choose {layout.last_map!r}")


def relearn_set(context: TrainingContext, tasks: Sequence[Folds], faces: FaceSet, progress: GridProgress) -> None:
    """Fill the cells of the tasks of one data set.

    Args:
        context: trunk, detector, data and cache.
        tasks: targets and folds.
        faces: of the data set.
        progress: has the finished cells, and gets a line for each further one.
    """
    relearning, layout = progress.settings.options.relearning, context.trunk.layout
    if relearning is None:
        raise RecipeError("got a search with probes, expected one with relearnt layers")
    for depth in relearning.depths:
        for folds in tasks:
            if progress.has(folds.task, depth, WHOLE):
                continue
            recipe = recipe_at(folds.task, depth, relearning, layout)
            found = context.features(faces, recipe.taps(layout), mirror=True)
            progress.add(cell := _cell(recipe, context, folds, {tap.depth: maps for tap, maps in found.items()}))
            _log.info("relearnt %s behind %s: %.4f", cell.task, depth, cell.mean, extra={"action": "cell_searched"})


def recipe_at(task: str, depth: str, relearning: Relearning, layout: TrunkLayout) -> HeadRecipe:
    """Return the recipe of a task whose layers behind a depth are relearnt, and then averaged and read by one layer.

    Where no layer lies between the depth and the last relearnt one, the map itself is averaged and read.
    """
    head = next(head for head in FROZEN.heads if head.spec.task == task)
    behind = depth in layout.maps and layout.rank(depth) < layout.rank(relearning.last)
    spec = replace(
        SEARCHED[task].spec,
        depths=(depth,),
        relearnt_to=relearning.last if behind else None,
        pool=WHOLE,
        hidden=0,
    )
    options = replace(
        head.fit, epochs=relearning.epochs, patience=relearning.patience, mirror=True, mixup=0.2, held_out=0.1
    )
    return replace(head, spec=spec, fit=options, dropout=0.3, refit=False)


def _cell(recipe: HeadRecipe, context: TrainingContext, folds: Folds, features: Mapping[str, Features]) -> Cell:
    """Train and score a branch for each fold."""
    scores, weights = [], 0
    for number, role in enumerate(folds.roles):
        learnt, tested = folds.rows[role != TEST], folds.rows[role == TEST]
        branch = new_branch(recipe, context.trunk, features, learnt, folds.options.seed + number)
        branch.to(next(context.trunk.parameters()).device)
        options = replace(recipe.fit, seed=folds.options.seed + number)
        fit(branch, Examples(features, folds.soft, learnt), score(recipe.spec), options)
        weights = count_weights(branch)
        scores.append(folds.score(interpreted(recipe, logits_of(branch, features, tested)), tested))
    return Cell(folds.task, recipe.spec.depths[0], WHOLE, weights, tuple(scores))


def interpreted(recipe: HeadRecipe, logits: torch.Tensor) -> torch.Tensor:
    """Return what a search scores: probabilities, (M, K), or ages in years, (M, 1)."""
    found = interpret(recipe.spec, logits)
    if found.value is not None:
        return torch.as_tensor(found.value).float()[:, None]
    return torch.as_tensor(found.probabilities)
