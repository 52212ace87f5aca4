"""A database of version 0016 with rows becomes one of layers: every view shows what it showed, and back again."""

from __future__ import annotations

import json
import math

import pytest
from sqlalchemy.orm import Session

from db.engine import make_engine
from db.errors import DatabaseUnsuitable
from db.schema import migrate
from db.schema.totals import find_differences
from worker.releases.consistency import find_contradictions
from worker.storage.release_store import ReleaseStore

KEYS = {
    "faces": "face_id", "appearances": "appearance_id", "people": "person_id", "predictions": "face_id, head",
    "corrections": "correction_id", "jobs": "job_id", "releases": "release_id", "media": "media_id",
}  # fmt: skip
RELEASES = ("first", "second", "older")
# Half precision for numbers below 1, half a step of codes at the lowest temperature, and two last digits of attributes.
EMBEDDING, PROBABILITY, ATTRIBUTE = 2.5e-4, 4e-4, 2.5e-4


def assert_same(column, one, other, side):
    if column == "embedding" and one is not None:
        assert json.loads(other) == pytest.approx(json.loads(one), abs=EMBEDDING)
    elif column == "landmarks":
        assert other == pytest.approx(one, abs=side / 32768 + 1e-4)
    elif column == "probabilities" and one is not None:
        assert other == pytest.approx(one, abs=PROBABILITY)
    elif column == "attributes" and one is not None:
        assert other == pytest.approx(one, abs=ATTRIBUTE)
    elif column == "hold_seconds":
        assert other == pytest.approx(one, rel=1e-6)
    elif isinstance(one, float) and math.isnan(one):
        assert math.isnan(other)
    else:
        assert other == one, column


def assert_view_shows_the_same(before, after):
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert set(old) <= set(new)
        side = max(old["x2"] - old["x1"], old["y2"] - old["y1"]) if "x2" in old else 0
        for column, value in old.items():
            assert_same(column, value, new[column], side)


@pytest.fixture
def before(old):
    return {release: old.shown(release, KEYS) for release in RELEASES}


def test_every_view_shows_what_it_showed(old, before):
    assert migrate.upgrade(old.url).is_current
    for release in RELEASES:
        after = old.shown(release, KEYS)
        assert len(before[release]["faces"]) > 20
        for view in KEYS.keys() - {"media"}:
            assert_view_shows_the_same(before[release][view], after[view])
        # A file that only another release has is pending now.
        analysed = {row["media_id"] for row in after["media"] if not str(row["reason"]).startswith("other_release")}
        media = [row for row in before[release]["media"] if row["media_id"] in analysed]
        assert len(media) >= 3
        assert_view_shows_the_same(media, [row for row in after["media"] if row["media_id"] in analysed])
        assert {row["status"] for row in after["media"] if row["media_id"] not in analysed} == {"pending"}


def test_rows_keep_their_numbers_and_new_ones_get_others(old, before):
    [(last,)] = old.run("SELECT last_value FROM face_face_id_seq")
    migrate.upgrade(old.url)
    assert old.run("SELECT nextval('face_face_id_seq') > :last".replace(":last", str(last))) == [(True,)]
    [(largest,)] = old.run("SELECT max(appearance_id) FROM appearance")
    assert old.run("SELECT nextval('appearance_appearance_id_seq')") == [(largest + 1,)]
    assert old.run("SELECT count(*) FROM person") == [(15,)]
    assert old.run("SELECT people_erased FROM trunk_state JOIN release USING (trunk_id) WHERE active") == [(7,)]
    assert old.run("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'facet_%'") == [(0,)]


def test_totals_are_counted_by_trunk_and_reading(old):
    migrate.upgrade(old.url)
    engine = make_engine(old.url)
    with engine.connect() as connection:
        assert find_differences(connection) == []
    engine.dispose()
    assert old.run("SELECT count(*) FROM person_change") == [(0,)]
    assert old.run("SELECT count(DISTINCT reading_id) FROM person_reading") == [(9,)]  # 3 releases x 3 tasks


def test_the_rows_of_releases_and_layers_agree(old, tmp_path):
    migrate.upgrade(old.url)
    engine = make_engine(old.url)
    with Session(engine) as session:
        found = find_contradictions(session, ReleaseStore(str(tmp_path)))
    engine.dispose()
    assert [one for one in found if "holds no" not in one] == []


def test_releases_that_would_share_a_finder_keep_their_own_rows(old):
    migrate.upgrade(old.url)
    found = dict(old.run("SELECT name, finder_id FROM release"))
    # The third has no analysis and shares with the active one; the first analysed the same files as the second.
    assert found["third"] == found["second"]
    assert len({found["first"], found["second"], found["older"]}) == 3
    assert old.run("SELECT spec ->> 'apart' FROM layer WHERE kind = 'finder' ORDER BY 1") == [
        ("first",), (None,), (None,),
    ]  # fmt: skip
    shared = old.run(
        """SELECT a.task, a.head_id = b.head_id, a.reading_id = b.reading_id
           FROM release_reading AS a JOIN release_reading AS b USING (task)
           WHERE (SELECT name FROM release WHERE release_id = a.release_id) = 'second'
             AND (SELECT name FROM release WHERE release_id = b.release_id) = 'third' ORDER BY 1""",
    )
    assert shared == [
        ("age", False, False), ("attributes", True, True), ("emotion", True, True), ("ethnicity", True, True),
        ("gender", True, False),
    ]  # fmt: skip
    open_ones = "SELECT count(*) FROM regroup_proposal WHERE state = 'open' GROUP BY trunk_id"
    assert old.run(open_ones) == [(1,), (1,)]


def test_the_way_back_shows_the_active_release(old, before):
    migrate.upgrade(old.url)
    old.go_back()
    for release in RELEASES:
        after = old.shown(release, KEYS)
        for view in KEYS.keys() - {"media", "jobs"}:
            assert_view_shows_the_same(before[release][view], after[view])


def test_a_head_that_its_manifest_does_not_name_is_refused(old):
    old.run("UPDATE prediction SET head = 'hats' WHERE head = 'emotion' AND release_id = 1")
    with pytest.raises(DatabaseUnsuitable, match="hats under release first"):
        migrate.upgrade(old.url)
    assert migrate.current_state(old.url).found == "0016"
    assert old.run("SELECT count(*) FROM prediction WHERE head = 'hats'")[0][0] > 0


def test_the_archive_has_what_it_claims(before):
    heads = {row["head"] for row in before["second"]["predictions"]}
    assert heads == {"age", "gender", "ethnicity", "emotion", "attributes"}
    assert {row["head"] for row in before["older"]["predictions"]} == heads - {"emotion"}
    faces = before["second"]["faces"]
    assert {row["dropped_reason"] for row in faces} == {None, "too_small", "profile"}
    assert any(row["crop_uri"] is None and row["dropped_reason"] is None for row in faces)
    assert any(row["label"] is None and row["head"] == "gender" for row in before["second"]["predictions"])
