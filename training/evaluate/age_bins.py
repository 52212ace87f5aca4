"""Ages in bins, as published work reports them, computed from the distribution over years."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AgeBins:
    """A division of all ages."""

    name: str
    first_years: tuple[int, ...]
    """First year of each bin, ascending from 0; the last bin is open."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names such as 0-2 and 70+."""
        ends = zip(self.first_years, self.first_years[1:], strict=False)
        return (*(f"{first}-{end - 1}" for first, end in ends), f"{self.first_years[-1]}+")

    def __len__(self) -> int:
        return len(self.first_years)

    def of_years(self, years: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the (N,) bins of (N,) ages."""
        return np.searchsorted(self.first_years, np.floor(years), side="right").astype(np.int64) - 1

    def most_probable(self, probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the (N,) bins that hold most of (N, K) distributions over the years 0..K - 1."""
        shares = np.add.reduceat(probabilities, self.first_years, axis=1)
        return np.asarray(shares.argmax(axis=1), dtype=np.int64)


# FairFace's. Source: Karkkainen and Joo 2021, 'FairFace'.
NINE = AgeBins("nine bins", (0, 3, 10, 20, 30, 40, 50, 60, 70))
# Published work divides ages into fourteen classes without naming their edges, so these are our choice, finer where
# faces change fast: NINE with childhood in steps of three to five years, and the years from 10 to 49 in steps of five.
FOURTEEN = AgeBins("fourteen bins", (0, 3, 6, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70))
