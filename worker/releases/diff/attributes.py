"""Changes of attributes, which have a probability each instead of one label."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.codes import LOGIT_STEPS, LOGIT_ZERO, MAX_CODE, codes_of
from worker.releases.diff.drift import GroupDrift, name_group, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from worker.ledger.releases import ReleaseIds

PRESENT = 0.5  # probability from which an attribute counts as present

_KEYS = text("""
    SELECT reading_id, head_id, labels, temperature FROM facet.reading_key
    WHERE reading_id IN (:before, :after) AND kind = 'multilabel'""")
# Scores stand in one row for each face and head, under whichever reading came first.
_OTHERS = """
    (SELECT q.scores FROM facet.prediction AS q JOIN facet.layer AS l ON l.layer_id = q.reading_id
     WHERE q.face_id = {row}.face_id AND l.parent_id = :{head} AND q.scores IS NOT NULL LIMIT 1)"""
_MAKE = text(f"""
    CREATE TEMPORARY TABLE scored ON COMMIT DROP AS
    SELECT coalesce(b.scores, {_OTHERS.format(row="b", head="head_before")}) AS before,
           coalesce(a.scores, {_OTHERS.format(row="a", head="head_after")}) AS after,
           gender, ethnicity, age_band, quality_band
    FROM face_pair AS p
    JOIN facet.prediction AS b ON b.face_id = p.before_id AND b.reading_id = :before
    JOIN facet.prediction AS a ON a.face_id = p.after_id AND a.reading_id = :after""")  # noqa: S608 - constants
# The scores of some 40,000 faces as one value each: reading them row by row takes ten times as long.
_SCORES = text("""
    SELECT string_agg(before, '') AS before, string_agg(after, '') AS after FROM scored
    WHERE before IS NOT NULL AND after IS NOT NULL GROUP BY (ctid::text::point)[0]::bigint / 1000""")
# A probability of 0.5 is a logit of 0 at any temperature: the upper bit of its code. All attributes in one pass.
_CELLS = """
    SELECT gender, ethnicity, age_band, quality_band, count(*) AS faces, ARRAY[{flips}] AS changed FROM scored AS s
    WHERE before IS NOT NULL AND after IS NOT NULL GROUP BY gender, ethnicity, age_band, quality_band"""
_FLIPS = "count(*) FILTER (WHERE (get_byte(before, {old}) >= 128) <> (get_byte(after, {new}) >= 128))"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeChange:
    """One attribute under both releases."""

    attribute: str
    faces: int
    """With scores under both."""
    shift: float
    """Mean change of its probability."""
    gained: int
    """Faces that have it under the new release alone."""
    lost: int
    """Faces that had it under the old release alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeChanges:
    """The attributes that both releases know."""

    head: str
    changed: int
    """Faces that gained or lost at least one of them."""
    attributes: tuple[AttributeChange, ...]
    """Those that most faces gained or lost first."""


@dataclass(frozen=True, slots=True)
class _Key:
    """Meaning of the scores of a reading."""

    length: int
    """Attributes in a row of scores."""
    temperature: float


@dataclass(slots=True)
class _Sums:
    """Sums over faces; the arrays have a number for each attribute that both releases know."""

    shift: NDArray[np.float64]
    gained: NDArray[np.int64]
    lost: NDArray[np.int64]
    faces: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class _Compared:
    """A head of attributes under both releases, whose scores are in the temporary table ``scored``."""

    before: _Key
    after: _Key
    places: dict[str, tuple[int, int]]
    """Old and new place of the attributes that both know."""


def attribute_changes(session: Session, head: str, before: ReleaseIds, after: ReleaseIds) -> AttributeChanges | None:
    """Compare a head of attributes over the pairs of ``make_pairs``; None for a head of another kind."""
    compared = _compare(session, head, before, after)
    if compared is None:
        return None
    if not compared.places:
        return AttributeChanges(head=head, changed=0, attributes=())
    sums = _sum(session, compared)
    found = [
        AttributeChange(
            attribute=label,
            faces=sums.faces,
            shift=float(sums.shift[place]) / max(sums.faces, 1),
            gained=int(sums.gained[place]),
            lost=int(sums.lost[place]),
        )
        for place, label in enumerate(compared.places)
    ]
    ranked = sorted(found, key=lambda one: -(one.gained + one.lost))
    return AttributeChanges(head=head, changed=sums.changed, attributes=tuple(ranked))


def _sum(session: Session, compared: _Compared) -> _Sums:
    """Decode the scores of all pairs in one pass for all attributes: here, since PostgreSQL is slow at it."""
    old, new = (np.array(places, np.intp) for places in zip(*compared.places.values(), strict=True))
    tables = _probabilities(compared.before.temperature), _probabilities(compared.after.temperature)
    count = len(compared.places)
    sums = _Sums(np.zeros(count), np.zeros(count, np.int64), np.zeros(count, np.int64))
    for row in session.execute(_SCORES, execution_options={"stream_results": True, "yield_per": 1}):
        before = codes_of(row.before, compared.before.length)[:, old]
        after = codes_of(row.after, compared.after.length)[:, new]
        had, has = tables[0][before], tables[1][after]
        sums.shift += (has - had).sum(axis=0)
        sums.gained += ((had < PRESENT) & (has >= PRESENT)).sum(axis=0)
        sums.lost += ((had >= PRESENT) & (has < PRESENT)).sum(axis=0)
        sums.faces += len(before)
        sums.changed += int(((before >= LOGIT_ZERO) != (after >= LOGIT_ZERO)).any(axis=1).sum())
    return sums


def _probabilities(temperature: float) -> NDArray[np.float64]:
    """Return (65536,) the probability of each code, as ``facet.decode_probability`` rounds it."""
    logits = (np.arange(MAX_CODE + 1) - LOGIT_ZERO) / LOGIT_STEPS
    return np.round(10_000 / (1 + np.exp(np.clip(-logits / temperature, -700, 700)))) / 10_000


def attribute_drift(session: Session, head: str, before: ReleaseIds, after: ReleaseIds) -> list[GroupDrift]:
    """Return the share of faces that gained or lost each attribute of a head, group by group as ``drift``.

    It is empty for a head of another kind.
    """
    compared = _compare(session, head, before, after)
    if compared is None or not compared.places:
        return []
    flips = ", ".join(_FLIPS.format(old=2 * old, new=2 * new) for old, new in compared.places.values())
    faces: Counter[str] = Counter()
    changed: dict[str, Counter[str]] = {attribute: Counter() for attribute in compared.places}
    for row in session.execute(text(_CELLS.format(flips=flips))):
        for group in _groups(row.gender, row.ethnicity, row.age_band, row.quality_band):
            faces[group] += row.faces
            for attribute, count in zip(changed, row.changed, strict=True):
                changed[attribute][group] += count
    return [
        GroupDrift(head=attribute, group=group, faces=count, changed=wilson(found[group], count), shift=None)
        for attribute, found in changed.items()
        for group, count in faces.most_common()
    ]


def _groups(gender: str, ethnicity: str, age_band: int, quality_band: int) -> tuple[str, ...]:
    """Return the names of the groups that a face of this cell belongs to."""
    return (
        name_group(None, None, None, None),
        name_group(gender, None, None, None),
        name_group(None, ethnicity, None, None),
        name_group(None, None, age_band, None),
        name_group(None, None, None, quality_band),
        name_group(gender, ethnicity, age_band, quality_band),
    )


def _compare(session: Session, head: str, before: ReleaseIds, after: ReleaseIds) -> _Compared | None:
    """Write the scores of all pairs to the temporary table; None for a head of another kind."""
    readings = {"before": before.readings.get(head), "after": after.readings.get(head)}
    keys = {row.reading_id: row for row in session.execute(_KEYS, readings)}
    old, new = keys.get(readings["before"]), keys.get(readings["after"])
    if old is None or new is None:
        return None
    session.execute(text("DROP TABLE IF EXISTS pg_temp.scored"))
    session.execute(_MAKE, readings | {"head_before": old.head_id, "head_after": new.head_id})
    places = {each: (old.labels.index(each), new.labels.index(each)) for each in old.labels if each in new.labels}
    before_key, after_key = (_Key(len(each.labels), each.temperature) for each in (old, new))
    return _Compared(before_key, after_key, places)
