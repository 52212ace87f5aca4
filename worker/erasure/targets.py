"""The targets of an erasure, as temporary tables: files, analyses, appearances, faces, and the people concerned.

Rows are locked in the order of ``worker.ledger.locks`` and without waiting, because workers hold theirs while they copy
faces: an erasure rolls back and tries again.

PostgreSQL has no statistics of a temporary table until it is analysed, and would read all faces and all people to join
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.identity.corrections.anchors import MAX_SECONDS_OFF, MIN_ANCHOR_OVERLAP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

# Each is a temporary table ``target_X`` with the ids of rows that go. ``sealed`` are files that lose a person;
# ``person`` and ``correction`` are those some of whose appearances and anchors go, ``shrunk`` appearances that stay
# without some of their faces.
TABLES = ("media", "sealed", "analysis", "appearance", "face", "shrunk", "correction", "person")

_FILES = "(SELECT id FROM target_media UNION SELECT id FROM target_sealed)"
_LOCKS = (
    f"SELECT FROM media_file WHERE media_id IN {_FILES} ORDER BY media_id FOR UPDATE NOWAIT",
    f"SELECT FROM analysis WHERE media_id IN {_FILES} ORDER BY analysis_id FOR UPDATE NOWAIT",
    f"""SELECT FROM unit WHERE analysis_id IN (SELECT analysis_id FROM analysis WHERE media_id IN {_FILES})
        ORDER BY unit_id FOR UPDATE NOWAIT""",  # noqa: S608 - constants
)


def _same_place(other: str, or_frame: str = "false") -> str:
    """Return the SQL condition that a row ``d`` of ``target_place`` and another row are one face, as for anchors.

    Args:
        other: alias of a row with a file, a time and a box.
        or_frame: condition that both are of one frame, whatever their times.
    """
    width = f"greatest(0, least(d.x2, {other}.x2) - greatest(d.x1, {other}.x1))"
    height = f"greatest(0, least(d.y2, {other}.y2) - greatest(d.y1, {other}.y1))"
    areas = " + ".join(f"({box}.x2 - {box}.x1) * ({box}.y2 - {box}.y1)" for box in ("d", other))
    return f"""d.media_id = {other}.media_id
        AND (d.at_seconds BETWEEN {other}.at_seconds - {MAX_SECONDS_OFF} AND {other}.at_seconds + {MAX_SECONDS_OFF}
             OR {or_frame})
        AND {width} * {height} >= {MIN_ANCHOR_OVERLAP} * ({areas} - {width} * {height})"""


# An earlier version counted the time of a video from its first frame where the sound begins earlier.
_ONE_FRAME = "d.frame_index = f.frame_index"

# The places of the faces that go.
_PLACES = (
    "DROP TABLE IF EXISTS target_place",
    """CREATE TEMPORARY TABLE target_place ON COMMIT DROP AS
       SELECT a.media_id, f.analysis_id, f.frame_index, f.at_seconds, f.x1, f.y1, f.x2, f.y2
       FROM target_face JOIN face f ON f.face_id = id JOIN analysis a USING (analysis_id)""",
    "ANALYZE target_place",
)

_OF_MEDIA = (
    "INSERT INTO target_analysis SELECT analysis_id FROM analysis JOIN target_media ON id = media_id",
    "ANALYZE target_analysis",
    "INSERT INTO target_appearance SELECT appearance_id FROM appearance JOIN target_analysis ON id = analysis_id",
    "INSERT INTO target_face SELECT face_id FROM face JOIN target_analysis ON id = analysis_id",
    "ANALYZE target_appearance",
    "ANALYZE target_face",
)

# One trunk decides whose a face is, that of the views. What others take for the person goes as well, but not the faces
# that the deciding trunk gives to another person.
_KEPT_BY_OTHERS = """
    CREATE TEMPORARY TABLE face_of_others ON COMMIT DROP AS
    SELECT e.face_id FROM analysis a JOIN target_sealed ON id = a.media_id
    JOIN appearance s ON s.analysis_id = a.analysis_id AND s.trunk_id = :trunk_id
    JOIN face_embedding e ON e.appearance_id = s.appearance_id
    WHERE a.is_current AND s.person_id <> :id"""
_OF_PERSON = (
    """INSERT INTO target_face
       SELECT DISTINCT face_id FROM face_embedding JOIN target_appearance ON id = appearance_id
       WHERE face_id NOT IN (SELECT face_id FROM face_of_others)""",
    """DELETE FROM target_sealed WHERE id NOT IN (
           SELECT a.media_id FROM target_face t JOIN face f ON f.face_id = t.id JOIN analysis a USING (analysis_id))""",
    # A pending analysis would store the person again, so it ends. The faces of a cancelled one have no person yet, so
    # all of them go.
    """INSERT INTO target_analysis
       SELECT analysis_id FROM analysis JOIN target_sealed ON id = media_id
       WHERE state IN ('pending', 'cancelled')""",
    "ANALYZE target_analysis",
    "INSERT INTO target_face SELECT face_id FROM face JOIN target_analysis ON id = analysis_id ON CONFLICT DO NOTHING",
    """INSERT INTO target_appearance
       SELECT appearance_id FROM appearance JOIN target_analysis ON id = analysis_id ON CONFLICT DO NOTHING""",
    "ANALYZE target_face",
)

# The same faces of other finders and in superseded analyses are found by place and time. In the current analysis of the
# deciding trunk identification decided who is who, so no other face is taken there.
_AT_PLACES = f"""
    CREATE TEMPORARY TABLE place_match ON COMMIT DROP AS
    SELECT f.face_id
    FROM (SELECT f.*, a.media_id FROM face f JOIN analysis a USING (analysis_id)
          WHERE a.media_id IN (SELECT id FROM target_sealed) AND a.state NOT IN ('pending', 'cancelled')
            AND NOT (a.is_current AND a.finder_id = (SELECT parent_id FROM layer WHERE layer_id = :trunk_id))) f
    WHERE EXISTS (SELECT FROM target_place d WHERE d.analysis_id <> f.analysis_id AND {_same_place("f", _ONE_FRAME)})
    UNION SELECT id FROM target_face"""  # noqa: S608 - constants
# An appearance goes when most of its faces lie at such places, or all that were kept: a passer-by who crosses the
# person for a moment stays.
_MATCHED = (
    "ANALYZE place_match",
    """INSERT INTO target_appearance
       SELECT e.appearance_id FROM face_embedding e LEFT JOIN place_match m USING (face_id)
       WHERE e.appearance_id IN (SELECT appearance_id FROM face_embedding JOIN place_match USING (face_id))
         AND e.appearance_id NOT IN (SELECT appearance_id FROM face_embedding JOIN face_of_others USING (face_id)
                                     WHERE trunk_id = :trunk_id AND appearance_id IS NOT NULL)
       GROUP BY e.appearance_id
       HAVING 2 * count(m.face_id) > count(*)
           OR count(*) FILTER (WHERE m.face_id IS NOT NULL AND e.embedding IS NOT NULL) = count(e.embedding)
       ON CONFLICT DO NOTHING""",
    "ANALYZE target_appearance",
    """INSERT INTO target_face
       SELECT DISTINCT face_id FROM face_embedding JOIN target_appearance ON id = appearance_id
       WHERE face_id NOT IN (SELECT face_id FROM face_of_others) ON CONFLICT DO NOTHING""",
    """INSERT INTO target_face
       SELECT face_id FROM place_match m
       WHERE NOT EXISTS (SELECT FROM face_embedding e WHERE e.face_id = m.face_id AND e.appearance_id IS NOT NULL)
       ON CONFLICT DO NOTHING""",
    # Imported results without boxes name times alone: those that meet a time of the person go.
    """INSERT INTO target_appearance
       SELECT s.appearance_id FROM appearance s JOIN target_sealed ON id = s.media_id
       WHERE s.best_face_id IS NULL AND s.embedding IS NULL
         AND NOT EXISTS (SELECT FROM face_embedding e WHERE e.appearance_id = s.appearance_id)
         AND EXISTS (SELECT FROM appearance p JOIN target_appearance t ON t.id = p.appearance_id
                     WHERE p.media_id = s.media_id AND p.start_seconds <= s.end_seconds
                       AND s.start_seconds <= p.end_seconds)
       ON CONFLICT DO NOTHING""",
    "DROP TABLE place_match",
    "DROP TABLE face_of_others",
    "ANALYZE target_face",
    """INSERT INTO target_shrunk
       SELECT DISTINCT appearance_id FROM face_embedding JOIN target_face ON id = face_id
       WHERE appearance_id IS NOT NULL AND appearance_id NOT IN (SELECT id FROM target_appearance)""",
)

# An anchor belongs to the person of its appearance; if that appearance is no longer stored, to the person of the face
# that is found there now.
_ANCHORS = f"""
    CREATE TEMPORARY TABLE target_anchor ON COMMIT DROP AS
    SELECT k.correction_id, k.anchor_no, k.from_person_id, k.to_person_id FROM correction_anchor k
    WHERE k.media_id IN (SELECT id FROM target_media)
       OR k.appearance_id IN (SELECT id FROM target_appearance)
       OR k.media_id IN (SELECT id FROM target_sealed)
          AND NOT EXISTS (SELECT FROM appearance s WHERE s.appearance_id = k.appearance_id)
          AND EXISTS (SELECT FROM target_place d WHERE {_same_place("k")})"""  # noqa: S608 - constants
_CONCERNED = (
    "INSERT INTO target_correction SELECT DISTINCT correction_id FROM target_anchor",
    """INSERT INTO target_person
       SELECT DISTINCT person_id FROM appearance
       WHERE appearance_id IN (SELECT id FROM target_appearance UNION SELECT id FROM target_shrunk)
         AND person_id IS NOT NULL""",
    "ANALYZE target_correction",
    "ANALYZE target_person",
)


def select_media(session: Session, media_ids: Sequence[int]) -> None:
    """Select files with everything that was ever found in them.

    Raises:
        sqlalchemy.exc.OperationalError: ``55P03``, a worker holds one of their rows; roll back and try again.
    """
    _clear(session)
    session.execute(text("INSERT INTO target_media SELECT unnest(cast(:ids AS bigint[]))"), {"ids": list(media_ids)})
    _run(session, "ANALYZE target_media", "ANALYZE target_sealed", *_LOCKS, *_OF_MEDIA)
    _run(session, *_PLACES, _ANCHORS, *_CONCERNED)


def select_person(session: Session, person_id: int, trunk_id: int) -> None:
    """Select a person's appearances and faces, and the same faces in every other analysis of the same files.

    Args:
        session: an open session.
        person_id: the person.
        trunk_id: the trunk that decides whose a face is.

    Raises:
        sqlalchemy.exc.OperationalError: as `select_media`.
    """
    _clear(session)
    person = {"id": person_id, "trunk_id": trunk_id}
    own = (
        "INSERT INTO target_appearance SELECT appearance_id FROM appearance WHERE person_id = :id",
        "INSERT INTO target_sealed SELECT DISTINCT media_id FROM appearance WHERE person_id = :id",
    )
    _run(session, *own, **person)
    _run(session, "ANALYZE target_appearance", "ANALYZE target_media", "ANALYZE target_sealed", *_LOCKS)
    for statements in ((_KEPT_BY_OTHERS, *_OF_PERSON), (*_PLACES, _AT_PLACES, *_MATCHED), (*_PLACES, _ANCHORS)):
        _run(session, *statements, **person)
    _run(session, *_CONCERNED)


def _clear(session: Session) -> None:
    for name in TABLES:
        create = f"CREATE TEMPORARY TABLE IF NOT EXISTS target_{name} (id bigint PRIMARY KEY) ON COMMIT DELETE ROWS"
        _run(session, create, f"DELETE FROM target_{name}")  # noqa: S608 - constant names
    _run(session, "DROP TABLE IF EXISTS target_anchor")


def _run(session: Session, *statements: str, **parameters: int) -> None:
    for statement in statements:
        clause = text(statement)
        session.execute(clause, {name: parameters[name] for name in clause.compile().params})
