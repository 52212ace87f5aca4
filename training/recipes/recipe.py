"""Recipes: the branches of a release, and how each is trained.

``register`` refuses a name that is taken; ``find`` lists the known names where one is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.manifest import TRUNK_PART
from training.errors import RecipeError, unknown_names
from training.fit.features import Tap
from training.fit.targets import AGE_SPREAD_YEARS
from training.recipes.places import largest_pool, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.branches import BranchSpec
    from models.trunks.base import TrunkLayout
    from training.data.face_sets import DataName
    from training.fit.fit import FitOptions
    from training.recipes.joint import JointOptions, RegionSearch

# Pixels; so small that the views of ``training.data.crops`` are searched as they are.
PREPARED_SEARCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRecipe:
    """Recipe of one branch."""

    spec: BranchSpec
    """Temperature, thresholds and abstention are filled in after training."""
    data: DataName
    fit: FitOptions
    dropout: float = 0.5
    """On the pooled features and on hidden layers."""
    spread_years: float = AGE_SPREAD_YEARS
    """Of the Gaussian around each age in the targets; 0 for one-hot targets."""
    answers_accuracy: float | None = None
    """Accuracy on validation data that the answers given must reach; with less confidence the head answers 'unknown'.
    None never abstains."""
    most_false: float | None = None
    """Share of the validation faces of other labels that may get a label, where a softmax head is read label by label.
    None: the release has no thresholds for that."""
    copies: bool = False
    """Whether relearnt layers start as copies of the trunk's; else from random weights."""
    regions: RegionSearch | None = None
    """How the regions of the branch are found, where it has any."""
    expert_task: str | None = None
    """Task whose labels are the ``experts`` of the branch: each expert learns from the training faces of its label,
    enlarged to as many as there are in all. None for a branch without experts."""
    refit: bool = False
    """Whether the branch, once it is calibrated, is trained once more, on the validation rows as well; the calibration
    stays. Joint runs have ``JointOptions.second`` instead."""
    smallest_search: int | None = PREPARED_SEARCH
    """Pixels to which small images are scaled up before detection while training. None: as the release does for its
    users, which takes five times as long. Joint runs have ``JointOptions.searches`` instead."""

    def __post_init__(self) -> None:
        if self.copies and not self.spec.relearnt_to:
            raise RecipeError(f"branch {self.spec.task!r} copies layers but relearns none; give relearnt_to a depth")
        if (self.regions is None) != (self.spec.regions is None):
            raise RecipeError(
                f"branch {self.spec.task!r} has regions but no search for them, or the reverse; give both"
            )
        if (self.expert_task is None) != (not self.spec.experts):
            raise RecipeError(
                f"branch {self.spec.task!r} has experts {self.spec.experts} of the task {self.expert_task!r}; "
                "give both or neither"
            )
        if self.fit.loss in ("age", "years") and self.spec.kind != "age":
            raise RecipeError(
                f"branch {self.spec.task!r} is of kind {self.spec.kind!r} but its loss is {self.fit.loss!r}; "
                "that loss is for the kind 'age'"
            )

    def taps(self, layout: TrunkLayout) -> tuple[Tap, ...]:
        """Return the taps that the branch reads: own layers need whole maps, others pooled ones."""
        pool = None if self.spec.has_own_layers else self.spec.pool
        return tuple(Tap(depth, pool) for depth in self.spec.reads(layout))

    def on(self, layout: TrunkLayout) -> HeadRecipe:
        """Return the recipe with the depths of a trunk in place of places, and a pooling that their maps allow.

        Places that are one depth on this trunk are read once.

        Raises:
            RecipeError: the trunk has no such place.
        """
        spec = self.spec
        depths = tuple(dict.fromkeys(resolve(place, layout) for place in spec.depths))
        last = resolve(spec.relearnt_to, layout) if spec.relearnt_to else None
        read = (last, *depths[1:]) if last else depths[bool(spec.regions) :]
        try:
            spec = replace(spec, depths=depths, relearnt_to=last, pool=largest_pool(read, layout, spec.pool))
            spec.check_fits(layout)
        except ValueError as err:
            raise RecipeError(f"this trunk cannot have the branch: {err}") from err
        return replace(self, spec=spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Recipe of a release."""

    name: str
    heads: tuple[HeadRecipe, ...]
    summary: str
    """One line for ``facet-train list``."""
    joint: JointOptions | None = None
    """If set, all branches are trained in one run on augmented crops; if not, each on features of the frozen trunk."""

    def __post_init__(self) -> None:
        tasks = [head.spec.task for head in self.heads]
        if len(set(tasks)) != len(tasks):
            raise RecipeError(f"recipe {self.name!r} has tasks {tasks}, expected each once")
        if drawn := [head.spec.task for head in self.heads if self.joint and head.fit.balance.sampling]:
            raise RecipeError(f"recipe {self.name!r} trains jointly, so {drawn} cannot sample on their own")
        if self.joint and (fused := [head.spec.task for head in self.heads if head.spec.experts]):
            raise RecipeError(f"recipe {self.name!r} trains jointly, so {fused} cannot have experts; train them alone")
        if not self.joint and (grouped := [head.spec.task for head in self.heads if head.fit.balance.within]):
            raise RecipeError(f"recipe {self.name!r} trains branch by branch, so {grouped} cannot balance groups")
        if not self.joint and (shared := [head.spec.task for head in self.heads if head.spec.shared]):
            raise RecipeError(
                f"recipe {self.name!r} trains branch by branch, so {shared} cannot share layers; add joint"
            )
        if lost := [head.spec.task for head in self.heads if not self._has_steps_for(head)]:
            raise RecipeError(
                f"recipe {self.name!r} ends before {lost} have regions: "
                "they need joint, with more than first_steps steps"
            )
        for heads in sharing_heads(self.heads):
            if len({(head.fit.average, head.fit.learning_rate) for head in heads}) > 1:
                tasks = [head.spec.task for head in heads]
                raise RecipeError(f"{tasks} share layers but differ in average or learning rate; give them the same")

    def _has_steps_for(self, head: HeadRecipe) -> bool:
        return head.regions is None or (self.joint is not None and head.regions.first_steps < self.joint.steps)

    def head(self, task: str) -> HeadRecipe:
        """Return the recipe of one branch.

        Raises:
            RecipeError: there is none for this task.
        """
        for head in self.heads:
            if head.spec.task == task:
                return head
        raise RecipeError(f"recipe {self.name!r} has no head {task!r}; it has {[h.spec.task for h in self.heads]}")

    @property
    def learnt(self) -> dict[str, tuple[str, ...]]:
        """By data set, the parts of a release that learn from it: tasks of branches, TRUNK_PART."""
        found: dict[str, tuple[str, ...]] = {}
        for head in self.heads:
            votes = ("ferplus",) if (head.data, head.spec.task) == ("fer2013", "emotion") else ()
            for name in (head.data, *votes):
                found[name] = (*found.get(name, ()), head.spec.task)
        tuning = self.joint.trunk if self.joint else None
        of_trunk = (*found, *tuning.held_by) if tuning else ()
        return found | {name: (*found.get(name, ()), TRUNK_PART) for name in of_trunk}

    def on(self, layout: TrunkLayout) -> Recipe:
        """Return the recipe for a trunk, with depths in place of places.

        Raises:
            RecipeError: the trunk lacks a place.
        """
        return replace(self, heads=tuple(head.on(layout) for head in self.heads))

    def only(self, *tasks: str) -> Recipe:
        """Return the recipe with some of its heads."""
        return replace(self, heads=tuple(self.head(task) for task in tasks))


def sharing_heads(heads: Iterable[HeadRecipe]) -> list[list[HeadRecipe]]:
    """Group the heads whose branches share layers: those of one data set with shared layers of one shape."""
    groups: dict[object, list[HeadRecipe]] = {}
    for head in heads:
        if head.spec.shared:
            groups.setdefault((head.data, head.spec.shared_shape), []).append(head)
    return list(groups.values())


RECIPES: dict[str, Recipe] = {}


def register(recipe: Recipe) -> Recipe:
    """Add a recipe to RECIPES under its name.

    Raises:
        RecipeError: the name is taken.
    """
    if recipe.name in RECIPES:
        raise RecipeError(f"recipe {recipe.name!r} exists already; choose another name")
    RECIPES[recipe.name] = recipe
    return recipe


def find(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        RecipeError: there is none.
    """
    if name not in RECIPES:
        raise unknown_names("recipe", [name], sorted(RECIPES))
    return RECIPES[name]
