"""Changes of attributes, which have a probability each instead of one label."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.releases.diff.drift import GroupDrift, name_group, wilson

if TYPE_CHECKING:
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
_LOGIT = "facet.decode_logit({scores}, :{place})"
_CHANGES = text(f"""
    SELECT count(*) AS faces, avg(after - before) AS shift,
           count(*) FILTER (WHERE before < {PRESENT} AND after >= {PRESENT}) AS gained,
           count(*) FILTER (WHERE before >= {PRESENT} AND after < {PRESENT}) AS lost
    FROM (
        SELECT facet.decode_probability({_LOGIT.format(scores="s.before", place="place_before")}, :t_before) AS before,
               facet.decode_probability({_LOGIT.format(scores="s.after", place="place_after")}, :t_after) AS after
        FROM scored AS s) AS p""")  # noqa: S608 - constants
_ANY = text("""
    SELECT count(*) FROM scored AS s
    WHERE EXISTS (
        SELECT FROM unnest(cast(:old AS integer[]), cast(:new AS integer[])) AS place (old, new)
        WHERE (facet.decode_logit(s.before, place.old) >= 0) <> (facet.decode_logit(s.after, place.new) >= 0))""")
_MAKE = text(f"""
    CREATE TEMPORARY TABLE scored ON COMMIT DROP AS
    SELECT coalesce(b.scores, {_OTHERS.format(row="b", head="head_before")}) AS before,
           coalesce(a.scores, {_OTHERS.format(row="a", head="head_after")}) AS after,
           gender, ethnicity, age_band, quality_band
    FROM face_pair AS p
    JOIN facet.prediction AS b ON b.face_id = p.before_id AND b.reading_id = :before
    JOIN facet.prediction AS a ON a.face_id = p.after_id AND a.reading_id = :after""")  # noqa: S608 - constants
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
class _Compared:
    """A head of attributes under both releases, whose scores are in the temporary table ``scored``."""

    divisors: dict[str, float]
    places: dict[str, tuple[int, int]]
    """Old and new place of the attributes that both know."""


def attribute_changes(session: Session, head: str, before: ReleaseIds, after: ReleaseIds) -> AttributeChanges | None:
    """Compare a head of attributes over the pairs of ``make_pairs``; None for a head of another kind."""
    compared = _compare(session, head, before, after)
    if compared is None:
        return None
    places = compared.places
    both = {"old": [place for place, _ in places.values()], "new": [place for _, place in places.values()]}
    found = [_change(session, label, *pair, compared.divisors) for label, pair in places.items()]
    return AttributeChanges(
        head=head,
        changed=int(session.execute(_ANY, both).scalar_one()),
        attributes=tuple(sorted(found, key=lambda one: -(one.gained + one.lost))),
    )


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
    return _Compared({"t_before": old.temperature, "t_after": new.temperature}, places)


def _change(session: Session, label: str, old: int, new: int, divisors: dict[str, float]) -> AttributeChange:
    row = session.execute(_CHANGES, {"place_before": old, "place_after": new} | divisors).one()
    shift = float(row.shift or 0)
    return AttributeChange(attribute=label, faces=row.faces, shift=shift, gained=row.gained, lost=row.lost)
