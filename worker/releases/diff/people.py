"""Changes of people and corrections under the trunk of another release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.identity.corrections.anchors import read_corrections

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.ledger.releases import ReleaseIds

# Of each pair of faces, the person under both trunks. A person that took a single face in hundreds of another one is
# no split: a part counts from two faces and a twentieth on.
_PEOPLE = text("""
    WITH seen AS (
        SELECT old.person_id AS before, new.person_id AS after, count(*) AS faces
        FROM face_pair AS p
        JOIN facet.face_embedding AS eo ON eo.face_id = p.before_id AND eo.trunk_id = :before
        JOIN facet.appearance AS old ON old.appearance_id = eo.appearance_id AND old.person_id IS NOT NULL
        LEFT JOIN facet.face_embedding AS en ON en.face_id = p.after_id AND en.trunk_id = :after
        LEFT JOIN facet.appearance AS new ON new.appearance_id = en.appearance_id
        GROUP BY old.person_id, new.person_id),
    part AS (
        SELECT *, sum(faces) OVER (PARTITION BY before) AS of_before, sum(faces) OVER (PARTITION BY after) AS of_after
        FROM seen WHERE after IS NOT NULL),
    counted AS (SELECT * FROM part WHERE faces = of_before OR faces >= greatest(2, of_before / 20.0)),
    fate AS (
        SELECT before, count(*) AS parts, (array_agg(after ORDER BY faces DESC, after))[1] AS main FROM counted
        GROUP BY before),
    crowd AS (SELECT after, count(*) AS sources FROM counted GROUP BY after)
    SELECT count(*) AS people, count(*) FILTER (WHERE f.main = s.before AND f.parts = 1 AND c.sources = 1) AS kept,
           count(*) FILTER (WHERE f.parts > 1) AS split, count(*) FILTER (WHERE c.sources > 1) AS joined,
           count(*) FILTER (WHERE f.main IS NULL) AS waiting,
           count(*) FILTER (WHERE p.name IS NOT NULL AND f.main IS NOT NULL AND q.name IS DISTINCT FROM p.name)
               AS renamed
    FROM (SELECT DISTINCT before FROM seen) AS s
    LEFT JOIN fate AS f USING (before)
    LEFT JOIN crowd AS c ON c.after = f.main
    LEFT JOIN facet.person AS p ON p.person_id = s.before
    LEFT JOIN facet.person AS q ON q.person_id = f.main""")
_ASSIGNED = text("SELECT count(DISTINCT person_id) FROM facet.appearance WHERE trunk_id = :trunk_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleChanges:
    """People of the old release, by what becomes of them. One that is split and joined counts in both."""

    people: int
    kept: int
    """All of their faces stay together under their number, without faces of others."""
    split: int
    """Their faces go to several people."""
    joined: int
    """Their faces go to a person who gets those of others, too."""
    renamed: int
    """Named people whose faces go mostly to a person without that name."""
    waiting: int
    """None of their faces has a person yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionChanges:
    """Corrections that hold, by whether the new release finds their places."""

    found: int
    waiting: tuple[int, ...]
    """Numbers of those that hold under the old release and whose subject the new one does not find: they would do
    nothing after a switch, until their files are analysed."""


def people_changes(session: Session, before: ReleaseIds, after: ReleaseIds) -> PeopleChanges:
    """Compare people over the pairs of ``make_pairs``; releases with one trunk have the same people."""
    if before.trunk_id == after.trunk_id:
        people = int(session.execute(_ASSIGNED, {"trunk_id": before.trunk_id}).scalar_one())
        return PeopleChanges(people=people, kept=people, split=0, joined=0, renamed=0, waiting=0)
    found = session.execute(_PEOPLE, {"before": before.trunk_id, "after": after.trunk_id}).one()
    return PeopleChanges(**found._mapping)  # noqa: SLF001 - the documented way to read a Row by name


def correction_changes(session: Session, before: ReleaseIds, after: ReleaseIds) -> CorrectionChanges:
    """Look for the places of all corrections that hold, under both releases."""
    holding = {one.correction_id for one in read_corrections(session, before.trunk_id) if len(one.subject)}
    if before.trunk_id == after.trunk_id:
        return CorrectionChanges(found=len(holding), waiting=())
    found = {one.correction_id for one in read_corrections(session, after.trunk_id) if len(one.subject)}
    return CorrectionChanges(found=len(holding & found), waiting=tuple(sorted(holding - found)))
