"""How a joint run is laid out; apart from the run, so that recipes need not know it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from training.augment import AugmentOptions

if TYPE_CHECKING:
    from collections.abc import Mapping


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
