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
        text("""INSERT INTO analysis (media_id, finder_id, sampling)
                SELECT media_id, finder_id, 'every' FROM analysis WHERE is_current LIMIT 1""")
    )
    assert ask(session, "SELECT count(*) FROM media WHERE status = 'done'") == [(4,)]


def test_another_release_shows_its_own_rows_and_can_be_switched_back(session):
    before = {view: count(session, view) for view in ("faces", "appearances", "people", "predictions")}
    assert all(before.values())
    session.execute(text("UPDATE release SET active = false WHERE active"))
    session.execute(text("UPDATE release SET active = true WHERE name = 'old'"))
    assert {view: count(session, view) for view in before} == dict.fromkeys(before, 0)
    assert count(session, "face_attributes") == 0
    status = "SELECT status, split_part(reason, ':', 1), sum(face_count), count(*) FROM media GROUP BY 1, 2 ORDER BY 2"
    assert ask(session, status) == [("pending", "other_release", None, 6), ("rejected", "truncated", None, 1)]
    assert ask(session, "SELECT done, lacking FROM jobs") == [(5, 5)]
    session.execute(text("UPDATE release SET active = false WHERE active"))
    session.execute(text("UPDATE release SET active = true WHERE name = 'new'"))
    assert {view: count(session, view) for view in before} == before
    assert ask(session, "SELECT done, lacking FROM jobs") == [(5, 0)]


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
    session.execute(
        text("""UPDATE appearance_prediction AS q SET label = 'male', confidence = 0.6
                FROM appearance AS p, layer AS g
                WHERE q.appearance_id = p.appearance_id AND face_count = 9 AND layer_id = reading_id
                    AND g.task = 'gender'""")
    )
    assert ask(session, "SELECT gender FROM people WHERE name = 'Ada'") == [("male",)]  # 9 x 0.6 against 4 x 0.9


def test_screen_time_counts_the_last_sample(session):
    found = ask(session, "SELECT end_seconds - start_seconds, screen_seconds FROM appearances ORDER BY 1 DESC LIMIT 1")
    assert found == [(4.0, 4.5)]


def test_labels_stand_beside_probabilities(session):
    query = "SELECT DISTINCT head, labels FROM predictions WHERE head IN ('gender', 'age') ORDER BY 1"
    assert ask(session, query) == [("age", ["20", "21"]), ("gender", ["female", "male"])]


LOOKED_UP = {"layer", "release", "release_reading"}  # a few rows, once for a query


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("SELECT face_id, x1 FROM faces", {"analysis", "face"}),
        ("SELECT age FROM faces", {"analysis", "face", "prediction"}),
        ("SELECT appearance_id FROM faces", {"analysis", "face", "face_embedding"}),
        ("SELECT crop_uri FROM faces", {"analysis", "crop_strip", "face"}),
        ("SELECT gender FROM appearances", {"analysis", "appearance", "appearance_prediction"}),
        ("SELECT uri FROM media", {"media_file"}),
    ],
)
def test_what_a_query_does_not_ask_for_is_not_read(session, query, tables):
    assert read_tables(session, query) - LOOKED_UP == tables


def test_people_are_shown_without_reading_their_appearances(session):
    count_people(session)
    read = read_tables(session, "SELECT * FROM people")
    assert read - LOOKED_UP == {"person", "person_alike", "person_change", "person_total"}


def read_tables(session, query):
    """Return the tables that a query reads; lookups that it plans and does not need are never executed."""
    plan = "\n".join(line for (line,) in ask(session, f"EXPLAIN (ANALYZE, TIMING OFF) {query}"))
    return set(re.findall(r"(?:Seq Scan|Heap Scan|Index (?:Only )?Scan using \w+) on (\w+) .*actual", plan))


def test_codes_are_shown_as_what_they_stand_for(session):
    [(landmarks, attributes, release)] = ask(
        session, "SELECT landmarks, attributes, release FROM faces WHERE gender IS NOT NULL ORDER BY face_id LIMIT 1"
    )
    assert landmarks == pytest.approx(range(10), abs=80 / 32768)
    assert attributes == {"Smiling": 0.1, "Eyeglasses": 0.2}
    assert release == "new"
    query = "SELECT head, probabilities, attributes FROM predictions WHERE face_id = 1 ORDER BY 1"
    found = {head: (probabilities, values) for head, probabilities, values in ask(session, query)}
    assert found["age"] == ([0.5, 0.5], None)
    assert found["gender"] == (pytest.approx([0.9, 0.1], abs=3e-4), None)
    assert found["emotion"] == (pytest.approx([0.5, 0.4, 0.1], abs=3e-4), None)
    assert found["attributes"] == (pytest.approx([0.1, 0.2], abs=3e-4), {"Smiling": 0.1, "Eyeglasses": 0.2})
    [(mean,)] = ask(session, "SELECT DISTINCT attributes FROM appearances")
    assert mean == pytest.approx({"Smiling": 0.1, "Eyeglasses": 0.2}, abs=2e-4)


def test_attributes_as_rows_are_those_of_the_faces(session):
    rows = ask(session, "SELECT face_id, media_id, attribute, probability FROM face_attributes ORDER BY 1, 3")
    expected = ask(
        session,
        """SELECT face_id, media_id, v.key, v.value::real
           FROM faces CROSS JOIN LATERAL jsonb_each(attributes) AS v ORDER BY 1, 3""",
    )
    assert rows == expected
    assert len(rows) == 2 * ask(session, "SELECT count(gender) FROM faces")[0][0]


def test_scores_are_found_in_another_reading_of_the_head(session):
    """A row that was read again has no scores of its own."""
    before = ask(session, "SELECT face_id, attributes FROM faces ORDER BY 1")
    probabilities = "SELECT face_id, probabilities FROM predictions WHERE head = 'attributes' ORDER BY 1"
    shown = ask(session, probabilities)
    session.execute(
        text("""WITH old AS (SELECT * FROM active_reading WHERE task = 'attributes'),
            new AS (
                INSERT INTO layer (kind, fingerprint, task, parent_id, spec)
                SELECT 'reading', 'again', 'attributes', head_id, '{"kind": "multilabel", "temperature": 4}' FROM old
                RETURNING layer_id
            ),
            switched AS (
                UPDATE release_reading AS r SET reading_id = n.layer_id
                FROM new AS n, old AS o WHERE r.reading_id = o.reading_id
            )
            INSERT INTO prediction (face_id, reading_id)
            SELECT q.face_id, n.layer_id FROM prediction AS q JOIN old AS o USING (reading_id) CROSS JOIN new AS n""")
    )
    assert ask(session, "SELECT face_id, attributes FROM faces ORDER BY 1") == before
    assert ask(session, probabilities) == shown
    assert ask(session, "SELECT count(*) FROM face_attributes") == [(2 * len(shown),)]
