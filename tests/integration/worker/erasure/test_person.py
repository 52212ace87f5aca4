"""Erased people: the others in their files stay."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import ProgrammingError

from db.schema import search_index as nearest
from worker.erasure.erase import Eraser
from worker.identity import correct
from worker.identity.corrections.anchors import ERASED
from worker.identity.search.likeness import SFACE
from worker.identity.search.searcher import Probe, Searcher


def test_a_person_goes_and_the_others_of_the_files_stay(house, eraser, people, crop_size):
    session = house.session
    correct.name_people(session, [correct.NewName(people[0], "Ada", "the caption says Ada")])
    correct.merge_people(session, [people[1], people[0]], reason="Ada again")
    correct.undo_correction(session, reason="Ada is not Bo")
    session.commit()
    together = sorted(house.crowd.files)[-2]
    files = {media for (media, _), who in house.crowd.who().items() if who == people[0]}
    doomed = {
        "person": {people[0]},
        "appearance": set(house.crowd.ids(people[0])),
        "face": set(
            session.scalars(
                text("SELECT face_id FROM face_embedding JOIN appearance USING (appearance_id) WHERE person_id = :p"),
                {"p": people[0]},
            )
        ),
    }
    named = (
        "UPDATE media_file SET title = 'Ada', tags = jsonb_build_object('creator', 'Ada') WHERE media_id = ANY(:files)"
    )
    session.execute(text(named), {"files": list(files)})
    before, strips = house.everything(), house.strips()
    session.commit()

    receipt = eraser.erase_person(people[0])

    after = house.everything()
    assert house.mentions(doomed) == []
    assert not any("Ada" in row for rows in after.values() for row in rows)
    for table in ("face", "face_embedding", "appearance", "appearance_prediction", "prediction", "person", "crop_strip",
                  "scene_cut", "job_item"):  # fmt: skip
        assert after[table] <= before[table], table
    gone = {table: len(before[table]) - len(after[table]) for table in before if len(before[table]) > len(after[table])}
    assert receipt.rows == gone
    assert {file.media_id for file in receipt.sealed} == files
    assert (receipt.media, receipt.people) == ((), (people[0],))
    # The photo of three keeps the crops of two, pixel by pixel; the strips of images without other people are gone.
    (blanked,) = receipt.files.blanked
    expected = house.pixels(together, 3)
    expected[0] = 0
    assert np.array_equal(house.stores.crops.read(blanked.path, crop_size), expected)
    assert house.strips() == strips - set(receipt.files.crops)
    assert len(receipt.files.crops) == 3
    counts = """SELECT bool_and(face_count = (SELECT count(*) FROM face f WHERE f.analysis_id = a.analysis_id))
                FROM analysis a"""
    assert session.execute(text(counts)).scalar_one()
    assert house.job()["done"] == 11


@pytest.mark.parametrize("indexed", [False, True])
def test_no_search_finds_an_erased_person(house, eraser, people, clean_database, indexed):
    session = house.session
    trunk = json.dumps({"files": {"trunk.safetensors": SFACE.trunk_sha256}, "branches": []})
    session.execute(text("UPDATE release SET manifest = cast(:manifest AS jsonb)"), {"manifest": trunk})
    session.commit()
    if indexed:
        nearest.build_index(clean_database)
    probe = Probe(embedding=house.crowd.centres[0].astype(np.float32), quality=0.8)
    assert Searcher(clean_database).search(probe).people[0].person_id == people[0]
    gone = set(house.crowd.ids(people[0]))
    session.commit()
    eraser.erase_person(people[0])
    found = Searcher(clean_database).search(probe)
    assert {hit.person_id for hit in found.people} == set(people[1:])
    assert {hit.appearance_id for hit in found.appearances}.isdisjoint(gone)
    assert all(hit.similarity < 0.6 for hit in found.appearances)
    if indexed:
        nearest.drop_index(clean_database)


@pytest.mark.parametrize("shift", [0.0, 5.0])  # an earlier version counted time from the first frame
def test_other_analyses_of_the_same_files_lose_the_person_too(house, eraser, people, shift):
    session, together = house.session, sorted(house.crowd.files)[-2]
    other = house.crowd.register(detector="other")
    house.crowd.analyse(together, release=other, jitter=10)
    moved = text("""UPDATE face SET at_seconds = at_seconds + :shift
                    WHERE analysis_id IN (SELECT analysis_id FROM analysis WHERE finder_id = :f)""")
    session.execute(moved, {"shift": shift, "f": other.finder_id})
    house.crowd.analyse(together, jitter=10)
    house.identify()
    running = session.execute(
        text("""INSERT INTO analysis (media_id, finder_id, sampling) VALUES (:m, :f, 'every') RETURNING analysis_id"""),
        {"m": together, "f": other.finder_id},
    ).scalar_one()
    session.execute(
        text("INSERT INTO unit (analysis_id, release_id) VALUES (:a, :r)"), {"a": running, "r": other.release_id}
    )
    session.commit()
    places = text("SELECT x1 FROM face JOIN analysis USING (analysis_id) WHERE media_id = :m")
    assert len(session.scalars(places, {"m": together}).all()) == 9
    eraser.erase_person(people[0])
    left = session.scalars(places, {"m": together}).all()
    assert len(left) == 6
    assert min(left) > 150  # the person stood at the left edge
    state, reason = session.execute(
        text("SELECT state, reason FROM analysis WHERE analysis_id = :a"), {"a": running}
    ).one()
    assert (state, reason.partition(":")[0]) == ("rejected", "erased")
    assert not session.execute(text("SELECT EXISTS (SELECT FROM unit WHERE analysis_id = :a)"), {"a": running}).scalar()


@pytest.mark.parametrize(("role", "may"), [("facet_worker", True), ("facet_reader", False)])
def test_the_worker_role_may_erase_and_the_reader_may_not(house, archive, people, role, may):
    engine = archive.sessions.kw["bind"]
    house.session.commit()
    engine.dispose()

    @event.listens_for(engine, "connect")
    def become(connection, _):
        connection.execute(f"SET ROLE {role}")
        connection.commit()

    eraser = Eraser(archive.sessions, house.stores)
    if may:
        assert eraser.erase_person(people[0]).people == (people[0],)
        return
    with pytest.raises(ProgrammingError, match="permission denied"):
        eraser.erase_person(people[0])


def test_the_faces_of_a_cancelled_analysis_go_with_the_person(house, eraser, people):
    session, together = house.session, sorted(house.crowd.files)[-2]
    stopped, unit = session.execute(
        text("""WITH a AS (INSERT INTO analysis (media_id, finder_id, sampling, state, reason, finished_at)
                           VALUES (:m, :f, 'every', 'cancelled', 'cancelled: job 1', now()) RETURNING analysis_id),
                     u AS (INSERT INTO unit (analysis_id, release_id, state) SELECT analysis_id, :r, 'done' FROM a
                           RETURNING analysis_id, unit_id)
                SELECT analysis_id, unit_id FROM u"""),
        {"m": together, "r": house.crowd.release_id, "f": house.crowd.release.finder_id},
    ).one()
    session.execute(
        text("""INSERT INTO face (analysis_id, unit_id, at_seconds, x1, y1, x2, y2, landmarks, detection_score, quality)
                VALUES (:a, :u, 99, 0, 0, 1, 1, decode(repeat('00', 20), 'hex'), 1, 1)"""),
        {"a": stopped, "u": unit},
    )
    session.commit()
    eraser.erase_person(people[0])
    left = session.execute(text("SELECT count(*) FROM face WHERE analysis_id = :a"), {"a": stopped}).scalar_one()
    state = session.execute(text("SELECT state FROM analysis WHERE analysis_id = :a"), {"a": stopped}).scalar_one()
    assert (left, state) == (0, "cancelled")


def test_a_name_that_only_an_erased_person_bore_goes_where_others_keep_its_appearances(house, eraser, people):
    session = house.session
    correct.name_people(session, [correct.NewName(people[0], "Ada")])
    moved = house.crowd.ids(people[0])[-1]
    other = correct.split_person(session, people[0], [moved], reason="not Ada").person_id
    session.commit()
    receipt = eraser.erase_person(people[0])
    assert receipt.rows["correction"] == 1
    assert not any("Ada" in row for rows in house.everything().values() for row in rows)
    kept = session.execute(text("SELECT kind, reason FROM correction")).all()
    assert [tuple(row) for row in kept] == [("split", None)]
    assert house.crowd.ids(other) == [moved]


def test_units_and_analyses_count_the_faces_that_stay(archive, eraser, people):
    eraser.erase_person(people[0])
    with archive.sessions() as session:
        units = session.execute(
            text("""SELECT u.face_count, (SELECT count(*) FROM face f WHERE f.unit_id = u.unit_id)
                    FROM unit u JOIN analysis USING (analysis_id) JOIN media_file USING (media_id)
                    WHERE sealed_at IS NOT NULL AND u.state = 'done'""")
        ).all()
        analyses = session.execute(
            text("""SELECT a.face_count, (SELECT count(*) FROM face f WHERE f.analysis_id = a.analysis_id)
                    FROM analysis a JOIN media_file USING (media_id) WHERE sealed_at IS NOT NULL""")
        ).all()
    assert units
    assert all(noted == counted for noted, counted in (*units, *analyses))


def test_corrections_of_others_keep_whom_they_were_about(house, eraser, people):
    session = house.session
    correct.name_people(session, [correct.NewName(people[1], "Bo", "the caption says Bo")])
    correct.merge_people(session, [people[2], people[0]], reason="one woman")
    correct.undo_correction(session, reason="two women")
    session.commit()
    anchors = text("SELECT correction_id, anchor_no, from_person_id, to_person_id FROM correction_anchor ORDER BY 1, 2")
    before = session.execute(anchors).all()
    session.commit()
    eraser.erase_person(people[0])
    after = session.execute(anchors).all()
    kept = {(row.correction_id, row.anchor_no): row for row in before}
    assert len(after) > 1
    for row in after:
        was = kept[row.correction_id, row.anchor_no]
        for now, then in ((row.from_person_id, was.from_person_id), (row.to_person_id, was.to_person_id)):
            assert now == (ERASED if then == people[0] else then)
