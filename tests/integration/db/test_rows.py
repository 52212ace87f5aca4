from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from db.bulk.rows import allocate_ids, copy_rows
from db.engine import make_engine, session_factory
from db.schema.tables import Analysis, Appearance, Face, MediaFile, Prediction, Release, SceneCut, Unit


@pytest.fixture
def session(clean_database):
    engine = make_engine(clean_database)
    with session_factory(engine)() as session:
        yield session
    engine.dispose()


@pytest.fixture
def unit(session):
    release = Release(fingerprint="f", name="first", weights_sha256="0" * 64, code_version="1")
    media = MediaFile(sha256="a" * 64, uri="/a.jpg", location="/a.jpg", kind="image")
    session.add_all([release, media])
    session.flush()
    unit = Unit(analysis=Analysis(media=media, release=release, sampling="2/s"))
    session.add(unit)
    session.flush()
    return unit


def face_row(unit, face_id, embedding=None, **changes):
    values = {
        "face_id": face_id,
        "analysis_id": unit.analysis_id,
        "unit_id": unit.unit_id,
        "media_id": unit.analysis.media_id,
        "release_id": unit.analysis.release_id,
        "frame_index": face_id,
        "x1": 1.5,
        "y1": 2.5,
        "x2": 3.5,
        "y2": 4.5,
        "landmarks": [float(part) for part in range(10)],
        "detection_score": 0.75,
        "quality": 0.5,
        "appearance_id": None,
        "embedding": embedding,
    }
    return values | changes


def copy_faces(session, *rows):
    return copy_rows(session, "face", list(rows[0]), [list(row.values()) for row in rows])


def test_ids_are_taken_once(session):
    first, second = allocate_ids(session, "face", 3), allocate_ids(session, "face", 2)
    session.rollback()
    third = allocate_ids(session, "face", 1)
    assert first + second + third == [1, 2, 3, 4, 5, 6]
    assert allocate_ids(session, "face", 0) == []


def test_values_come_back(session, unit):
    embedding = np.arange(128, dtype=np.float32) / 7
    assert copy_faces(session, face_row(unit, 11, embedding), face_row(unit, 12)) == 2
    columns = ("face_id", "head", "release_id", "label", "value", "confidence", "probabilities", "attributes")
    release_id = unit.analysis.release_id
    copy_rows(
        session,
        "prediction",
        columns,
        [
            (11, "gender", release_id, "female", None, 0.75, [0.75, 0.25], None),
            (11, "attributes", release_id, None, None, None, None, '{"smile": 0.5}'),
            (11, "age", release_id, None, 33.5, None, None, {"as": "dict"}),
        ],
    )
    copy_rows(session, "scene_cut", ("analysis_id", "unit_id", "at_seconds"), [(unit.analysis_id, unit.unit_id, 0.1)])
    face = session.get(Face, 11)
    assert (face.x1, face.y1, face.x2, face.y2) == (1.5, 2.5, 3.5, 4.5)
    assert face.landmarks == list(range(10))
    np.testing.assert_array_equal(np.asarray(face.embedding, np.float32), embedding)
    assert session.get(Face, 12).embedding is None
    assert session.get(Prediction, (11, "gender")).probabilities == [0.75, 0.25]
    assert session.get(Prediction, (11, "attributes")).attributes == {"smile": 0.5}
    assert session.get(Prediction, (11, "age")).attributes == {"as": "dict"}
    assert session.scalars(select(SceneCut.at_seconds)).all() == [0.1]


def test_copying_vectors_does_not_change_how_the_connection_reads_them(session, unit):
    copy_faces(session, face_row(unit, 11, np.zeros(128, np.float32)))
    assert isinstance(session.scalar(text("SELECT embedding FROM face")), str)


def test_faces_and_appearances_may_come_in_either_order(session, unit):
    copy_faces(session, face_row(unit, 11, appearance_id=21))
    owner = (unit.analysis_id, unit.analysis.media_id, unit.analysis.release_id)
    columns = ("appearance_id", "analysis_id", "media_id", "release_id", "start_seconds", "end_seconds", "face_count")
    copy_rows(session, "appearance", (*columns, "best_face_id", "quality"), [(21, *owner, 0.0, 0.0, 1, 11, 0.5)])
    session.commit()
    assert session.get(Appearance, 21).best_face_id == 11


def test_no_row_is_fine(session):
    assert copy_rows(session, "person", ("person_id", "release_id"), []) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"detection_score": float("nan")},
        {"quality": 1.5},
        {"landmarks": [0.0] * 9},
        {"x1": 9.0},
        {"release_id": 999},
        {"media_id": 999},
    ],
)
def test_impossible_rows_are_refused_like_any_statement(session, unit, changes):
    with pytest.raises(IntegrityError):
        copy_faces(session, face_row(unit, 11, **changes))
    session.rollback()


def test_deleting_a_file_deletes_all_that_was_found_in_it(session, unit):
    copy_faces(session, face_row(unit, 11))
    session.execute(text("DELETE FROM media_file"))
    for table in ("analysis", "unit", "face"):
        assert session.scalar(text(f"SELECT count(*) FROM {table}")) == 0
