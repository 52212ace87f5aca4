"""How a joint run is laid out; apart from the run, so that recipes need not know it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from training.errors import RecipeError
from training.fit.augment import AugmentOptions

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkTuning:
    """How the trunk learns with its branches."""

    name: str
    """Which set of weights it then has: the last part of the new trunk's name, see ``models.trunks.base.TrunkName``."""
    learning_rate: float = 2e-4
    """Peak, of the layers behind the last map."""
    layer_decay: float = 0.9
    """What the rate is multiplied with from each layer to the one before it."""
    first: str = "conv_1"
    """Depth of the first layer that learns; those before it stay as they are."""
    hold: float = 50.0
    """Weight of the mean cosine distance between the new embeddings and the original's."""
    held_by: Mapping[str, int] = field(default_factory=dict)
    """Faces a step, of sets of ``training.trunk.faces``, that only hold the embeddings: as they are or mirrored, for
    that is how users' faces come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondRun:
    """A run on training and validation rows that is taught by first ones, which saw training rows only.

    Calibration stays that of the first of these runs: no labelled face is left that the second one has not seen.
    """

    steps: int
    teachers: int = 2
    """First runs, each with a seed of its own."""
    taught: float = 0.5
    """Share of the targets that is the mean answer of the first runs; the rest are labels."""

    def __post_init__(self) -> None:
        if self.teachers < 1 or not 0 <= self.taught <= 1:
            found = f"{self.teachers} teachers with {self.taught} of the targets"
            raise RecipeError(f"a second run got {found}, expected 1 or more with 0..1")


@dataclass(frozen=True, slots=True, kw_only=True)
class JointOptions:
    """How a run is laid out; what a branch learns and how fast stands in its own recipe."""

    steps: int
    """At most: training stops early where no branch's held-out score grows any more."""
    batch: Mapping[str, int]
    """Faces of each data set in a step."""
    searches: tuple[int | None, ...] = (32, None)
    """Crops as cut after scaling small images up to these sides (None: as the release does for its users); each face is
    drawn from any of them. The last one judges."""
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    evaluate_every: int = 200
    """Steps between two looks at the held-out rows."""
    patience: int = 8
    """Looks without a better score after which a branch counts as finished."""
    trunk: TrunkTuning | None = None
    """None keeps the trunk frozen. With a trunk that learns no branch can stop early: all are taken at the last step,
    as running means, with the trunk's."""
    second: SecondRun | None = None
    """None ships what the first run gave."""
