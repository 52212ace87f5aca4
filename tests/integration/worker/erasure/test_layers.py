"""Erasure in an archive of several releases: two finders, three trunks, two readings of one head."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from sqlalchemy import text

from db.schema.totals import count_people, find_differences
from worker.deployment.scheduled.upkeep import answer_if_cut
from worker.identity.gallery import Gallery
from worker.identity.identifier import identify_pending
from worker.ledger.releases import register_release

READ = (
    "SELECT appearance_id, face_count, best_face_id, embedding::vector::real[] FROM appearance WHERE appearance_id = :a"
)


@dataclass
class Layers:
    """The releases beside that of the crowd."""

    embedded: object
    """With its finder and another trunk."""
    found: object
    """With a finder and a trunk of its own."""
    read: object
    """With its finder, its trunk and its heads, one of which it reads otherwise."""

    @property
    def trunks(self):
        return (self.embedded, self.found)


@pytest.fixture
def layers(house, archive):
    manifest = archive.manifest("reads otherwise")
    heads = tuple(replace(head, temperature=1.5) if head.task == "age" else head for head in manifest.branches)
    read = register_release(house.session, replace(manifest, branches=heads))
    register = house.crowd.register
    return Layers(register("embeds", trunk="embeds"), register("finds", detector="finds"), read)


@pytest.fixture
def everywhere(house, people, layers):
    """All files of three people and a fourth, under all releases; the four people."""
    for media in house.crowd.files:
        house.predict(media, layers.read)
        house.crowd.embed(media, layers.embedded)
        house.predict(media, layers.embedded)
        house.crowd.analyse(media, release=layers.found, jitter=10)
        house.furnish(media, layers.found)
    for release in layers.trunks:
        house.identify(release)
    return people


def of_person(house, person):
    """The numbers of the rows of a person under all layers."""
    ids = "SELECT appearance_id FROM appearance WHERE person_id = :p"
    faces = f"SELECT DISTINCT face_id FROM face_embedding WHERE appearance_id IN ({ids})"
    found = {name: set(house.session.scalars(text(query), {"p": person})) for name, query in
             (("appearance", ids), ("face", faces))}  # fmt: skip
    return found | {"person": {person}}


def galleries(house, layers):
    return [Gallery(one.trunk_id).refresh(house.session) for one in (house.crowd.release, *layers.trunks)]


def test_layers_are_what_they_are_called(house, layers):
    own = house.crowd.release
    assert layers.embedded.finder_id == own.finder_id != layers.found.finder_id
    assert len({own.trunk_id, layers.embedded.trunk_id, layers.found.trunk_id}) == 3
    assert (layers.read.trunk_id, layers.read.readings["gender"]) == (own.trunk_id, own.readings["gender"])
    assert layers.read.readings["age"] != own.readings["age"]


def test_a_person_goes_under_every_layer(house, eraser, everywhere, layers):
    gone, session = everywhere[0], house.session
    for release in layers.trunks:
        assert house.crowd.who(release) == house.crowd.who()
    doomed, before, strips = of_person(house, gone), house.everything(), house.strips()
    assert {name: len(numbers) for name, numbers in doomed.items()} == {"appearance": 12, "face": 8, "person": 1}
    held = [Gallery(one.trunk_id) for one in (house.crowd.release, *layers.trunks)]
    assert all(gone in one.refresh(session).person for one in held)
    session.commit()

    receipt = eraser.erase_person(gone)

    after = house.everything()
    assert house.mentions(doomed) == []
    lost = {table: len(before[table]) - len(after[table]) for table in before if len(before[table]) > len(after[table])}
    assert receipt.rows == lost
    # Of four photos with a face each: two readings, those of two trunks, and another finder's.
    assert (lost["prediction"], lost["face_embedding"], lost["face"]) == (4 * 4, 4 * 3, 4 * 2)
    assert (lost["appearance_prediction"], lost["crop_strip"]) == (4 * 4, 3 * 2)
    for table in ("layer", "release", "release_reading", "release_history"):
        assert after[table] == before[table]
    for table in ("face", "face_embedding", "prediction", "appearance", "appearance_prediction", "crop_strip"):
        assert after[table] <= before[table], table
    assert len(receipt.files.blanked) == 2
    assert house.strips() == strips - set(receipt.files.crops)
    for one in held:
        identify_pending(session, one)
        assert len(one._people) == 0, "memory is empty until the next refresh"
    for one in galleries(house, layers):
        assert set(one.person.tolist()) == set(everywhere[1:])
    assert find_differences(session) == []


def test_a_file_goes_under_every_layer(house, eraser, everywhere, layers):
    alone, session = max(house.crowd.files), house.session
    doomed = house.numbers_of(alone) | {"person": {everywhere[3]}}
    assert {name: len(numbers) for name, numbers in doomed.items()} == {
        "media_file": 1, "analysis": 2, "face": 2, "appearance": 3, "unit": 2, "person": 1,
    }  # fmt: skip
    before = house.everything()
    session.commit()
    receipt = eraser.erase_media([str(alone)])
    after = house.everything()
    assert house.mentions(doomed) == []
    lost = {table: len(before[table]) - len(after[table]) for table in before if len(before[table]) > len(after[table])}
    assert receipt.rows == lost
    assert lost["crop_strip"] == len(receipt.files.crops) == 2
    assert after["release_history"] == before["release_history"]
    assert find_differences(session) == []


@pytest.fixture
def swapped(house, people, layers):
    """Two people took each other's place in a photo under another trunk; return the photo of each."""
    session, shown = house.session, house.crowd.who()
    for media in house.crowd.files:
        house.crowd.embed(media, layers.embedded)
    house.identify(layers.embedded)
    first, second = (next(media for media, n in shown if shown[media, n] == who) for who in people[:2])
    swap = text("UPDATE appearance SET person_id = :p WHERE media_id = :m AND trunk_id = :t AND ordinal = 0")
    for media, person in ((first, people[1]), (second, people[0])):
        session.execute(swap, {"p": person, "m": media, "t": layers.embedded.trunk_id})
    session.commit()
    return first, second


def test_the_trunk_of_the_views_decides_whose_a_face_is(house, eraser, people, layers, swapped):
    gone, other, session = people[0], people[1], house.session
    first, second = swapped

    receipt = eraser.erase_person(gone)

    assert second not in {file.media_id for file in receipt.sealed}
    assert first in {file.media_id for file in receipt.sealed}
    assert house.crowd.who()[second, 0] == other
    assert (first, 0) not in house.crowd.who(layers.embedded)
    assert (second, 0) not in house.crowd.who(layers.embedded)
    left = text("SELECT count(*) FROM face JOIN analysis USING (analysis_id) WHERE media_id = :m")
    assert [session.execute(left, {"m": media}).scalar_one() for media in (first, second)] == [0, 1]


def test_a_face_that_stays_keeps_its_embedding_without_the_appearance_that_goes(house, eraser, people, layers, swapped):
    session, (_, second), trunk = house.session, swapped, layers.embedded.trunk_id
    unclear = house.crowd.ids(people[2], layers.embedded)
    session.execute(
        text("UPDATE face_embedding SET embedding = NULL WHERE appearance_id = ANY(:ids)"), {"ids": unclear}
    )
    session.commit()

    eraser.erase_person(people[0])

    kept = """SELECT e.appearance_id, e.embedding IS NOT NULL AS embedded
              FROM face_embedding e JOIN face USING (face_id) JOIN analysis USING (analysis_id)
              WHERE media_id = :m AND trunk_id = :t"""
    assert [tuple(row) for row in session.execute(text(kept), {"m": second, "t": trunk})] == [(None, True)]
    left = "SELECT count(*) FROM face_embedding WHERE embedding IS NULL AND appearance_id = ANY(:ids)"
    assert session.execute(text(left), {"ids": unclear}).scalar_one() == len(unclear) > 0


def test_times_without_boxes_go_when_they_touch_a_time_of_the_person(house, eraser, people, layers):
    session, film = house.session, house.film(0, 1)
    house.identify()
    analysis = session.execute(
        text("""INSERT INTO analysis (media_id, finder_id, sampling, state, finished_at, is_current)
                VALUES (:m, :f, 'imported', 'done', now(), true) RETURNING analysis_id"""),
        {"m": film, "f": layers.found.finder_id},
    ).scalar_one()
    times = [(8.0, 9.5), (8.0, 10.0), (11.0, 12.0), (11.5, 12.0)]  # the second person is in view from 10 to 11
    keys = {"a": analysis, "m": film, "t": layers.found.trunk_id}
    session.execute(
        text("""INSERT INTO appearance
                    (analysis_id, media_id, trunk_id, ordinal, start_seconds, end_seconds, face_count, quality)
                VALUES (:a, :m, :t, :n, :start, :end, 1, 0.8)"""),
        [keys | {"n": n, "start": start, "end": end} for n, (start, end) in enumerate(times)],
    )
    session.commit()

    eraser.erase_person(house.crowd.who()[film, 1])

    left = "SELECT start_seconds, end_seconds FROM appearance WHERE trunk_id = :t ORDER BY ordinal"
    rows = session.execute(text(left), {"t": layers.found.trunk_id})
    assert [tuple(row) for row in rows] == [times[0], times[3]]


@pytest.fixture
def mixed(house, people, layers):
    """A film: under another trunk a face of the first person was taken for one of two of another person.

    Returns:
        The film, its faces in order, and the appearance that has all of them.
    """
    session, other = house.session, layers.embedded
    film = house.film(0, 1, 1)
    house.identify()
    house.crowd.embed(film, other)
    rows = session.execute(
        text("""SELECT face_id, appearance_id FROM face_embedding JOIN appearance s USING (appearance_id)
                WHERE media_id = :m AND s.trunk_id = :t ORDER BY ordinal"""),
        {"m": film, "t": other.trunk_id},
    ).all()
    faces, joined = [row.face_id for row in rows], rows[1].appearance_id
    for statement in (
        "UPDATE face_embedding SET appearance_id = :a WHERE trunk_id = :t AND face_id = ANY(:faces)",
        "DELETE FROM appearance WHERE media_id = :m AND trunk_id = :t AND appearance_id <> :a",
        "UPDATE appearance SET face_count = 3, best_face_id = :best WHERE appearance_id = :a",
    ):
        values = {"a": joined, "t": other.trunk_id, "m": film, "faces": faces, "best": faces[0]}
        session.execute(text(statement), {name: values[name] for name in values if f":{name}" in statement})
    house.identify(other)
    session.execute(text("UPDATE appearance SET start_seconds = 0 WHERE appearance_id = :a"), {"a": joined})
    session.commit()
    return film, faces, joined


def test_an_appearance_that_loses_a_few_faces_is_computed_again(house, eraser, people, layers, mixed):
    film, faces, joined = mixed
    session, other = house.session, layers.embedded

    eraser.erase_person(people[0])

    appearance = session.execute(text(READ), {"a": joined}).one()
    seen = [house.crowd.turned(one, other).astype(np.float16).astype(np.float64) for one in house.crowd.files[film][1:]]
    mean = np.sum(seen, axis=0)
    assert (appearance.face_count, appearance.best_face_id) == (2, faces[1])
    assert np.array(appearance.embedding) == pytest.approx(mean / np.linalg.norm(mean), abs=1e-3)
    [person] = Gallery(other.trunk_id).refresh(session).person.tolist()
    assert person == house.crowd.who(other)[film, 1]


def answered(session, appearance, release):
    rows = session.execute(
        text("SELECT reading_id, label, value, low, high, confidence FROM appearance_prediction "
             "WHERE appearance_id = :a"), {"a": appearance}
    ).all()  # fmt: skip
    tasks = {reading: task for task, reading in release.readings.items()}
    return {tasks[row.reading_id]: row for row in rows}


@pytest.mark.parametrize("computes", [True, False])
def test_nothing_of_an_erased_face_is_left_in_the_answers_of_an_appearance(
    house, eraser, people, layers, mixed, computes
):
    """The person was old and female, the other one is young and male."""
    _, faces, joined = mixed
    session, other = house.session, layers.embedded
    ages, females = (90.0, 20.0, 30.0), (0.99, 0.1, 0.2)
    for face, age, female in zip(faces, ages, females, strict=True):
        scores = np.round(-np.log([female, 1 - female]) * 2048).astype(">u2").tobytes()
        session.execute(
            text("""INSERT INTO prediction (face_id, reading_id, label, value, low, high, scores)
                    VALUES (:f, :age, NULL, :years, :years - 5, :years + 5, NULL),
                           (:f, :gender, 'x', NULL, NULL, NULL, :scores)"""),
            {"f": face, "age": other.readings["age"], "gender": other.readings["gender"], "years": age,
             "scores": scores},
        )  # fmt: skip
    session.execute(
        text("""INSERT INTO appearance_prediction (appearance_id, reading_id, label, value, low, high)
                VALUES (:a, :age, NULL, 47, 10, 90), (:a, :gender, 'female', NULL, NULL, NULL)"""),
        {"a": joined, "age": other.readings["age"], "gender": other.readings["gender"]},
    )
    count_people(session)
    session.commit()

    replace(eraser, **({"answer": answer_if_cut} if computes else {})).erase_person(people[0])

    found = answered(session, joined, other)
    assert find_differences(session) == []
    if not computes:
        assert found == {}, "reprocessing fills it in"
        return
    assert set(found) == {"age", "gender"}
    assert found["age"].value == pytest.approx(25.0, abs=0.01), "both have the same quality"
    assert found["age"].high < 40
    assert (found["gender"].label, found["gender"].confidence) == ("male", pytest.approx(0.85, abs=0.001))
    times = text("SELECT start_seconds, end_seconds, screen_seconds FROM appearance WHERE appearance_id = :a")
    seen = text("SELECT min(at_seconds), max(at_seconds) FROM face WHERE face_id = ANY(:f)")
    first, last = session.execute(seen, {"f": faces}).one()
    assert tuple(session.execute(times, {"a": joined}).one()) == pytest.approx((first, last, last - first + 0.5))
    assert first > 5, "the first face was that of the person"
