"""Corrections compared with the people as they are: constraints for new appearances, and violations to mend."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from worker.identity.grouping.constraints import Exclusions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from worker.identity.corrections.replay import ReplayedCorrections
    from worker.identity.grouping.constraints import Constraints

    Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Conflict:
    """Two groups that are two people and share one."""

    first: int
    second: int


def constraints_for(corrections: ReplayedCorrections, appearances: Ids, person: Ids) -> Constraints:
    """Return the constraints on appearances that are about to get a person.

    Args:
        corrections: the active corrections.
        appearances: (N,) ids of those that get a person.
        person: (M,) person of each appearance in ``corrections``, -1 for none and for those that get one now.

    Returns:
        Constraints over the N rows: a row is pinned to the person that its group has already, and excluded from people
        that its group is not.
    """
    rows = corrections.rows_of(appearances)
    corrected = np.flatnonzero(rows >= 0)
    home = people_of_groups(corrections.group, person)
    pinned = np.full(len(appearances), -1, np.int64)
    pinned[corrected] = home[corrections.group[rows[corrected]]]
    pairs = [
        (row, other)
        for row in corrected[pinned[corrected] < 0].tolist()
        for other in sorted(_excluded_people(corrections, person, int(corrections.group[rows[row]])))
    ]
    row, other = np.array(pairs, np.int64).reshape(-1, 2).T
    return replace(corrections.constraints(appearances), pinned=pinned, excluded=Exclusions(row, other))


def people_of_groups(group: Ids, person: Ids) -> Ids:
    """Return the (G,) person that most members of each group have; of two with as many, the smaller id; -1 for none."""
    home = np.full(int(group.max(initial=-1)) + 1, -1, np.int64)
    had = person >= 0
    pairs, counts = np.unique(np.stack([group[had], person[had]], axis=1), axis=0, return_counts=True)
    order = np.lexsort([-pairs[:, 1], counts])  # the last one written wins
    home[pairs[order, 0]] = pairs[order, 1]
    return home


def _excluded_people(corrections: ReplayedCorrections, person: Ids, group: int) -> set[int]:
    """Return the people that a group is not: those of a cannot-link constraint, and those of another name."""
    apart = corrections.cannot_link[(corrections.cannot_link == group).any(axis=1)].ravel()
    people = set(person[np.isin(corrections.group, apart[apart != group])].tolist())
    names = corrections.names()
    own = {name for name in names[corrections.group == group].tolist() if name}
    if own:
        people |= {int(p) for p, name in zip(person.tolist(), names.tolist(), strict=True) if name and name not in own}
    return people - {-1}


def find_violations(corrections: ReplayedCorrections, person: Ids) -> Ids:
    """Return the appearances that have to leave their person, so that no correction is violated.

    Args:
        corrections: the active corrections.
        person: (M,) person of each appearance in ``corrections``, -1 for none.

    Returns:
        Ids: of a group in several people, those outside of the one that has most of them; of groups that share a person
        and must not (a cannot-link constraint or different names), as few groups as suffice, those with most conflicts
        first.
    """
    home = people_of_groups(corrections.group, person)
    astray = (person >= 0) & (person != home[corrections.group])
    conflicts = _conflicts(corrections, home).values()
    leaving = sorted({group for found in conflicts for group in _fewest(found, corrections.group)})
    violating: Ids = corrections.appearance[astray | ((person >= 0) & np.isin(corrections.group, leaving))]
    return violating


def _conflicts(corrections: ReplayedCorrections, home: Ids) -> dict[int, list[_Conflict]]:
    """Return the conflicts between groups that share a person, by person."""
    conflicts: dict[int, list[_Conflict]] = {}
    first, second = corrections.cannot_link.T
    shared = (home[first] == home[second]) & (home[first] >= 0)
    for one, other in corrections.cannot_link[shared].tolist():
        conflicts.setdefault(int(home[one]), []).append(_Conflict(one, other))
    for owner, groups in _names_by_person(corrections, home).items():
        found = list(_name_conflicts(groups))
        if found:
            conflicts.setdefault(owner, []).extend(found)
    return conflicts


def _names_by_person(corrections: ReplayedCorrections, home: Ids) -> dict[int, dict[int, str]]:
    """Return the named groups of each person, with their names."""
    named: dict[int, dict[int, str]] = {}
    for group, name in zip(corrections.group.tolist(), corrections.names().tolist(), strict=True):
        if name and home[group] >= 0:
            named.setdefault(int(home[group]), {})[group] = name
    return named


def _name_conflicts(names: dict[int, str]) -> Iterator[_Conflict]:
    """Yield the pairs of groups of one person whose names differ."""
    if len(set(names.values())) > 1:
        for one, name in names.items():
            for other, other_name in names.items():
                if one < other and name != other_name:
                    yield _Conflict(one, other)


def _fewest(conflicts: Sequence[_Conflict], group: Ids) -> list[int]:
    """Choose groups without which no conflict is left: always one in most conflicts, of the fewest members, latest."""
    sizes = np.bincount(group)
    gone: list[int] = []
    while conflicts:
        counts = Counter(number for conflict in conflicts for number in (conflict.first, conflict.second))
        worst = max(counts, key=lambda number: (counts[number], -sizes[number], number))
        gone.append(worst)
        conflicts = [conflict for conflict in conflicts if worst not in (conflict.first, conflict.second)]
    return gone
