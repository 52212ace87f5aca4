"""What humans said about who is who, in the form that grouping reads: rows of appearances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Must-links and cannot-links over N appearances; what humans said outweighs every similarity.

    Two rows that are together are one person even where they are in view at the same time (a mirror, a picture in the
    picture). Whoever makes constraints sees to it that they do not contradict each other.
    """

    together: NDArray[np.int64]
    """(N,) rows with equal numbers are one person; -1: nothing was said."""
    name: NDArray[np.int64]
    """(N,) rows with different numbers are different people, equal numbers say nothing; -1: no name."""
    apart: NDArray[np.int64]
    """(A, 2) pairs of rows that are different people."""
    banned: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    """(B, 2) row and known person that it is not."""

    def __post_init__(self) -> None:
        tails = {self.apart.shape[1:], self.banned.shape[1:]}
        if self.together.shape != self.name.shape or tails != {(2,)}:
            message = f"together {self.together.shape}, name {self.name.shape}, apart {self.apart.shape}, "
            raise ValueError(f"{message}banned {self.banned.shape}: expected (N,), (N,), (A, 2) and (B, 2)")

    @classmethod
    def none(cls, count: int) -> Self:
        """Nobody said anything about any of ``count`` rows."""
        silent = np.full(count, -1, np.int64)
        return cls(together=silent, name=silent, apart=np.zeros((0, 2), np.int64))
