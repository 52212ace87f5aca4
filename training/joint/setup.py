"""Everything that decides what a joint run learns, in one value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from training.fit.features import add_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from models.trunks.base import Trunk
    from training.data.face_sets import DataName
    from training.joint.batches import FaceViews
    from training.joint.teachers import Base, Teachers
    from training.recipes.joint import JointOptions
    from training.recipes.recipe import HeadRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class JointSetup:
    """Branches, trunk and data of a joint run."""

    recipes: Sequence[HeadRecipe]
    """Of the branches."""
    trunk: Trunk
    """On its device; float32 where the options tune it, else in the number format in which it is used."""
    views: Mapping[DataName, FaceViews]
    """The faces of each data set."""
    options: JointOptions
    seed: int = 0
    """Of everything random."""
    held_by: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """(N, 3, S, S) crops by set, which only hold the embeddings."""
    splits: tuple[str, ...] = ("train",)
    """Splits whose rows are learnt from."""
    teachers: Teachers | None = None
    """Models whose answers are part of the targets."""
    base: Base | None = None
    """Branches of the base as which those of the run begin, and whose answers are part of the targets."""

    @property
    def taught_share(self) -> float:
        """Share of the answers of teachers, or of the base, in the targets."""
        taught = self.teachers or self.base
        return taught.share if taught else 0.0

    @property
    def device(self) -> torch.device:
        """The trunk's device, on which everything is computed."""
        return next(self.trunk.parameters()).device

    def facts(self) -> dict[str, Any]:
        """Return what distinguishes this run from others, as JSON can hold it; calibration changes none of it."""
        digest = hashlib.sha256()
        add_weights(digest, self.trunk)
        for taught in (self.teachers, self.base):
            if taught:
                taught.add_to(digest)
        return {
            "tasks": {recipe.spec.task: repr(_learnt(recipe)) for recipe in self.recipes},
            "options": repr(self.options),
            "seed": self.seed,
            "trunk": digest.hexdigest(),
            "splits": list(self.splits),
        }


def _learnt(recipe: HeadRecipe) -> HeadRecipe:
    """Return the recipe without the fields that a joint run does not read."""
    spec = replace(recipe.spec, temperature=1.0, abstain=None, thresholds=())
    return replace(recipe, spec=spec, answers_accuracy=None, most_false=None, refit=False, smallest_search=None)
