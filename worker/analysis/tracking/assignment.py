"""Linear assignment: pairs rows and columns of a table so that the sum of the chosen weights is largest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def linear_assignment(weights: Floats) -> list[tuple[int, int]]:
    """Return pairs (row, column) of positive weight with the largest sum; each row and column occurs at most once."""
    rows, columns = np.flatnonzero((weights > 0).any(axis=1)), np.flatnonzero((weights > 0).any(axis=0))
    positive = np.clip(weights[np.ix_(rows, columns)], 0.0, None)
    if not positive.size:
        return []
    best = positive.argmax(axis=1)
    if len(set(best.tolist())) < len(best):  # rows compete; otherwise every row's first choice is the optimum
        best = _hungarian(positive)
    return [(int(rows[r]), int(columns[c])) for r, c in enumerate(best) if c >= 0 and positive[r, c] > 0]


def _hungarian(weights: Floats) -> NDArray[np.int64]:
    """Return the column of each row, or -1, in the assignment of largest weight.

    Shortest augmenting paths with potentials (Kuhn-Munkres in the form of Jonker and Volgenant), cubic time.
    """
    if weights.shape[0] > weights.shape[1]:
        flipped = _hungarian(weights.T)
        result = np.full(weights.shape[0], -1, np.int64)
        result[flipped] = np.arange(len(flipped))
        return result
    count, width = weights.shape
    costs = weights.max() - weights
    row_price, column_price = np.zeros(count), np.zeros(width + 1)
    owner = np.full(width + 1, -1, np.int64)  # the last column is the virtual start of each path
    for row in range(count):
        owner[width] = row
        _augment(costs, row_price, column_price, owner)
    result = np.full(count, -1, np.int64)
    taken = np.flatnonzero(owner[:width] >= 0)
    result[owner[taken]] = taken
    return result


def _augment(costs: Floats, row_price: Floats, column_price: Floats, owner: NDArray[np.int64]) -> None:
    """Assign a column to the row that owns the virtual last one, moving other rows along the cheapest path."""
    width = costs.shape[1]
    slack, came_from = np.full(width, np.inf), np.full(width, width)
    visited = np.zeros(width + 1, np.bool_)
    column = width
    while owner[column] >= 0:
        visited[column] = True
        row = owner[column]
        open_columns = np.flatnonzero(~visited[:width])
        reduced = costs[row, open_columns] - row_price[row] - column_price[open_columns]
        closer = reduced < slack[open_columns]
        slack[open_columns[closer]] = reduced[closer]
        came_from[open_columns[closer]] = column
        following = int(open_columns[slack[open_columns].argmin()])
        step = slack[following]
        row_price[owner[visited]] += step
        column_price[visited] -= step
        slack[open_columns] -= step
        column = following
    while column != width:
        previous = int(came_from[column])
        owner[column] = owner[previous]
        column = previous
