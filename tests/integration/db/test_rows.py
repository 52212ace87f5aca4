from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from db.bulk.rows import allocate_ids, copy_rows
from db.engine import make_engine, session_factory
from db.schema.tables import (
    Analysis,
    Appearance,
    Face,
    FaceEmbedding,
    Layer,
    MediaFile,
    PersonEmbedding,
    Prediction,
    Release,
    SceneCut,
    Unit,
)  # fmt: skip

FINDER, TRUNK, HEAD, READING = 1, 2, 3, 4


@pytest.fixture
def session(clean_database):
    engine = make_engine(clean_database)
    with session_factory(engine)() as session:
        yield session
    engine.dispose()


@pytest.fixture
def unit(session):
    for number, kind, facts in (
        (FINDER, "finder", {}),
        (TRUNK, "trunk", {}),
        (HEAD, "head", {"task": "gender", "labels": ["female", "male"]}),
        (READING, "reading", {"task": "gender"}),
    ):
        parent = number - 1 or None
        session.add(Layer(layer_id=number, parent_id=parent, kind=kind, fingerprint=kind, **facts))
        session.flush()
    makers = {"finder_id": FINDER, "trunk_id": TRUNK}
    release = Release(fingerprint="f", name="first", weights_sha256="0" * 64, code_version="1", **makers)
    media = MediaFile(sha256="a" * 64, uri="/a.jpg", location="/a.jpg", kind="image")
    session.add_all([release, media])
    session.flush()
    unit = Unit(analysis=Analysis(media=media, finder_id=FINDER, sampling="2/s"), release_id=release.release_id)
    session.add(unit)
    session.flush()
    return unit


def face_row(unit, face_id, **changes):
    values = {
        "face_id": face_id,
        "analysis_id": unit.analysis_id,
        "unit_id": unit.unit_id,
        "frame_index": face_id,
        "x1": 1.5,
        "y1": 2.5,
        "x2": 3.5,
        "y2": 4.5,
        "landmarks": bytes(range(20)),
        "detection_score": 0.75,
        "quality": 0.5,
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
    embedding = np.linspace(-1, 1, 128, dtype=np.float32)
    assert copy_faces(session, face_row(unit, 11), face_row(unit, 12)) == 2
    copy_rows(session, "face_embedding", ("face_id", "trunk_id", "embedding"), [(11, TRUNK, embedding)])
    columns = ("face_id", "reading_id", "label", "value", "confidence", "scores")
    copy_rows(
        session,
        "prediction",
        columns,
        [(11, READING, "female", None, 0.75, b"\x01\x02\x03\x04"), (12, READING, None, 33.5, None, None)],
    )
    copy_rows(session, "scene_cut", ("analysis_id", "unit_id", "at_seconds"), [(unit.analysis_id, unit.unit_id, 0.1)])
    face = session.get(Face, 11)
    assert (face.x1, face.y1, face.x2, face.y2) == (1.5, 2.5, 3.5, 4.5)
    assert face.landmarks == bytes(range(20))
    found = session.get(FaceEmbedding, (11, TRUNK)).embedding
    np.testing.assert_array_equal(np.asarray(found, np.float16), embedding.astype(np.float16))
    assert session.get(Prediction, (11, READING)).scores == b"\x01\x02\x03\x04"
    assert session.get(Prediction, (12, READING)).scores is None
    assert session.scalars(select(SceneCut.at_seconds)).all() == [0.1]


def test_vectors_of_both_widths_and_json_come_back(session, unit):
    session.execute(text("INSERT INTO person (person_id) VALUES (1)"))
    embedding = np.arange(128, dtype=np.float32) / 7
    copy_rows(session, "person_embedding", ("person_id", "trunk_id", "embedding_sum"), [(1, TRUNK, embedding)])
    found = session.get(PersonEmbedding, (1, TRUNK)).embedding_sum
    np.testing.assert_array_equal(np.asarray(found, np.float32), embedding)
    analysis = unit.analysis
    columns = ("appearance_id", "analysis_id", "media_id", "trunk_id", "start_seconds", "end_seconds", "face_count")
    owner = (analysis.analysis_id, analysis.media_id, TRUNK)
    copy_rows(session, "appearance", (*columns, "quality", "embedding"), [(21, *owner, 0.0, 1.0, 2, 0.5, embedding)])
    copy_rows(
        session,
        "appearance_prediction",
        ("appearance_id", "reading_id", "shares"),
        [(21, READING, {"as": "dict"})],
    )
    assert session.scalar(text("SELECT shares ->> 'as' FROM appearance_prediction")) == "dict"
    copy_rows(session, "appearance_prediction", ("appearance_id", "reading_id", "shares"), [(21, HEAD, '{"a": 1}')])
    assert session.scalar(text("SELECT (shares ->> 'a')::int FROM appearance_prediction WHERE reading_id = 3")) == 1
    assert session.get(Appearance, 21).embedding[7] == 1.0


def test_copying_vectors_does_not_change_how_the_connection_reads_them(session, unit):
    copy_faces(session, face_row(unit, 11))
    copy_rows(session, "face_embedding", ("face_id", "trunk_id", "embedding"), [(11, TRUNK, np.zeros(128, np.float32))])
    assert isinstance(session.scalar(text("SELECT embedding FROM face_embedding")), str)


def test_faces_and_appearances_may_come_in_either_order(session, unit):
    copy_faces(session, face_row(unit, 11))
    copy_rows(session, "face_embedding", ("face_id", "trunk_id", "appearance_id"), [(11, TRUNK, 21)])
    owner = (unit.analysis_id, unit.analysis.media_id, TRUNK)
    columns = ("appearance_id", "analysis_id", "media_id", "trunk_id", "start_seconds", "end_seconds", "face_count")
    copy_rows(session, "appearance", (*columns, "best_face_id", "quality"), [(21, *owner, 0.0, 0.0, 1, 11, 0.5)])
    session.commit()
    assert session.get(Appearance, 21).best_face_id == 11


def test_no_row_is_fine(session):
    assert copy_rows(session, "person", ("person_id", "name"), []) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"detection_score": float("nan")},
        {"quality": 1.5},
        {"landmarks": bytes(18)},
        {"x1": 9.0},
        {"analysis_id": 999},
        {"strip_no": 1},
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
