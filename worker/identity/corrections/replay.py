"""What all corrections together say: replayed from the latest to the first, so that later words win.

Each correction says of pairs of appearances that they are one person or that they are not, and of appearances what they
are called. A word is taken unless it contradicts those already taken, what follows from them included: if later words
make a and b one person and b and c two, an earlier word that makes a and c one is passed over. What is left contradicts
nothing.
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

Kind = Literal["name", "merge", "split", "not"]


@dataclass(frozen=True, slots=True)
class ResolvedCorrection:
    """One correction, its places resolved to appearances."""

    correction_id: int
    kind: Kind
    subject: Ids
    """Appearances that it is about: those named, joined, split off or sent away."""
    rest: Ids
    """Appearances from which split and not tell them apart."""
    name: str | None
    """Of a name: the name. Of a merge: what the joined person is called, None where nobody had a name."""
    lost: int = 0
    """Its places where no appearance is found now; the correction waits for them."""

    @property
    def appearances(self) -> Ids:
        """All that it speaks of."""
        return np.concatenate([self.subject, self.rest])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedCorrections:
    """What humans said of M appearances, without contradictions."""

    appearance: Ids
    """(M,) ids, ascending."""
    group: Ids
    """(M,) appearances with equal numbers are one person."""
    naming: Ids
    """(M,) place in ``words`` of the word that gave an appearance its name, -1 for none."""
    apart: Ids
    """(A, 2) pairs of groups that are two people."""
    words: tuple[ResolvedCorrection, ...]
    """Active corrections in order of time."""

    def names(self) -> NDArray[np.object_]:
        """(M,) name of each appearance, '' for none."""
        texts = np.array([*(word.name or "" for word in self.words), ""], np.object_)
        return texts[self.naming]

    def rows_of(self, appearances: Ids) -> Ids:
        """(N,) row of each of N appearances here, -1 for those of whom nothing was said."""
        if not len(self.appearance):
            return np.full(len(appearances), -1, np.int64)
        rows = np.minimum(np.searchsorted(self.appearance, appearances), len(self.appearance) - 1)
        return np.where(self.appearance[rows] == appearances, rows, -1)

    def constraints(self, appearances: Ids) -> Constraints:
        """Give what was said as constraints over the rows of N appearances; what concerns others is left out."""
        rows = self.rows_of(appearances)
        known = rows >= 0
        together = np.full(len(rows), -1, np.int64)
        together[known] = self.group[rows[known]]
        name = np.full(len(rows), -1, np.int64)
        _, numbers = np.unique(self.names().astype(str), return_inverse=True)
        named = known & (self.naming[rows] >= 0) if len(self.naming) else known
        name[named] = numbers[rows[named]]
        member = np.full(int(self.group.max(initial=-1)) + 1, -1, np.int64)
        member[together[known][::-1]] = np.flatnonzero(known)[::-1]  # the first row of each group
        pairs = member[self.apart].reshape(-1, 2)
        return Constraints(together=together, name=name, apart=pairs[(pairs >= 0).all(axis=1)])


def replay(words: Sequence[ResolvedCorrection]) -> ReplayedCorrections:
    """Sum up what active corrections say.

    Args:
        words: in order of time.
    """
    book = _Book()
    for place in range(len(words) - 1, -1, -1):
        book.take(words[place], place)
    return book.close(tuple(words))


class _Book:
    """Groups of appearances, and which of them are two people, while words are taken."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._apart: dict[int, set[int]] = {}
        self._names: dict[int, str] = {}
        self._naming: dict[int, int] = {}

    def take(self, word: ResolvedCorrection, place: int) -> None:
        """Add what a word says, as far as later words let it."""
        subject, rest = word.subject.tolist(), word.rest.tolist()
        for appearance in (*subject, *rest):
            self._parent.setdefault(appearance, appearance)
        if word.kind in ("merge", "split"):
            self._join(subject)
        if word.kind in ("split", "not"):
            self._part(subject, rest)
        if word.kind != "merge" or word.name is not None:
            self._call(subject, word.name if word.kind in ("name", "merge") else None, place)

    def close(self, words: tuple[ResolvedCorrection, ...]) -> ReplayedCorrections:
        appearances = sorted(self._parent)
        roots = [self._find(appearance) for appearance in appearances]
        number = {root: place for place, root in enumerate(dict.fromkeys(roots))}
        apart = {tuple(sorted((number[one], number[two]))) for one, others in self._apart.items() for two in others}
        return ReplayedCorrections(
            appearance=np.array(appearances, np.int64),
            group=np.array([number[root] for root in roots], np.int64),
            naming=np.array([self._naming.get(appearance, -1) for appearance in appearances], np.int64),
            apart=np.array(sorted(apart), np.int64).reshape(-1, 2),
            words=words,
        )

    def _find(self, appearance: int) -> int:
        root = appearance
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[appearance] != root:
            self._parent[appearance], appearance = root, self._parent[appearance]
        return root

    def _join(self, appearances: Iterable[int]) -> None:
        """Make them one group, or as few as later words allow; each goes to the first that takes it."""
        heads: list[int] = []
        for appearance in appearances:
            for head in heads:
                if self._unite(self._find(head), self._find(appearance)):
                    break
            else:
                heads.append(appearance)

    def _unite(self, keep: int, gone: int) -> bool:
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
            self._tell_apart(keep, third)
        return True

    def _part(self, subject: Iterable[int], rest: Iterable[int]) -> None:
        roots, others = {self._find(one) for one in subject}, {self._find(one) for one in rest}
        for one in roots:
            for other in others - {one}:
                self._tell_apart(one, other)

    def _tell_apart(self, one: int, other: int) -> None:
        self._apart.setdefault(one, set()).add(other)
        self._apart.setdefault(other, set()).add(one)

    def _call(self, appearances: Iterable[int], name: str | None, place: int) -> None:
        """Name those of whom no later word said what they are called; None takes the name from them."""
        for appearance in appearances:
            if appearance in self._naming:
                continue
            root = self._find(appearance)
            fits = name is not None and self._names.setdefault(root, name) == name
            self._naming[appearance] = place if fits else -1
