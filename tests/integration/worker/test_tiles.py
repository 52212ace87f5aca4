"""Which appearances are the tiles of a contact sheet, and in which order."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from db.errors import QueryError
from db.schema.totals import recount_people
from worker.identity.search.condition import read_matching
from worker.pictures.tiles import Choice, read_tile_rows


@pytest.fixture
def crowded(crowd):
    """Two jobs: person 2 in five files, person 1 in two, nobody in two, and one appearance whose crop is gone."""
    session = crowd.session
    files = [crowd.photo(0, quality=quality) for quality in (0.5, 0.9, 0.7, 0.6, 0.8)]
    files += [crowd.photo(1, quality=0.4), crowd.photo(1, quality=0.95)]
    files += [crowd.photo(2, quality=0.99), crowd.photo(3, quality=0.3)]
    people = [2, 2, 2, 2, 2, 1, 1, None, None]
    session.execute(text("INSERT INTO person (name) VALUES ('Ada'), (NULL)"))
    for media, person in zip(files, people, strict=True):
        session.execute(text("UPDATE appearance SET person_id = :p WHERE media_id = :m"), {"p": person, "m": media})
    session.execute(text("INSERT INTO crop_strip (unit_id, strip_no, uri) SELECT unit_id, 0, 'strip' FROM unit"))
    session.execute(text("UPDATE face SET strip_no = 0, crop_index = 0"))
    session.execute(
        text("DELETE FROM crop_strip WHERE unit_id = (SELECT unit_id FROM unit JOIN analysis USING (analysis_id)"
             " WHERE media_id = :m)"), {"m": files[1]}
    )  # fmt: skip
    session.execute(text("INSERT INTO job (name) VALUES ('one'), ('two')"))
    for place, media in enumerate(files):
        session.execute(
            text("INSERT INTO job_item (job_id, item_no, uri, media_id) VALUES (:j, :n, '/' || :n, :m)"),
            {"j": 1 + place % 2, "n": place, "m": media},
        )
    recount_people(session)
    return session


def shown(rows):
    return [(row.person_id, round(float(row.quality), 2)) for row in rows]


EVERYTHING = [
    (2, 0.8), (2, 0.7), (2, 0.6), (2, 0.5), (1, 0.95), (1, 0.4), (None, 0.99), (None, 0.3)
]  # fmt: skip


@pytest.mark.parametrize("limit", [1, 3, 5, 6, 7, 8, 100])
def test_the_most_seen_person_comes_first_the_best_face_first_and_nobody_last(crowded, limit):
    rows = read_tile_rows(crowded, Choice(limit=limit))
    assert shown(rows) == EVERYTHING[:limit]
    assert {row.person_id: row.name for row in rows}.get(1) == ("Ada" if limit > 4 else None)


def test_a_job_shows_its_own_files_in_the_same_order(crowded):
    odd = [(2, 0.8), (2, 0.7), (2, 0.5), (1, 0.95), (None, 0.3)]
    assert shown(read_tile_rows(crowded, Choice(job_id=1, limit=100))) == odd
    assert shown(read_tile_rows(crowded, Choice(job_id=1, limit=4))) == odd[:4]
    assert shown(read_tile_rows(crowded, Choice(job_id=2, limit=100))) == [(2, 0.6), (1, 0.4), (None, 0.99)]
    assert shown(read_tile_rows(crowded, Choice(job_id=3, limit=100))) == []


def test_a_person_is_shown_best_first_in_all_files_or_in_those_of_a_job(crowded):
    assert shown(read_tile_rows(crowded, Choice(person_id=2, limit=100))) == EVERYTHING[:4]
    assert shown(read_tile_rows(crowded, Choice(job_id=2, person_id=2, limit=100))) == [(2, 0.6)]
    assert shown(read_tile_rows(crowded, Choice(person_id=7, limit=100))) == []


@pytest.mark.parametrize("per_person", [1, 2, 3, 9])
def test_of_each_person_the_best_are_shown_and_each_appearance_of_nobody(crowded, per_person):
    few = [(2, 0.8), (2, 0.7), (2, 0.6), (2, 0.5)][:per_person] + [(1, 0.95), (1, 0.4)][:per_person]
    nobody = [(None, 0.99), (None, 0.3)]
    choices = {
        "all": Choice(per_person=per_person),
        "given": Choice(per_person=per_person, appearances=range(1, 100)),
        "person": Choice(per_person=per_person, person_id=2),
        "job": Choice(per_person=per_person, job_id=1),
    }
    seen = {name: shown(read_tile_rows(crowded, choice)) for name, choice in choices.items()}
    assert seen["all"] == seen["given"] == few + nobody
    assert seen["person"] == [row for row in few if row[0] == 2]
    assert seen["job"] == [*[(2, 0.8), (2, 0.7), (2, 0.5)][:per_person], (1, 0.95), (None, 0.3)]


def test_given_appearances_keep_order_job_and_limit(crowded):
    ids = dict(crowded.execute(text("SELECT round(quality::numeric, 2)::float, appearance_id FROM appearance")).all())
    given = [ids[quality] for quality in (0.3, 0.5, 0.95, 0.8, 0.9)]  # the crop of the last one is gone
    assert shown(read_tile_rows(crowded, Choice(appearances=given))) == [(2, 0.8), (2, 0.5), (1, 0.95), (None, 0.3)]
    assert shown(read_tile_rows(crowded, Choice(appearances=given, limit=3))) == [(2, 0.8), (2, 0.5), (1, 0.95)]
    assert shown(read_tile_rows(crowded, Choice(appearances=given, job_id=2))) == []
    assert shown(read_tile_rows(crowded, Choice(appearances=[]))) == []
    (row,) = read_tile_rows(crowded, Choice(appearances=[ids[0.3]]))
    assert row.appearance_id == ids[0.3]
    assert (
        row.media_id
        == crowded.execute(
            text("SELECT media_id FROM appearance WHERE appearance_id = :a"), {"a": ids[0.3]}
        ).scalar_one()
    )


def test_a_condition_chooses_appearances_as_the_reader_may_read_them(crowded, database_url):
    crowded.commit()
    every = set(read_matching(database_url, "true"))
    good = set(read_matching(database_url, "quality > 0.65 AND kind = 'video' -- and no more"))
    assert shown(read_tile_rows(crowded, Choice(appearances=sorted(good)))) == [
        (2, 0.8), (2, 0.7), (1, 0.95), (None, 0.99)
    ]  # fmt: skip
    assert good < every
    assert set(read_matching(database_url, "quality > 0.65", person_id=1)) < good
    for wrong in ("nonsense = 1", "true) OR (SELECT 1 FROM facet.media_file) IS NULL; DELETE FROM media; --"):
        with pytest.raises(QueryError, match="expected a condition over the columns of appearances and media"):
            read_matching(database_url, wrong)
