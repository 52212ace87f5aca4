"""The edges of a graph whose nodes join: changed in place, and simplified again where nodes joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLOSED = np.float32(-2.0)  # below every cosine


class Edges:
    """E edges between groups, each pair of groups once.

    A forbidden edge is a cannot-link constraint. It is an edge like the others, so joining carries it along: a group
    that joins one of the two may not join the other either.
    """

    def __init__(self, pairs: NDArray[np.int64], cannot_links: NDArray[np.int64]) -> None:
        """Hold (E, 2) pairs and (B, 2) forbidden pairs of groups, in any order; repeated pairs become one."""
        ends = np.concatenate([pairs, cannot_links]).astype(np.int32)
        self.first = ends.min(axis=1, initial=np.iinfo(np.int32).max)
        self.second = ends.max(axis=1, initial=-1)
        self.forbidden = np.arange(len(ends)) >= len(pairs)
        self.similarity = np.full(len(ends), CLOSED)
        self._compact(self._simplify(np.arange(len(ends))))

    def __len__(self) -> int:
        return len(self.first)

    def open(self) -> NDArray[np.int64]:
        """Return the rows of the edges along which groups may join."""
        return np.flatnonzero(self.similarity > CLOSED)

    def pairs(self) -> NDArray[np.int64]:
        """Return the (E, 2) pairs of groups."""
        rows = np.flatnonzero(self.first != self.second)
        return np.stack([self.first[rows], self.second[rows]], axis=1).astype(np.int64)

    def cannot_links(self) -> NDArray[np.int64]:
        """Return the (B, 2) pairs of groups that are different people."""
        rows = np.flatnonzero(self.forbidden)
        return np.stack([self.first[rows], self.second[rows]], axis=1).astype(np.int64)

    def relabel(self, into: NDArray[np.int64], touched: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Rewrite the ends of edges after groups have joined.

        Args:
            into: (G,) group that each group becomes part of.
            touched: (G,) whether a group joins another or is joined.

        Returns:
            Rows of the edges whose ends have changed.
        """
        rows = np.flatnonzero(touched[self.first] | touched[self.second])
        ends = np.stack([into[self.first[rows]], into[self.second[rows]]])
        self.first[rows], self.second[rows] = ends.min(axis=0), ends.max(axis=0)
        self.similarity[rows] = CLOSED
        rows = self._simplify(rows)
        if np.count_nonzero(self.first == self.second) <= len(self) // 2:
            return rows
        kept = np.zeros(len(self), np.bool_)
        kept[rows] = True
        alive = np.flatnonzero(self.first != self.second)
        self._compact(alive)
        return np.flatnonzero(kept[alive])

    def _simplify(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Keep one of equal edges among ``rows``, forbidden if any was; turn the rest into loops."""
        loops = self.first[rows] == self.second[rows]
        self.forbidden[rows[loops]] = False  # a must-link may join two that are in view together
        rows = rows[~loops]
        keys = self.first[rows].astype(np.int64) << 32 | self.second[rows]
        order = np.argsort(keys, kind="stable")
        rows, fresh = rows[order], np.diff(keys[order], prepend=-1) != 0
        if len(rows):
            self.forbidden[rows[fresh]] = np.logical_or.reduceat(self.forbidden[rows], np.flatnonzero(fresh))
        spare = rows[~fresh]
        self.second[spare] = self.first[spare]
        self.forbidden[spare] = False
        one_of_each: NDArray[np.int64] = rows[fresh]
        return one_of_each

    def _compact(self, rows: NDArray[np.int64]) -> None:
        self.first, self.second = self.first[rows], self.second[rows]
        self.forbidden, self.similarity = self.forbidden[rows], self.similarity[rows]
