"""Calibrates a release anew: temperatures, thresholds and abstention from chosen rows, some of them degraded.

The weights of its branches stay, but for the last biases of heads whose answers are to follow the shares of their
training rows less. So only the readings of the release change, or of such heads the answers from stored scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from models.readings import decode
from models.release import load_release
from training.data.as_published import split_of
from training.data.degrade import degrade_at_random
from training.errors import RecipeError, TrainingError
from training.fit.losses import logit_offset
from training.fit.targets import READERS, labelled, targets
from training.releases.export import branches_of
from training.train import calibrated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from models.branches import Branch, BranchSpec
    from models.release import Release
    from training.data.face_sets import DataName, FaceSet
    from training.recipes.recipe import HeadRecipe, Recipe
    from training.train import TrainingContext

_BATCH = 64  # crops of a pass
_CHOSEN = "chosen"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions:
    """Rows that calibrate, and how they are shown."""

    split: str = "val"
    """Of the data sets. No weight of the release may have learnt from its rows, else it seems surer than it is."""
    share: float = 1.0
    """Of the rows of the split, chosen by a hash of their names, so that the others can judge the calibration."""
    degraded: float = 0.5
    """Share of the faces that are shown degraded: intervals, confidences and the accuracy of answers then hold for such
    a mixture."""
    powers: Mapping[str, float] = field(default_factory=dict)
    """By task, the power of the shares of its training rows by which its probabilities are divided; 0 changes nothing,
    1 takes all labels for equally frequent."""
    seed: int = 0
    """Of the degradations."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise RecipeError(f"share is a part of the rows above 0 up to 1, got {self.share}")
        if not 0 <= self.degraded <= 1:
            raise RecipeError(f"degraded is a share of the faces, expected 0..1, got {self.degraded}")


def recalibrate(recipe: Recipe, context: TrainingContext, options: CalibrationOptions) -> list[Branch]:
    """Return the branches of the context's release with new calibrations.

    Args:
        recipe: whose heads name data sets and the accuracy of answers; branches of other tasks are left out.
        context: of the release.
        options: rows and degradations.

    Raises:
        DataError: a data set is missing.
        RecipeError: a power is of no head.
        TrainingError: there is no row to calibrate on.
    """
    release = load_release(context.release)
    wanted = [head for head in recipe.heads if head.spec.task in release.heads]
    if unknown := sorted(set(options.powers) - {head.spec.task for head in wanted}):
        raise RecipeError(f"got powers for {', '.join(unknown)}, which recipe and release do not both have")
    branches = {branch.spec.task: branch for branch in branches_of(context.release, [h.spec.task for h in wanted])}
    shown = {name: _Shown.of(name, context, release, options) for name in dict.fromkeys(h.data for h in wanted)}
    for head in wanted:
        branch = branches[head.spec.task]
        offset = _offset(head, shown[head.data].faces, options)
        _shift(branch, offset)
        branch.spec = _calibrated(replace(head, spec=branch.spec), shown[head.data], offset)
    return list(branches.values())


@dataclass(frozen=True, slots=True)
class _Shown:
    """The scores that a release gives to the rows of one data set."""

    faces: FaceSet
    rows: NDArray[np.int64]
    """(M,) that calibrate."""
    scores: Mapping[str, Tensor]
    """(M, K) logits by task."""

    @classmethod
    def of(cls, name: DataName, context: TrainingContext, release: Release, options: CalibrationOptions) -> _Shown:
        faces = READERS[name](context.data)
        rows = _rows(faces, options)
        crops = torch.from_numpy(np.array(context.crops(faces).pixels[rows]))
        return cls(faces, rows, _scores(release, crops, options))


def _rows(faces: FaceSet, options: CalibrationOptions) -> NDArray[np.int64]:
    rows = np.flatnonzero(faces.split == options.split)
    names = (str(file).encode() for file in faces.files[rows])
    chosen = np.array([split_of(name, ((_CHOSEN, options.share),)) == _CHOSEN for name in names], dtype=bool)
    if not chosen.any():
        raise TrainingError(f"{faces.name} has no row of split {options.split!r} to calibrate on; name another split")
    return np.asarray(rows[chosen], dtype=np.int64)


def _scores(release: Release, crops: Tensor, options: CalibrationOptions) -> dict[str, Tensor]:
    """Return the (N, K) float32 logits of (N, 3, S, S) crops, some of them degraded, by task."""
    found: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(options.seed)
    for part in torch.split(crops, _BATCH):
        shown = degrade_at_random(part, options.degraded, generator).round().to(torch.uint8)
        for task, output in release.infer(shown).heads.items():
            kind = release.spec(task).kind
            codes = output.codes
            if codes is None:
                raise TrainingError(f"head {task!r} gives no scores to calibrate")
            found.setdefault(task, []).append(decode(kind, codes.cpu()).float())
    return {task: torch.cat(parts) for task, parts in found.items()}


def _offset(head: HeadRecipe, faces: FaceSet, options: CalibrationOptions) -> Tensor:
    """Return the (K,) logits to take away, by the shares of the training rows."""
    soft = targets(head.spec.task, faces, len(head.spec.labels), head.spread_years)
    power = options.powers.get(head.spec.task, 0.0)
    if power and head.spec.kind != "softmax":
        raise RecipeError(f"head {head.spec.task!r} is of kind {head.spec.kind!r}; powers are for the kind 'softmax'")
    return logit_offset(soft[faces.rows("train")], power)


def _shift(branch: Branch, offset: Tensor) -> None:
    """Take an offset from the logits of a branch, whose weights give them before the temperature."""
    if not offset.any():
        return
    last = branch.head[-1] if isinstance(branch.head, nn.Sequential) else None
    if not isinstance(last, nn.Linear):
        raise RecipeError(f"branch {branch.spec.task!r} has several last layers, so its answers cannot be shifted")
    with torch.no_grad():
        last.bias.sub_(offset)


def _calibrated(head: HeadRecipe, shown: _Shown, offset: Tensor) -> BranchSpec:
    soft = targets(head.spec.task, shown.faces, len(head.spec.labels), head.spread_years)
    rows = labelled(head.spec.task, soft, shown.rows)
    places = torch.from_numpy(np.searchsorted(shown.rows, rows))
    return calibrated(head, shown.scores[head.spec.task][places] - offset, soft[rows])
