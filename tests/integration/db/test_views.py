from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from db.engine import make_engine
from db.schema.totals import count_people


@pytest.fixture
def session(archive_url):
    """A connection to the small archive, whose changes are undone."""
    engine = make_engine(archive_url)
    with engine.connect() as connection:
        yield connection
        connection.rollback()
    engine.dispose()


def ask(session, query, **parameters):
    return [tuple(row) for row in session.execute(text(query), parameters)]


def count(session, view):
    return ask(session, f"SELECT count(*) FROM {view}")[0][0]


def test_jobs_add_up(session):
    query = "SELECT submitted, done, rejected, quarantined, pending, finished_at FROM jobs"
    assert ask(session, query) == [(8, 5, 1, 1, 1, None)]


def test_a_job_ends_with_its_last_file(session):
    session.execute(text("UPDATE analysis SET state = 'done', finished_at = now() WHERE state = 'pending'"))
    assert ask(session, "SELECT pending, finished_at IS NOT NULL FROM jobs") == [(0, True)]


def test_media_tells_how_each_file_ended(session):
    found = dict(ask(session, "SELECT status, count(*) FROM media GROUP BY 1"))
    assert found == {"done": 4, "pending": 1, "quarantined": 1, "rejected": 1}
    reasons = ask(session, "SELECT split_part(reason, ':', 1) FROM media WHERE reason IS NOT NULL ORDER BY 1")
    assert reasons == [("crashed",), ("truncated",)]


def test_a_new_sampling_under_way_leaves_the_old_rows_in_view(session):
    session.execute(
        text("""INSERT INTO analysis (media_id, release_id, sampling)
                SELECT media_id, release_id, 'every' FROM analysis WHERE is_current LIMIT 1""")
    )
    assert ask(session, "SELECT count(*) FROM media WHERE status = 'done'") == [(4,)]


def test_another_release_shows_its_own_rows_and_can_be_switched_back(session):
    before = {view: count(session, view) for view in ("faces", "appearances", "people", "predictions")}
    assert all(before.values())
    session.execute(text("UPDATE release SET active = false WHERE active"))
    session.execute(text("UPDATE release SET active = true WHERE name = 'old'"))
    assert {view: count(session, view) for view in before} == dict.fromkeys(before, 0)
    assert ask(session, "SELECT DISTINCT status FROM media WHERE status = 'done'") == [("done",)]
    session.execute(text("UPDATE release SET active = false WHERE active"))
    session.execute(text("UPDATE release SET active = true WHERE name = 'new'"))
    assert {view: count(session, view) for view in before} == before


def test_only_the_current_analysis_is_shown(session):
    session.execute(text("UPDATE analysis SET is_current = false"))
    assert [count(session, view) for view in ("faces", "appearances", "people", "predictions")] == [0, 0, 0, 0]


def test_detections_are_kept_or_dropped_with_a_reason(session):
    found = ask(session, "SELECT count(*) FILTER (WHERE gender IS NULL), count(dropped_reason) FROM faces")
    assert found == [(1, 1)]
    assert ask(session, "SELECT sum(face_count) FROM media")[0][0] == count(session, "faces")


def test_people_are_summed_over_files(session):
    found = ask(session, "SELECT name, appearance_count, media_count, face_count, gender, age FROM people ORDER BY 1")
    # Ada: 9 faces at 71, 3 at 78, 1 at 77, all of the same quality
    assert found[0] == ("Ada", 3, 3, 13, "female", pytest.approx((9 * 71 + 3 * 78 + 77) / 13, abs=1e-4))
    assert [row[0] for row in found] == ["Ada", "Bo", "Eve"]


def test_the_gender_of_a_person_is_elected(session):
    session.execute(text("UPDATE appearance SET gender = 'male', gender_confidence = 0.6 WHERE face_count = 9"))
    assert ask(session, "SELECT gender FROM people WHERE name = 'Ada'") == [("male",)]  # 9 x 0.6 against 4 x 0.9


def test_screen_time_counts_the_last_sample(session):
    found = ask(session, "SELECT end_seconds - start_seconds, screen_seconds FROM appearances ORDER BY 1 DESC LIMIT 1")
    assert found == [(4.0, 4.5)]


def test_labels_stand_beside_probabilities(session):
    query = "SELECT DISTINCT head, labels FROM predictions WHERE head IN ('gender', 'age') ORDER BY 1"
    assert ask(session, query) == [("age", None), ("gender", ["female", "male"])]


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("SELECT face_id, x1 FROM faces", ["analysis", "face", "release"]),
        ("SELECT age FROM faces", ["analysis", "face", "prediction", "release"]),
        ("SELECT uri FROM media", ["media_file"]),
    ],
)
def test_what_a_query_does_not_ask_for_is_not_read(session, query, tables):
    plan = "\n".join(line for (line,) in ask(session, f"EXPLAIN {query}"))
    assert sorted(re.findall(r"(?:Seq Scan|Heap Scan|Index Scan using \w+) on (\w+)", plan)) == tables


def test_people_are_shown_without_reading_their_appearances(session):
    count_people(session)
    plan = "\n".join(line for (line,) in ask(session, "EXPLAIN (ANALYZE, TIMING OFF) SELECT * FROM people"))
    read = re.findall(r"(?:Seq Scan|Heap Scan|Index Scan using \w+) on (\w+) .*actual", plan)
    assert sorted(set(read)) == ["person", "person_change", "person_total", "release"]
