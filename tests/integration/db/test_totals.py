"""Totals of people: always what their appearances come to, whichever program changed them and in which order."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import text

from db.engine import make_engine, session_factory
from db.schema.totals import count_people, find_differences, recount_people

# The view as it was when it read all appearances: kept here to compare with.
COUNTED = """
SELECT p.person_id, p.name, t.appearance_count, t.media_count, t.face_count, t.best_face_id, t.age, g.label, e.label,
       t.release, t.screen_seconds
FROM person AS p
JOIN (
    SELECT person_id, release, count(*) AS appearance_count, count(DISTINCT media_id) AS media_count,
           sum(face_count) AS face_count,
           (array_agg(best_face_id ORDER BY quality DESC, appearance_id))[1] AS best_face_id,
           (sum(age * face_count * greatest(quality, 0.01))
            / sum(face_count * greatest(quality, 0.01)) FILTER (WHERE age IS NOT NULL))::real AS age,
           sum(screen_seconds) AS screen_seconds
    FROM appearances GROUP BY person_id, release
) AS t USING (person_id)
LEFT JOIN (
    SELECT DISTINCT ON (person_id) person_id, label FROM (
        SELECT person_id, gender AS label,
               sum(face_count * greatest(quality, 0.01) * coalesce(gender_confidence, 1)) AS votes
        FROM appearances WHERE gender IS NOT NULL GROUP BY person_id, gender) AS v
    ORDER BY person_id, votes DESC, label
) AS g USING (person_id)
LEFT JOIN (
    SELECT DISTINCT ON (person_id) person_id, label FROM (
        SELECT person_id, ethnicity AS label,
               sum(face_count * greatest(quality, 0.01) * coalesce(ethnicity_confidence, 1)) AS votes
        FROM appearances WHERE ethnicity IS NOT NULL GROUP BY person_id, ethnicity) AS v
    ORDER BY person_id, votes DESC, label
) AS e USING (person_id)
ORDER BY p.person_id
"""
SHOWN = """
SELECT person_id, name, appearance_count, media_count, face_count, best_face_id, age, gender, ethnicity, release,
       screen_seconds
FROM people ORDER BY person_id
"""
OF_TRUNK = "trunk_id = (SELECT layer_id FROM layer WHERE fingerprint = 'trunk new')"
READ = ("age", "gender", "ethnicity")
CHANGES = {
    "moved": "UPDATE appearance SET person_id = {other} WHERE appearance_id = {one}",
    "left without a person": "UPDATE appearance SET person_id = NULL WHERE appearance_id = {one}",
    "given back": "UPDATE appearance SET person_id = {other} WHERE person_id IS NULL",
    "all moved": "UPDATE appearance SET person_id = {other} WHERE media_id = {media}",
    "read otherwise": "UPDATE appearance_prediction SET label = 'male', confidence = 0.99 "
    "WHERE appearance_id = {one} AND reading_id = {gender}",
    "without an answer": "DELETE FROM appearance_prediction WHERE appearance_id = {one}",
    "without any gender": "DELETE FROM appearance_prediction WHERE reading_id = {gender}",
    "read later": "INSERT INTO appearance_prediction (appearance_id, reading_id, label, confidence) "
    "VALUES ({one}, {gender}, 'male', 0.8) ON CONFLICT DO NOTHING",
    "all read later": "INSERT INTO appearance_prediction (appearance_id, reading_id, value) "
    "SELECT appearance_id, {age}, 50 + 0.1 * appearance_id FROM appearance "
    f"WHERE {OF_TRUNK} ON CONFLICT DO NOTHING",
    "read later and moved": "INSERT INTO appearance_prediction (appearance_id, reading_id, label, confidence) "
    "VALUES ({one}, {gender}, 'male', 0.8) ON CONFLICT DO NOTHING; "
    "UPDATE appearance SET person_id = {other} WHERE appearance_id = {one}",
    "read for another release": "INSERT INTO appearance_prediction (appearance_id, reading_id, label, confidence) "
    "SELECT appearance_id, layer_id, 'male', 0.7 FROM appearance, layer "
    f"WHERE fingerprint = 'reading later gender' AND {OF_TRUNK} ON CONFLICT DO NOTHING",
    "other ethnicity": "UPDATE appearance_prediction SET label = 'b', confidence = NULL "
    "WHERE appearance_id = {one} AND reading_id = {ethnicity}",
    "larger": "UPDATE appearance SET face_count = face_count + 7, end_seconds = end_seconds + 0.1, quality = 0.7 "
    "WHERE appearance_id = {one}",
    "longer on screen": "UPDATE appearance SET screen_seconds = 123.4 WHERE appearance_id = {one}",
    "another best face": "UPDATE appearance SET best_face_id = NULL WHERE appearance_id = {one}",
    "superseded": "UPDATE analysis SET is_current = false WHERE media_id = {media}",
    "shown again": "UPDATE analysis SET is_current = true WHERE media_id = {media} AND state = 'done'",
    "sampled otherwise": "UPDATE analysis SET sample_interval_seconds = 0.3 WHERE media_id = {media}",
    "appearance erased": "DELETE FROM appearance WHERE appearance_id = {one}",
    "file erased": "DELETE FROM job_item WHERE media_id = {media}; DELETE FROM media_file WHERE media_id = {media}",
    "person erased": "DELETE FROM person WHERE person_id = {other}",
    "copied": "WITH copy AS (INSERT INTO appearance (analysis_id, media_id, trunk_id, ordinal, start_seconds,"
    " end_seconds, face_count, quality, person_id) SELECT analysis_id, media_id, trunk_id,"
    " 100 + (SELECT max(ordinal) FROM appearance), 0, 1, 3, 0.9, {other}"
    " FROM appearance WHERE appearance_id = {one} RETURNING appearance_id)"
    " INSERT INTO appearance_prediction (appearance_id, reading_id, label, value, confidence)"
    " SELECT appearance_id, {gender}, 'female', NULL, 0.8 FROM copy"
    " UNION ALL SELECT appearance_id, {age}, NULL, 50, NULL FROM copy",
    "copied under another trunk": "INSERT INTO appearance (analysis_id, media_id, trunk_id, ordinal, start_seconds,"
    " end_seconds, face_count, quality, person_id) SELECT analysis_id, media_id, layer_id,"
    " 100 + (SELECT max(ordinal) FROM appearance), 0, 1, 3, 0.9, {other}"
    " FROM appearance, layer WHERE appearance_id = {one} AND fingerprint = 'trunk old'",
    "another release": "UPDATE release SET active = false WHERE active",
}


@pytest.fixture
def session(archive_url):
    """A session on the small archive, whose changes are undone."""
    engine = make_engine(archive_url)
    with session_factory(engine)() as session:
        count_people(session)
        yield session
        session.rollback()
    engine.dispose()


def rows(session, query):
    return [tuple(row) for row in session.execute(text(query))]


def same(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-9)
    return one == other


def assert_shown_as_counted(session, told):
    shown, counted = rows(session, SHOWN), rows(session, COUNTED)
    assert len(shown) == len(counted), told
    for one, other in zip(shown, counted, strict=True):
        assert all(map(same, one, other)), (told, one, other)


def noted(session):
    return rows(session, "SELECT count(*) FROM person_change")[0][0]


def change(session, name, random):
    pick = {
        "one": f"SELECT appearance_id FROM appearance WHERE {OF_TRUNK}",
        "other": "SELECT person_id FROM person",
        "media": "SELECT media_id FROM analysis",
    } | {task: f"SELECT layer_id FROM layer WHERE fingerprint = 'reading new {task}'" for task in READ}
    chosen = {place: int(random.choice([row[0] for row in rows(session, query)])) for place, query in pick.items()}
    session.execute(text(CHANGES[name].format(**chosen)))
    session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_shown_at_once_and_after_counting(session, name):
    change(session, name, np.random.default_rng(3))
    assert_shown_as_counted(session, name)
    count_people(session)
    assert noted(session) == 0
    assert_shown_as_counted(session, name)
    assert find_differences(session) == []


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_changes_comes_to_what_is_counted(session, seed):
    random = np.random.default_rng(seed)
    done = []
    for name in random.choice([name for name in CHANGES if "erased" not in name], 12).tolist():
        change(session, name, random)
        done.append(name)
        if random.random() < 0.5:
            count_people(session)
            assert find_differences(session) == [], done
        assert_shown_as_counted(session, done)


def test_additions_do_not_read_what_was_counted(session):
    """A person with many appearances that gets one more is not read again."""
    person = rows(session, "SELECT person_id FROM people ORDER BY appearance_count DESC LIMIT 1")[0][0]
    session.execute(text("UPDATE person_total SET appearance_count = 1000 WHERE person_id = :id"), {"id": person})
    session.execute(text("UPDATE appearance SET person_id = :id WHERE person_id IS NULL"), {"id": person})
    count_people(session)
    assert rows(session, "SELECT max(appearance_count) FROM people") == [(1001,)]
    assert [one.person_id for one in find_differences(session)] == [person]
    recount_people(session)
    assert find_differences(session) == []


def test_rows_that_were_loaded_past_the_triggers_are_found_and_recounted(session):
    session.execute(text("SET LOCAL session_replication_role = replica"))
    session.execute(text("UPDATE appearance SET person_id = (SELECT min(person_id) FROM person)"))
    session.execute(text("SET LOCAL session_replication_role = origin"))
    differences = find_differences(session)
    totals = [one.counted["appearance_count"] for one in differences if "appearance_count" in (one.counted or {})]
    assert sorted(totals) == [0, 0, 8]
    assert len(differences) > len(totals)  # the readings, too
    recount_people(session)
    assert find_differences(session) == []
    assert_shown_as_counted(session, "recounted")


def test_labels_that_are_no_numbers_and_ties_are_decided_alike(session):
    session.execute(
        text("UPDATE appearance_prediction AS q SET confidence = 'NaN', label = v.label"
             " FROM (VALUES (1, 'male'), (2, 'female')) AS v (n, label), layer WHERE appearance_id % 2 + 1 = n"
             " AND layer_id = reading_id AND task = 'gender'")
    )  # fmt: skip
    session.execute(text("UPDATE appearance SET quality = 'NaN', face_count = 1"))
    count_people(session)
    assert find_differences(session) == []


def test_noted_people_are_looked_up_even_where_none_are_believed_to_be_there(session):
    """Statistics of an empty table would else have every person compared with every note."""
    plan = "\n".join(row[0] for row in rows(session, "EXPLAIN SELECT * FROM people"))
    assert "hashed SubPlan" in plan


def test_files_that_end_while_people_are_counted_are_not_forgotten(archive_url):
    """One transaction takes an analysis out of sight while another counts: neither waits, and nothing is lost."""
    engine = make_engine(archive_url)
    sessions = session_factory(engine)
    hidden = "UPDATE analysis SET is_current = {} WHERE analysis_id = (SELECT min(analysis_id) FROM appearance)"
    with sessions.begin() as session:
        recount_people(session)
    try:
        with sessions() as counting, sessions() as finishing:
            counting.execute(text("UPDATE appearance SET quality = 0.6 WHERE person_id IS NOT NULL"))
            finishing.execute(text(hidden.format("false")))
            count_people(counting)
            finishing.commit()
            counting.commit()
        with sessions.begin() as session:
            assert noted(session)
            assert_shown_as_counted(session, "not counted yet")
            count_people(session)
            assert find_differences(session) == []
            assert_shown_as_counted(session, "counted")
    finally:
        with sessions.begin() as session:
            session.execute(text(hidden.format("true")))
            session.execute(text("UPDATE appearance SET quality = 0.5 WHERE person_id IS NOT NULL"))
            count_people(session)
        engine.dispose()


def test_programs_that_count_at_once_add_nothing_twice(archive_url):
    engine = make_engine(archive_url)
    sessions = session_factory(engine)

    def there_and_back(place):
        for _ in range(5):
            for target in ("NULL", "(SELECT max(person_id) FROM person)"):
                with sessions.begin() as session:
                    session.execute(
                        text(f"UPDATE appearance SET person_id = {target} WHERE appearance_id = :id"), {"id": place}
                    )
                    count_people(session)

    before = rows_of(sessions, "SELECT appearance_id, person_id FROM appearance ORDER BY 1")
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(there_and_back, [row[0] for row in before[:4]]))
        with sessions() as session:
            assert noted(session) == 0
            assert find_differences(session) == []
    finally:
        with sessions.begin() as session:
            for appearance, person in before:
                session.execute(
                    text("UPDATE appearance SET person_id = :person WHERE appearance_id = :id"),
                    {"id": appearance, "person": person},
                )
            count_people(session)
        engine.dispose()


def rows_of(sessions, query):
    with sessions() as session:
        return rows(session, query)


def test_storing_an_appearance_without_a_person_calls_no_trigger(session):
    plan = rows(
        session,
        "EXPLAIN (ANALYZE, TIMING OFF) INSERT INTO appearance (analysis_id, media_id, trunk_id, ordinal,"
        " start_seconds, end_seconds, face_count, quality) SELECT analysis_id, media_id, trunk_id, 99, 0, 0, 1, 0.5"
        " FROM appearance WHERE person_id IS NULL",
    )
    called = [row[0] for row in plan if re.match(r"Trigger note_\w+", row[0])]
    assert called == []


def test_an_answer_that_is_added_reads_no_other_appearance(session):
    """A reading of a whole archive is stored in batches: a well-known person is not read again for each."""
    [[person, appearance]] = rows(
        session, "SELECT person_id, max(appearance_id) FROM appearance GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    )
    reading = rows(session, "SELECT layer_id FROM layer WHERE fingerprint = 'reading later age'")[0][0]
    key = {"person": person, "reading": reading, "appearance": appearance}
    session.execute(
        text("""INSERT INTO person_reading (person_id, reading_id, value_sum, value_weight)
                VALUES (:person, :reading, 1000, 10)"""),
        key,
    )
    session.execute(
        text("INSERT INTO appearance_prediction (appearance_id, reading_id, value) VALUES (:appearance, :reading, 40)"),
        key,
    )
    noted_as = rows(session, "SELECT person_id, appearance_id, reading_id FROM person_change")
    assert noted_as == [(person, appearance, reading)]
    count_people(session)
    weight = rows(session, f"SELECT face_count * 0.5 FROM appearance WHERE appearance_id = {appearance}")[0][0]
    found = rows(session, f"SELECT value_sum, value_weight FROM person_reading WHERE reading_id = {reading}")
    assert found == [(1000 + 40 * weight, 10 + weight)]


def test_answers_of_appearances_without_a_person_note_nobody(session):
    session.execute(
        text("""INSERT INTO appearance_prediction (appearance_id, reading_id, value)
                SELECT appearance_id, layer_id, 40 FROM appearance, layer
                WHERE person_id IS NULL AND fingerprint = 'reading later age'""")
    )
    assert noted(session) == 0
