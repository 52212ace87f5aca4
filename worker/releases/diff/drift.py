"""Drift: how much the answers of a head changed for each group of faces, with intervals.

Groups are those of the old release: gender, ethnicity, band of age, band of quality, each alone and all four together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.releases.diff.changes import ANSWERS
from worker.releases.diff.pairs import AGE_BANDS, QUALITY_BANDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from worker.ledger.releases import ReleaseIds

Z = 1.959964  # of an interval that holds 95 %

_GROUPS = text(f"""
    SELECT gender, ethnicity, age_band, quality_band, count(*) AS faces, count(*) FILTER (WHERE differs) AS changed,
           count(shift) AS values, avg(shift) AS mean, stddev_samp(shift) AS deviation
    FROM ({ANSWERS}) AS answer WHERE had AND has
    GROUP BY GROUPING SETS ((), (gender), (ethnicity), (age_band), (quality_band),
                            (gender, ethnicity, age_band, quality_band))
    HAVING count(*) > 0""")  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDrift:
    """Change of one head's answers in one group."""

    head: str
    """Or one of its attributes."""
    group: str
    """Such as 'all', 'gender female' or 'gender female, ethnicity Asian, age 20 to 30, quality 0.5 to 0.75'."""
    faces: int
    changed: Interval
    """Share of the faces whose answer changed (Wilson)."""
    shift: Interval | None
    """Mean shift of a numeric answer (normal); None for labels, and for a single face, which has no interval."""


def drift(session: Session, head: str, before: ReleaseIds, after: ReleaseIds) -> list[GroupDrift]:
    """Compare one head over the pairs of ``make_pairs``, group by group; the largest groups first."""
    readings = {"before": before.readings.get(head), "after": after.readings.get(head)}
    rows = session.execute(_GROUPS, readings).all()
    return sorted((_drift(head, row) for row in rows), key=lambda one: (-one.faces, one.group))


def _drift(head: str, row: Row[tuple[object, ...]]) -> GroupDrift:
    faces, changed = int(row.faces), int(row.changed)
    shift = None
    if row.values > 1:
        half = Z * float(row.deviation) / math.sqrt(row.values)
        shift = Interval(value=float(row.mean), low=float(row.mean) - half, high=float(row.mean) + half)
    group = name_group(row.gender, row.ethnicity, row.age_band, row.quality_band)
    return GroupDrift(head=head, group=group, faces=faces, changed=wilson(changed, faces), shift=shift)


def name_group(gender: str | None, ethnicity: str | None, age_band: int | None, quality_band: int | None) -> str:
    """Return the name of a group; None stands for any."""
    parts = [
        gender and f"gender {gender}",
        ethnicity and f"ethnicity {ethnicity}",
        age_band is not None and f"age {_band(AGE_BANDS, age_band)}",
        quality_band is not None and f"quality {_band(QUALITY_BANDS, quality_band)}",
    ]
    return ", ".join(part for part in parts if part) or "all"


def _band(first: Sequence[float], number: int) -> str:
    """Return a band, numbered from 1, such as '20 to 30' or '70 and more'; 0 is 'none'."""
    if number < 1:
        return "none"
    low = first[number - 1]
    return f"{low:g} to {first[number]:g}" if number < len(first) else f"{low:g} and more"


def wilson(count: int, of: int) -> Interval:
    """Return the share ``count / of`` with its Wilson score interval of 95 %.

    Raises:
        ValueError: of is not positive.
    """
    if of <= 0:
        raise ValueError(f"got {count} of {of}, expected a positive total")
    share, spread = count / of, Z**2 / of
    centre = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    return Interval(value=share, low=max(centre - half, 0.0), high=min(centre + half, 1.0))
