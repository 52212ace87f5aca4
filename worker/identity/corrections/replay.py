"""All corrections together, replayed from the latest to the first, so that later ones win.

Each correction states of pairs of appearances that they are one person or that they are not, and gives appearances a
name. A statement is taken unless it contradicts those already taken, what follows from them included: if later
corrections make a and b one person and b and c two, an earlier statement that a and c are one is passed over. The
result contains no contradiction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from worker.identity.grouping.constraints import Constraints

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Ids = NDArray[np.int64]

CorrectionKind = Literal["name", "merge", "split", "not"]


@dataclass(frozen=True, slots=True)
class ResolvedCorrection:
    """One correction, its anchors resolved to appearances."""

    correction_id: int
    kind: CorrectionKind
    subject: Ids
    """Appearances that it is about: those named, joined, split off or sent away."""
    rest: Ids
    """Appearances from which a split or a not separates the subject."""
    name: str | None
    """Of a name: the name. Of a merge: the name of the joined person, None where none of them had one. Of a not between
    two people: the name that the subject keeps."""
    lost: int = 0
    """Number of its anchors without an appearance at present; the correction waits for them."""

    @property
    def appearances(self) -> Ids:
        """All appearances that it concerns."""
        return np.concatenate([self.subject, self.rest])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedCorrections:
    """Must-links, cannot-links and names of M appearances, without contradictions."""

    appearance: Ids
    """(M,) ids, ascending."""
    group: Ids
    """(M,) appearances with equal numbers are one person (must-link)."""
    named_by: Ids
    """(M,) index in ``active`` of the correction that gave an appearance its name, -1 for none."""
    cannot_link: Ids
    """(A, 2) pairs of groups that are two people."""
    active: tuple[ResolvedCorrection, ...]
    """Active corrections in order of time."""

    def names(self) -> NDArray[np.object_]:
        """Return the (M,) name of each appearance, '' for none."""
        texts = np.array([*(correction.name or "" for correction in self.active), ""], np.object_)
        return texts[self.named_by]

    def rows_of(self, appearances: Ids) -> Ids:
        """Return the (N,) row of each of N appearances here, -1 for those without a correction."""
        if not len(self.appearance):
            return np.full(len(appearances), -1, np.int64)
        rows = np.minimum(np.searchsorted(self.appearance, appearances), len(self.appearance) - 1)
        return np.where(self.appearance[rows] == appearances, rows, -1)

    def constraints(self, appearances: Ids) -> Constraints:
        """Return the constraints over the rows of N appearances; those on other appearances are left out."""
        rows = self.rows_of(appearances)
        known = rows >= 0
        must_link = np.full(len(rows), -1, np.int64)
        must_link[known] = self.group[rows[known]]
        name = np.full(len(rows), -1, np.int64)
        _, numbers = np.unique(self.names().astype(str), return_inverse=True)
        named = known & (self.named_by[rows] >= 0) if len(self.named_by) else known
        name[named] = numbers[rows[named]]
        member = np.full(int(self.group.max(initial=-1)) + 1, -1, np.int64)
        member[must_link[known][::-1]] = np.flatnonzero(known)[::-1]  # the first row of each group
        pairs = member[self.cannot_link].reshape(-1, 2)
        return Constraints(
            must_link=must_link,
            name=name,
            cannot_link=pairs[(pairs >= 0).all(axis=1)],
            pinned=np.full(len(rows), -1, np.int64),
        )


def replay(corrections: Sequence[ResolvedCorrection]) -> ReplayedCorrections:
    """Combine active corrections, the later ones first.

    Args:
        corrections: in order of time.
    """
    replayer = _Replayer()
    for place in range(len(corrections) - 1, -1, -1):
        replayer.take(corrections[place], place)
    return replayer.close(tuple(corrections))


class _Replayer:
    """Groups of appearances (a union-find forest), and the pairs of groups that are two people."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._apart: dict[int, set[int]] = {}
        self._names: dict[int, str] = {}
        self._named_by: dict[int, int] = {}

    def take(self, correction: ResolvedCorrection, place: int) -> None:
        """Add the statements of a correction that later ones do not contradict."""
        subject, rest = correction.subject.tolist(), correction.rest.tolist()
        for appearance in (*subject, *rest):
            self._parent.setdefault(appearance, appearance)
        if correction.kind in ("merge", "split"):
            self._join(subject)
        if correction.kind in ("split", "not"):
            self._part(subject, rest)
        if correction.kind != "merge" or correction.name is not None:
            self._name(subject, correction.name, place)

    def close(self, corrections: tuple[ResolvedCorrection, ...]) -> ReplayedCorrections:
        appearances = sorted(self._parent)
        roots = [self._find(appearance) for appearance in appearances]
        number = {root: place for place, root in enumerate(dict.fromkeys(roots))}
        apart = {tuple(sorted((number[one], number[two]))) for one, others in self._apart.items() for two in others}
        return ReplayedCorrections(
            appearance=np.array(appearances, np.int64),
            group=np.array([number[root] for root in roots], np.int64),
            named_by=np.array([self._named_by.get(appearance, -1) for appearance in appearances], np.int64),
            cannot_link=np.array(sorted(apart), np.int64).reshape(-1, 2),
            active=corrections,
        )

    def _find(self, appearance: int) -> int:
        """Return the root of an appearance's group, and shorten the path to it."""
        root = appearance
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[appearance] != root:
            self._parent[appearance], appearance = root, self._parent[appearance]
        return root

    def _join(self, appearances: Iterable[int]) -> None:
        """Make them one group, or as few as later corrections allow; each joins the first group that fits."""
        heads: list[int] = []
        for appearance in appearances:
            for head in heads:
                if self._unite(self._find(head), self._find(appearance)):
                    break
            else:
                heads.append(appearance)

    def _unite(self, keep: int, gone: int) -> bool:
        """Join two groups by their roots; returns whether they are one now."""
        if keep == gone:
            return True
        name, other = self._names.get(keep), self._names.get(gone)
        if gone in self._apart.get(keep, ()) or (name is not None and other is not None and name != other):
            return False
        self._parent[gone] = keep
        if name is None and other is not None:
            self._names[keep] = other
        for third in self._apart.pop(gone, ()):
            self._apart[third].discard(gone)
            self._separate(keep, third)
        return True

    def _part(self, subject: Iterable[int], rest: Iterable[int]) -> None:
        """Separate the groups of the subject from those of the rest, where they are not one group by now."""
        roots, others = {self._find(one) for one in subject}, {self._find(one) for one in rest}
        for one in roots:
            for other in others - {one}:
                self._separate(one, other)

    def _separate(self, one: int, other: int) -> None:
        self._apart.setdefault(one, set()).add(other)
        self._apart.setdefault(other, set()).add(one)

    def _name(self, appearances: Iterable[int], name: str | None, place: int) -> None:
        """Name the appearances that no later correction names; None takes the name from them."""
        for appearance in appearances:
            if appearance in self._named_by:
                continue
            root = self._find(appearance)
            fits = name is not None and self._names.setdefault(root, name) == name
            self._named_by[appearance] = place if fits else -1
