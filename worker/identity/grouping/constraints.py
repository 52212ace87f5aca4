"""Constraints on grouping: must-link and cannot-link over rows of appearances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from worker.columns import ArrayColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, repr=False)
class Exclusions(ArrayColumns):
    """Cannot-link constraints between appearances and people of the gallery."""

    row: NDArray[np.int64]
    """(B,) row of the appearance."""
    person: NDArray[np.int64]
    """(B,) person that it is not."""

    def __post_init__(self) -> None:
        self._check()

    @classmethod
    def empty(cls) -> Self:
        """Return no exclusion."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Must-link and cannot-link constraints over N appearances; they outweigh every similarity.

    Two rows with a must-link are one person even where they are in view at the same time (a mirror, an image in the
    image). The constraints must not contradict each other.
    """

    must_link: NDArray[np.int64]
    """(N,) rows with equal numbers are one person; -1 for no constraint."""
    name: NDArray[np.int64]
    """(N,) rows with different numbers are different people, equal numbers mean nothing; -1 for no name."""
    cannot_link: NDArray[np.int64]
    """(A, 2) pairs of rows that are different people."""
    pinned: NDArray[np.int64]
    """(N,) person that a row is, in the gallery or not; -1 for no constraint."""
    excluded: Exclusions = field(default_factory=Exclusions.empty)

    def __post_init__(self) -> None:
        shapes = {self.must_link.shape, self.name.shape, self.pinned.shape}
        if len(shapes) != 1 or self.cannot_link.shape[1:] != (2,):
            raise ValueError(
                f"got must_link {self.must_link.shape}, name {self.name.shape}, pinned {self.pinned.shape} and "
                f"cannot_link {self.cannot_link.shape}; expected (N,) three times and (A, 2)"
            )

    @classmethod
    def none(cls, count: int) -> Self:
        """Return no constraint on any of ``count`` rows."""
        absent = np.full(count, -1, np.int64)
        return cls(must_link=absent, name=absent, cannot_link=np.zeros((0, 2), np.int64), pinned=absent)
