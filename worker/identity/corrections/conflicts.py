"""What humans' words mean for the people as they are: who is already somebody, who cannot be whom, what is violated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.identity.corrections.replay import ReplayedCorrections
    from worker.identity.grouping.constraints import Constraints

    Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What humans' words mean for N appearances that get a person."""

    constraints: Constraints
    """Over the N rows."""
    pinned: Ids
    """(N,) known person that a row is, -1 where nobody said."""
    banned: Ids
    """(B, 2) row and known person that it is not."""


def rule(said: ReplayedCorrections, appearances: Ids, person: Ids) -> Ruling:
    """Say what holds for appearances that get a person.

    Args:
        said: what humans said.
        appearances: (N,) ids of those that get a person.
        person: (M,) person of each appearance in ``said``, -1 for none and for those that get one now.
    """
    rows = said.rows_of(appearances)
    spoken = np.flatnonzero(rows >= 0)
    home = group_people(said.group, person)
    pinned = np.full(len(appearances), -1, np.int64)
    pinned[spoken] = home[said.group[rows[spoken]]]
    free = spoken[pinned[spoken] < 0]
    pairs = [
        (int(row), other)
        for row in free.tolist()
        for other in sorted(_others(said, person, int(said.group[rows[row]])))
    ]
    banned = np.array(pairs, np.int64).reshape(-1, 2)
    return Ruling(constraints=said.constraints(appearances), pinned=pinned, banned=banned)


def group_people(group: Ids, person: Ids) -> Ids:
    """(G,) the person that most members of each group have; the smaller id of two, -1 where none has any."""
    home = np.full(int(group.max(initial=-1)) + 1, -1, np.int64)
    had = person >= 0
    pairs, counts = np.unique(np.stack([group[had], person[had]], axis=1), axis=0, return_counts=True)
    order = np.lexsort([-pairs[:, 1], counts])  # the last one written wins
    home[pairs[order, 0]] = pairs[order, 1]
    return home


def _others(said: ReplayedCorrections, person: Ids, group: int) -> set[int]:
    """People whom a group is not: those told apart from it, and those of another name."""
    foes = said.apart[(said.apart == group).any(axis=1)].ravel()
    people = set(person[np.isin(said.group, foes[foes != group])].tolist())
    names = said.names()
    own = {name for name in names[said.group == group].tolist() if name}
    if own:
        people |= {int(p) for p, name in zip(person.tolist(), names.tolist(), strict=True) if name and name not in own}
    return people - {-1}


def find_violations(said: ReplayedCorrections, person: Ids) -> Ids:
    """Appearances that have to leave their person, so that what humans said is true again.

    Args:
        said: what humans said.
        person: (M,) person of each appearance in ``said``, -1 for none.

    Returns:
        Ids: of a group in several people, those outside of the one that has most of them; of groups that are apart or
        differ in name and share a person, as few groups as will do, those that contradict most first.
    """
    home = group_people(said.group, person)
    astray = (person >= 0) & (person != home[said.group])
    leaving = sorted({group for foes in _disputes(said, home).values() for group in _fewest(foes, said.group)})
    violating: Ids = said.appearance[astray | ((person >= 0) & np.isin(said.group, leaving))]
    return violating


def _disputes(said: ReplayedCorrections, home: Ids) -> dict[int, list[tuple[int, int]]]:
    """By person, pairs of its groups that contradict each other."""
    disputes: dict[int, list[tuple[int, int]]] = {}
    inside = said.apart[(home[said.apart[:, 0]] == home[said.apart[:, 1]]) & (home[said.apart[:, 0]] >= 0)]
    for one, other in inside.tolist():
        disputes.setdefault(int(home[one]), []).append((one, other))
    called: dict[int, dict[int, str]] = {}
    for group, name in zip(said.group.tolist(), said.names().tolist(), strict=True):
        if name and home[group] >= 0:
            called.setdefault(int(home[group]), {})[group] = name
    for owner, groups in called.items():
        if len(set(groups.values())) > 1:
            pairs = [(a, b) for a in groups for b in groups if a < b and groups[a] != groups[b]]
            disputes.setdefault(owner, []).extend(pairs)
    return disputes


def _fewest(pairs: list[tuple[int, int]], group: Ids) -> list[int]:
    """Groups without which no pair is left: always the one in most pairs, of the fewest members, latest."""
    sizes = np.bincount(group)
    gone: list[int] = []
    while pairs:
        counts = Counter(number for pair in pairs for number in pair)
        worst = max(counts, key=lambda number: (counts[number], -sizes[number], number))
        gone.append(worst)
        pairs = [pair for pair in pairs if worst not in pair]
    return gone
