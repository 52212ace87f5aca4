"""The rows that PostgreSQL expects of questions about appearances, on which the kind of join depends."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from db.engine import make_engine
from db.reader.run_query import RESOURCES
from db.schema.roles import LIMITS

APPEARANCES = 6000
FEMALE = 2000  # a third of them
ANSWERS = """
SET LOCAL session_replication_role = replica;
INSERT INTO appearance_prediction (reading_id, appearance_id, label)
SELECT 1000 + head, place, (ARRAY[
    CASE place % 3 WHEN 0 THEN 'female' WHEN 1 THEN 'male' ELSE 'unsure' END,
    'group ' || place % 7, 'mood ' || place % 8
])[head]
FROM generate_series(1, :appearances) AS place, generate_series(1, 5) AS head;
ANALYZE appearance_prediction
"""
# As in the views, the reading is not known before the query runs.
GENDER = "reading_id = (SELECT 1001 + 0 * count(*) FROM release)"


@pytest.fixture
def connection(database_url):
    """A connection to 6,000 appearances with the answers of five heads, three of which have labels."""
    engine = make_engine(database_url)
    with engine.connect() as connection:
        for statement in ANSWERS.split(";\n"):
            connection.execute(text(statement), {"appearances": APPEARANCES} if ":appearances" in statement else {})
        yield connection
    engine.dispose()


def expected_rows(connection, query):
    """Return the number of rows that PostgreSQL expects of a query."""
    (plan,) = connection.execute(text(f"EXPLAIN (FORMAT JSON) {query}")).scalar_one()
    return plan["Plan"]["Plan Rows"]


def test_a_label_is_expected_as_often_as_its_head_gives_it(connection):
    expected = expected_rows(
        connection, f"SELECT appearance_id FROM appearance_prediction WHERE {GENDER} AND label = 'female'"
    )
    assert FEMALE / 2 < expected < FEMALE * 2


def test_a_question_by_label_expects_the_groups_of_one_head(connection):
    assert expected_rows(connection, "SELECT label FROM appearance_prediction GROUP BY label") <= 4


def test_a_login_as_the_reader_plans_as_the_commands_do():
    assert RESOURCES.items() <= LIMITS.items()
