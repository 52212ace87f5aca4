"""The gate: may the views switch to a release? Every check states what it found and what it expects."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.errors import UsageError
from worker.releases.diff.attributes import attribute_drift
from worker.releases.diff.coverage import uncovered
from worker.releases.diff.drift import drift
from worker.releases.diff.pairs import make_pairs
from worker.releases.diff.people import correction_changes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from worker.ledger.releases import ReleaseIds
    from worker.releases.diff.drift import GroupDrift

_VERDICT = text("SELECT manifest -> 'verdict' FROM facet.release WHERE release_id = :release_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a switch."""

    coverage: float = 0.999
    """Least share of the old release's faces that have every answer of the new one."""
    changed: float = 0.1
    """Greatest share of a group's faces whose label may change."""
    shift: float = 2.0
    """Greatest mean shift of a numeric answer in a group: years."""
    faces: int = 100
    """Groups with fewer faces are not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCheck:
    """One condition of a switch."""

    name: str
    ok: bool
    found: str
    """The figures found, beside those expected."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """The outcome of the gate."""

    checks: tuple[GateCheck, ...]

    @property
    def is_open(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    @property
    def refusals(self) -> tuple[str, ...]:
        """The checks that do not hold, a sentence each."""
        return tuple(f"{check.name}: {check.found}" for check in self.checks if not check.ok)

    def as_json(self) -> dict[str, Any]:
        """Return the value that the history of releases keeps."""
        return {"open": self.is_open, "checks": [asdict(check) for check in self.checks]}


def parse_limits(given: str | None) -> Limits:
    """Read limits such as ``coverage=0.99,changed=0.2``; those that are not named are the usual ones.

    Raises:
        UsageError: a name is unknown, or a value is no number of its range.
    """
    values: dict[str, float] = {}
    known = {one.name: one for one in fields(Limits)}
    for part in (given or "").split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not name and not value:
            continue
        try:
            values[name] = float(value)
        except ValueError:
            values[name] = math.nan
        most = 1.0 if name in {"coverage", "changed"} else math.inf
        if name not in known or not 0 <= values[name] <= most:
            raise UsageError(f"--limits got {part!r}, expected one of {', '.join(known)} with a number, as in shift=2")
    usual = Limits()
    return Limits(
        coverage=values.get("coverage", usual.coverage),
        changed=values.get("changed", usual.changed),
        shift=values.get("shift", usual.shift),
        faces=int(values.get("faces", usual.faces)),
    )


def judge_switch(session: Session, before: ReleaseIds, after: ReleaseIds, limits: Limits | None = None) -> GateResult:
    """Judge a switch from one release to another.

    Args:
        session: a transaction that may create temporary tables.
        before: the active release.
        after: the one to switch to.
        limits: of drift and coverage.
    """
    bounds = limits or Limits()
    faces = make_pairs(session, before, after)
    differing = [task for task, reading in sorted(after.readings.items()) if before.readings.get(task) != reading]
    groups = [one for task in differing for one in drift(session, task, before, after)]
    attributes = [one for task in differing for one in attribute_drift(session, task, before, after)]
    waiting = correction_changes(session, before, after).waiting
    return GateResult(
        (
            _coverage(faces.compared - uncovered(session, before, after), faces.before, bounds),
            GateCheck(
                name="corrections",
                ok=not waiting,
                found=f"{len(waiting)} would find no place ({', '.join(map(str, waiting[:5]))}), 0 may"
                if waiting
                else "all find their places",
            ),
            _drift([*_groups_beyond(groups, bounds), *_attributes_beyond(attributes, bounds)]),
            _verdict(session, after),
        )
    )


def _coverage(covered: int, faces: int, bounds: Limits) -> GateCheck:
    share = covered / faces if faces else 1.0
    found = f"{covered:,} of {faces:,} faces ({share:.2%}) have all answers, at least {bounds.coverage:.1%} must"
    return GateCheck(name="coverage", ok=share >= bounds.coverage, found=found)


def _drift(beyond: Sequence[str]) -> GateCheck:
    if not beyond:
        return GateCheck(name="drift", ok=True, found="within the limits in all groups, for heads and attributes")
    more = f"; and {len(beyond) - 3} more" if len(beyond) > 3 else ""
    return GateCheck(name="drift", ok=False, found="; ".join(beyond[:3]) + more)


def _groups_beyond(groups: Iterable[GroupDrift], bounds: Limits) -> list[str]:
    """Judge each group by the end of its interval that is nearer to no change."""
    found = (_beyond(one, bounds) for one in groups if one.faces >= bounds.faces)
    return [one for one in found if one]


def _attributes_beyond(drifts: Iterable[GroupDrift], bounds: Limits) -> list[str]:
    """Judge each attribute in each group: it has a probability instead of a label."""
    return [
        f"{one.head}, {one.group}: {one.changed.value:.1%} of faces gained or lost it, {bounds.changed:.0%} may"
        for one in drifts
        if one.faces >= bounds.faces and one.changed.low > bounds.changed
    ]


def _beyond(one: GroupDrift, bounds: Limits) -> str:
    if one.shift is None:
        if one.changed.low <= bounds.changed:
            return ""
        return f"{one.head}, {one.group}: {one.changed.value:.1%} of labels change, {bounds.changed:.0%} may"
    nearest = max(one.shift.low, -one.shift.high)
    if nearest <= bounds.shift:
        return ""
    return f"{one.head}, {one.group}: shifts by {one.shift.value:+.1f} in the mean, {bounds.shift:g} may"


def _verdict(session: Session, after: ReleaseIds) -> GateCheck:
    """Judge the comparison on labelled faces that training wrote into the release."""
    verdict = session.execute(_VERDICT, {"release_id": after.release_id}).scalar_one()
    if verdict is None:
        return GateCheck(
            name="verdict", ok=False, found="none; `facet-train train` and `facet-train export --data` write one"
        )
    if not verdict["judged"]:
        return GateCheck(name="verdict", ok=False, found="no group had enough labelled faces to be judged")
    if verdict["worse"]:
        return GateCheck(
            name="verdict", ok=False, found=f"worse than {verdict['base']}: {'; '.join(verdict['worse'][:3])}"
        )
    return GateCheck(name="verdict", ok=True, found=f"worse than {verdict['base']} in none of {verdict['judged']}")
