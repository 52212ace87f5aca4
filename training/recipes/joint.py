"""Options of joint runs, apart from the run itself, so that recipes need not import it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from training.errors import RecipeError
from training.fit.augment import AugmentOptions
from training.fit.descent import Descent
from training.recipes.places import FIRST_MAP

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkTuning:
    """Options of a trunk that learns with its branches."""

    name: str
    """Of the new weights: the last part of the trunk's new name, see ``models.trunks.base.TrunkName``."""
    learning_rate: float = 2e-4
    """Peak, of the layers behind the last map."""
    layer_decay: float = 0.9
    """Factor of the rate from each layer to the one before it."""
    first: str = FIRST_MAP
    """Place of the first layer that learns; the layers before it stay as they are."""
    statistics: bool = False
    """Whether the running statistics of batch norm learn, too; the shipped trunk has none."""
    hold: float = 50.0
    """Weight of the mean cosine distance between the new embeddings and those of the original trunk."""
    keeps_best: bool = False
    """Whether trunk and branches are kept as they were when the sum of the branches' held-out losses was least, and
    training stops after ``JointOptions.patience`` evaluations without a smaller one."""
    held_by: Mapping[str, int] = field(default_factory=dict)
    """Faces a step, of sets of ``training.trunk.faces``, that only hold the embeddings. They are not augmented, since
    the faces of users are not; half of them are mirrored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSearch:
    """How the regions of a branch are found: the response networks learn first, then all its layers together."""

    first_steps: int
    """Steps of the run in which only the response networks learn, by their first answers; then regions are found."""
    threshold: float = 0.9
    """From a face's least response to its greatest: a place belongs to the region from this share of the way on."""
    faces: int = 4000
    """Training faces, at most, whose rectangles are averaged, each for the labels that it has."""

    def __post_init__(self) -> None:
        if self.first_steps < 1 or self.faces < 1 or not 0 < self.threshold <= 1:
            raise RecipeError(f"regions need a step, a face and a threshold above 0 up to 1, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondRun:
    """A run on training and validation rows whose teachers are first runs, which learnt from training rows only.

    Its calibration is that of the first of these runs: no labelled face is left that it has not learnt from.
    """

    steps: int
    teachers: int = 2
    """Number of first runs, each with a seed of its own."""
    taught: float = 0.5
    """Share of the mean answer of the first runs in the targets; the rest are labels."""

    def __post_init__(self) -> None:
        if self.teachers < 1 or not 0 <= self.taught <= 1:
            found = f"{self.teachers} teachers with {self.taught} of the targets"
            raise RecipeError(f"a second run got {found}, expected 1 or more with 0..1")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseTeaching:
    """A run that goes on from a release: branches start as the base's of the same tasks, where it has any.

    The base answers for each crop before it is degraded, the run for the degraded one.
    """

    taught: float = 0.5
    """Share of the base's answers in the targets; the rest are labels."""
    elsewhere: float = 0.0
    """Weight of a further loss of each branch: of the base's answers for the faces of the other data sets of the step,
    which have no label of its task but look different. 0 leaves it out."""

    def __post_init__(self) -> None:
        if not 0 <= self.taught <= 1:
            raise RecipeError(f"taught is a share of the targets, expected 0..1, got {self.taught}")
        if self.elsewhere < 0:
            raise RecipeError(f"elsewhere is the weight of a loss, expected 0 or more, got {self.elsewhere}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JointOptions:
    """Options of a joint run; the recipe of a branch states what the branch learns and how fast."""

    steps: int
    """At most: training stops early when the held-out score of no branch grows any more."""
    batch: Mapping[str, int]
    """Faces of each data set in a step."""
    searches: tuple[int | None, ...] = (32, None)
    """Pixels to which small images are scaled up before crops are cut (None: as the release does for its users). Each
    face is drawn from any of these crops; the last ones judge."""
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    degraded: float = 0.0
    """Share of the augmented crops that are degraded, too, as those of archives are (``training.data.degrade``)."""
    descent: Descent = field(default_factory=Descent)
    """Optimiser, and the course of all learning rates."""
    evaluate_every: int = 200
    """Steps between two evaluations on the held-out rows."""
    patience: int = 8
    """Evaluations without a better score after which a branch counts as finished."""
    trunk: TrunkTuning | None = None
    """None keeps the trunk frozen. With a trunk that learns no branch can stop alone: the running means of trunk and
    branches at the last step are kept, or see ``TrunkTuning.keeps_best``."""
    second: SecondRun | None = None
    """None ships the branches of the first run."""
    base: BaseTeaching | None = None
    """How a run goes on from the branches of its base; None: branches begin with random weights."""

    def __post_init__(self) -> None:
        if not 0 <= self.degraded <= 1:
            raise RecipeError(f"degraded is a share of the crops, expected 0..1, got {self.degraded}")
        if self.base and self.second:
            raise RecipeError("a run that goes on from its base has no second run; give one of them")
