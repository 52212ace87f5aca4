"""Invariants of a database, whatever users and faults did to it; for ``chaos.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from db.schema.totals import find_differences
from worker.identity.corrections.anchors import read_corrections
from worker.identity.corrections.conflicts import find_violations
from worker.identity.corrections.name_assignment import assign_names, people_of
from worker.identity.corrections.replay import replay
from worker.ledger.releases import active_release

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker

EMPTY = {
    "jobs that do not add up": """
        SELECT job_id FROM facet.jobs WHERE submitted <> done + rejected + quarantined + cancelled + pending""",
    "jobs that wait though nothing is left to do": "SELECT job_id FROM facet.jobs WHERE pending > 0",
    "pending analyses without an open unit": """
        SELECT analysis_id FROM facet.analysis a WHERE state = 'pending' AND NOT EXISTS
        (SELECT FROM facet.unit u WHERE u.analysis_id = a.analysis_id AND u.state IN ('pending', 'leased'))""",
    "ended analyses with open units": """
        SELECT analysis_id FROM facet.analysis a WHERE state <> 'pending' AND EXISTS
        (SELECT FROM facet.unit u WHERE u.analysis_id = a.analysis_id AND u.state IN ('pending', 'leased'))""",
    "analyses that count other faces than they have": """
        SELECT analysis_id FROM facet.analysis a WHERE state = 'done' AND face_count <>
        (SELECT count(*) FROM facet.face f WHERE f.analysis_id = a.analysis_id)""",
    "units that count other faces than they have": """
        SELECT unit_id FROM facet.unit u WHERE state = 'done' AND stage <> 'reprocess' AND face_count <>
        (SELECT count(*) FROM facet.face f WHERE f.unit_id = u.unit_id)""",
    "kept faces without an appearance": """
        SELECT face_id FROM facet.face JOIN facet.analysis USING (analysis_id) JOIN facet.unit USING (unit_id)
        JOIN facet.release r USING (release_id)
        WHERE analysis.state = 'done' AND dropped_reason IS NULL AND NOT EXISTS
        (SELECT FROM facet.face_embedding e WHERE e.face_id = face.face_id AND e.trunk_id = r.trunk_id
         AND e.appearance_id IS NOT NULL)""",
    "appearances that count other faces than they have": """
        SELECT appearance_id FROM facet.appearance p WHERE face_count <>
        (SELECT count(*) FROM facet.face_embedding e WHERE e.appearance_id = p.appearance_id)""",
    "appearances whose best face is not theirs": """
        SELECT p.appearance_id FROM facet.appearance p LEFT JOIN facet.face_embedding e
        ON e.face_id = p.best_face_id AND e.trunk_id = p.trunk_id
        WHERE e.appearance_id IS DISTINCT FROM p.appearance_id""",
    "appearances with faces of another analysis or trunk": """
        SELECT face_id FROM facet.face f JOIN facet.face_embedding e USING (face_id)
        JOIN facet.appearance p USING (appearance_id)
        WHERE f.analysis_id <> p.analysis_id OR e.trunk_id <> p.trunk_id""",
    "faces whose finder is not that of their unit": """
        SELECT unit_id FROM facet.unit JOIN facet.analysis a USING (analysis_id) JOIN facet.release r USING (release_id)
        WHERE a.finder_id <> r.finder_id""",
    "current appearances without a person": """
        SELECT appearance_id FROM facet.appearance JOIN facet.analysis USING (analysis_id)
        WHERE is_current AND person_id IS NULL AND embedding IS NOT NULL""",
    "people who are missing in the gallery of an appearance's trunk": """
        SELECT appearance_id FROM facet.appearance a JOIN facet.analysis USING (analysis_id)
        WHERE is_current AND person_id IS NOT NULL AND embedding IS NOT NULL AND NOT EXISTS
        (SELECT FROM facet.person_embedding g WHERE g.person_id = a.person_id AND g.trunk_id = a.trunk_id)""",
    "files without a current analysis though one is done": """
        SELECT media_id FROM facet.analysis WHERE state = 'done' GROUP BY media_id, finder_id
        HAVING NOT bool_or(is_current)""",
    "superseded analyses that still count": """
        SELECT analysis_id FROM facet.analysis WHERE (state = 'done' AND NOT is_current AND NOT retired)
        OR (is_current AND retired)""",
    "erased files that are analysed": """
        SELECT analysis_id FROM facet.analysis JOIN facet.media_file USING (media_id)
        WHERE sealed_at IS NOT NULL AND state = 'pending'""",
    "kept faces without predictions": """
        SELECT face_id FROM facet.face JOIN facet.unit USING (unit_id) WHERE dropped_reason IS NULL AND NOT EXISTS
        (SELECT FROM facet.prediction p JOIN facet.release_reading o USING (reading_id)
         WHERE p.face_id = face.face_id AND o.release_id = unit.release_id)""",
    "kept faces that lack an answer of a release": """
        SELECT f.face_id, c.release_id, c.task FROM facet.face f JOIN facet.analysis a USING (analysis_id)
        JOIN facet.release r USING (finder_id) JOIN facet.release_reading c USING (release_id)
        WHERE a.is_current AND f.dropped_reason IS NULL AND r.retired_at IS NULL AND NOT EXISTS
        (SELECT FROM facet.prediction p WHERE p.face_id = f.face_id AND p.reading_id = c.reading_id)""",
    "predictions without scores under any reading of their head": """
        SELECT p.face_id, p.reading_id FROM facet.prediction p JOIN facet.layer l ON l.layer_id = p.reading_id
        WHERE NOT EXISTS (SELECT FROM facet.prediction o JOIN facet.layer k ON k.layer_id = o.reading_id
                          WHERE o.face_id = p.face_id AND k.parent_id = l.parent_id AND o.scores IS NOT NULL)""",
    "labels of a reading that its scores do not give": """
        SELECT p.face_id, c.release_id, p.label FROM facet.prediction p
        JOIN facet.release_reading c ON c.reading_id = p.reading_id AND c.task = 'gender'
        JOIN facet.layer l ON l.layer_id = c.reading_id JOIN facet.layer h ON h.layer_id = c.head_id
        CROSS JOIN LATERAL (
            SELECT facet.decode_probabilities(o.scores, 'softmax', (l.spec ->> 'temperature')::float8) AS shares
            FROM facet.prediction o JOIN facet.layer k ON k.layer_id = o.reading_id
            WHERE o.face_id = p.face_id AND k.parent_id = h.layer_id AND o.scores IS NOT NULL LIMIT 1) AS s
        CROSS JOIN LATERAL (SELECT max(x) AS top, h.labels[array_position(s.shares, max(x))] AS label
                            FROM unnest(s.shares) AS x) AS best
        WHERE abs(best.top - (l.spec ->> 'abstain')::float8) > 1e-3
          AND p.label <> CASE WHEN best.top < (l.spec ->> 'abstain')::float8 THEN 'unknown' ELSE best.label END""",
    "strips of crops that no face has a place in": """
        SELECT uri FROM facet.crop_strip c WHERE NOT EXISTS
        (SELECT FROM facet.face f WHERE f.unit_id = c.unit_id AND f.strip_no = c.strip_no)""",
    "faces whose strip of crops has no row": """
        SELECT face_id FROM facet.face f WHERE strip_no IS NOT NULL AND NOT EXISTS
        (SELECT FROM facet.crop_strip c WHERE c.unit_id = f.unit_id AND c.strip_no = f.strip_no)""",
    "faces that are there twice": """
        SELECT analysis_id FROM facet.face GROUP BY analysis_id, frame_index, face_no HAVING count(*) > 1""",
    "people who count other appearances than they have": """
        SELECT p.person_id FROM facet.people p JOIN (SELECT person_id, count(*) AS found FROM facet.appearances
        WHERE person_id IS NOT NULL GROUP BY person_id) a USING (person_id) WHERE a.found <> p.appearance_count""",
    "files that an erasure left": """
        SELECT path FROM facet.file_removal WHERE again_until IS NULL OR again_until < now()""",
}
"""Queries that must return no row, by the meaning of a row."""


def broken(sessions: sessionmaker[Session], crops: Path) -> list[str]:
    """Return the violated invariants, one line each.

    Args:
        sessions: of the database, with nobody at work.
        crops: folder of the crop store.
    """
    with sessions.begin() as session:
        found = [
            f"{len(rows)} {what}: {[tuple(row) for row in rows[:5]]}"
            for what, statement in EMPTY.items()
            if (rows := session.execute(text(statement)).all())
        ]
        found += _corrections(session, active_release(session)[0].trunk_id)
        found += _crops(session, crops) + _totals(session)
    return found


def _corrections(session: Session, trunk_id: int) -> list[str]:
    """Return the corrections that a trunk's appearances violate, and the misplaced names."""
    corrections = replay(read_corrections(session, trunk_id))
    person = people_of(session, corrections.appearance)
    wrong = find_violations(corrections, person).tolist()
    found = [f"appearances against a correction: {wrong[:5]}"] if wrong else []
    statement = text("SELECT person_id, name FROM facet.person WHERE name IS NOT NULL")
    names: dict[int, str] = {int(row.person_id): row.name for row in session.execute(statement)}
    astray = [
        (who, name, names.get(who)) for who, name in assign_names(corrections, person).items() if names.get(who) != name
    ]
    return found + ([f"names astray: {astray[:5]}"] if astray else [])


def _crops(session: Session, store: Path) -> list[str]:
    """Walk the whole crop store: no strip without a row, no row without its strip."""
    named = set(session.scalars(text("SELECT uri FROM facet.crop_strip")))
    there = {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}
    found = []
    if orphans := sorted(there - named):
        found.append(f"{len(orphans)} orphan strips of crops: {orphans[:5]}")
    if missing := sorted(named - there):
        found.append(f"{len(missing)} strips of crops that rows name and the store lacks: {missing[:5]}")
    return found


def _totals(session: Session) -> list[str]:
    """Compare the totals of people that are kept with a recount."""
    different = find_differences(session)
    return [f"totals of people that a recount does not give: {different[:5]}"] if different else []
