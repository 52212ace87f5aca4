"""The targets of an erasure, as temporary tables: files, analyses, appearances, faces, and the people concerned.

Rows are locked in the order of ``worker.ledger.locks`` and without waiting, because workers hold theirs while they copy
faces: an erasure rolls back and tries again.

PostgreSQL has no statistics of a temporary table until it is analysed, and would read all faces and all people to join
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.identity.corrections.anchors import MAX_SECONDS_OFF, MIN_OVERLAP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

# Each is a temporary table ``target_X`` with the ids of rows that go. ``sealed`` are files that lose a person;
# ``person`` and ``correction`` are those some of whose appearances and anchors go.
TABLES = ("media", "sealed", "analysis", "appearance", "face", "correction", "person")

_FILES = "(SELECT id FROM target_media UNION SELECT id FROM target_sealed)"
_LOCKS = (
    f"SELECT FROM media_file WHERE media_id IN {_FILES} ORDER BY media_id FOR UPDATE NOWAIT",
    f"SELECT FROM analysis WHERE media_id IN {_FILES} ORDER BY analysis_id FOR UPDATE NOWAIT",
    f"""SELECT FROM unit WHERE analysis_id IN (SELECT analysis_id FROM analysis WHERE media_id IN {_FILES})
        ORDER BY unit_id FOR UPDATE NOWAIT""",  # noqa: S608 - constants
)


def _same_place(one: str, other: str, or_frame: str = "false") -> str:
    """Return the SQL condition that two rows with a file, a time and a box are one face, by the limits of anchors.

    Args:
        one: alias of a row.
        other: alias of another row.
        or_frame: condition that both are of one frame, whatever their times.
    """
    width = f"greatest(0, least({one}.x2, {other}.x2) - greatest({one}.x1, {other}.x1))"
    height = f"greatest(0, least({one}.y2, {other}.y2) - greatest({one}.y1, {other}.y1))"
    areas = " + ".join(f"({box}.x2 - {box}.x1) * ({box}.y2 - {box}.y1)" for box in (one, other))
    return f"""{one}.media_id = {other}.media_id
        AND ({one}.at_seconds BETWEEN {other}.at_seconds - {MAX_SECONDS_OFF} AND {other}.at_seconds + {MAX_SECONDS_OFF}
             OR {or_frame})
        AND {width} * {height} >= {MIN_OVERLAP} * ({areas} - {width} * {height})"""


# An earlier version counted the time of a video from its first frame where the sound begins earlier.
_ONE_FRAME = "d.frame_index = f.frame_index"

_OF_MEDIA = (
    "INSERT INTO target_analysis SELECT analysis_id FROM analysis JOIN target_media ON id = media_id",
    "ANALYZE target_analysis",
    "INSERT INTO target_appearance SELECT appearance_id FROM appearance JOIN target_analysis ON id = analysis_id",
    "INSERT INTO target_face SELECT face_id FROM face JOIN target_analysis ON id = analysis_id",
    "ANALYZE target_appearance",
    "ANALYZE target_face",
)

# A pending analysis would store the person again, so it ends. The faces of a cancelled one have no person yet, so all
# of them go.
_OF_SEALED = (
    """INSERT INTO target_analysis
       SELECT analysis_id FROM analysis JOIN target_sealed ON id = media_id
       WHERE state IN ('pending', 'cancelled')""",
    "ANALYZE target_analysis",
    "INSERT INTO target_face SELECT face_id FROM face JOIN target_appearance ON id = appearance_id",
    "INSERT INTO target_face SELECT face_id FROM face JOIN target_analysis ON id = analysis_id ON CONFLICT DO NOTHING",
    "ANALYZE target_face",
)

# The same faces under other releases and in superseded analyses are found by place and time. In the current analysis
# identification decided who is who, so no other appearance is taken there. An appearance goes when most of its faces
# lie at such places: a passer-by who crosses the person for a moment stays.
_AT_PLACES = f"""
    INSERT INTO place_match SELECT f.face_id, f.appearance_id
    FROM face f JOIN analysis a USING (analysis_id)
    WHERE f.media_id IN (SELECT id FROM target_sealed) AND a.state NOT IN ('pending', 'cancelled')
      AND NOT (a.is_current AND a.release_id = :release_id)
      AND EXISTS (SELECT FROM face d JOIN target_face ON id = d.face_id
                  WHERE d.analysis_id <> f.analysis_id AND {_same_place("d", "f", _ONE_FRAME)})"""  # noqa: S608 - constants
_MATCHED = (
    """INSERT INTO target_appearance
       SELECT appearance_id FROM place_match WHERE appearance_id IS NOT NULL GROUP BY appearance_id
       HAVING 2 * count(*) > (SELECT s.face_count FROM appearance s WHERE s.appearance_id = place_match.appearance_id)
       ON CONFLICT DO NOTHING""",
    """INSERT INTO target_face
       SELECT face_id FROM face JOIN target_appearance ON id = appearance_id ON CONFLICT DO NOTHING""",
    "INSERT INTO target_face SELECT face_id FROM place_match WHERE appearance_id IS NULL ON CONFLICT DO NOTHING",
    "DROP TABLE place_match",
    "ANALYZE target_appearance",
    "ANALYZE target_face",
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
          AND EXISTS (SELECT FROM face d JOIN target_face ON id = d.face_id
                      WHERE {_same_place("d", "k")})"""  # noqa: S608 - constants
_CONCERNED = (
    "INSERT INTO target_correction SELECT DISTINCT correction_id FROM target_anchor",
    """INSERT INTO target_person SELECT DISTINCT person_id FROM appearance JOIN target_appearance ON id = appearance_id
       WHERE person_id IS NOT NULL""",
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
    _run(session, _ANCHORS, *_CONCERNED)


def select_person(session: Session, person_id: int) -> None:
    """Select a person's appearances and faces, and the same faces in every other analysis of the same files.

    Raises:
        sqlalchemy.exc.OperationalError: as `select_media`.
    """
    _clear(session)
    person = {"id": person_id}
    session.execute(
        text("INSERT INTO target_appearance SELECT appearance_id FROM appearance WHERE person_id = :id"), person
    )
    session.execute(
        text("INSERT INTO target_sealed SELECT DISTINCT media_id FROM appearance WHERE person_id = :id"), person
    )
    _run(session, "ANALYZE target_appearance", "ANALYZE target_media", "ANALYZE target_sealed", *_LOCKS, *_OF_SEALED)
    release = session.execute(text("SELECT release_id FROM person WHERE person_id = :id"), person).scalar_one()
    _run(session, "CREATE TEMPORARY TABLE place_match (face_id bigint, appearance_id bigint) ON COMMIT DROP")
    session.execute(text(_AT_PLACES), {"release_id": release})
    _run(session, *_MATCHED)
    _run(session, _ANCHORS, *_CONCERNED)


def _clear(session: Session) -> None:
    for name in TABLES:
        create = f"CREATE TEMPORARY TABLE IF NOT EXISTS target_{name} (id bigint PRIMARY KEY) ON COMMIT DELETE ROWS"
        _run(session, create, f"DELETE FROM target_{name}")  # noqa: S608 - constant names
    _run(session, "DROP TABLE IF EXISTS target_anchor")


def _run(session: Session, *statements: str) -> None:
    for statement in statements:
        session.execute(text(statement))
