from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from db.errors import QueryError, WrongQuery
from db.reader.cancelling import cancel_query, named
from db.reader.narrowing import MAX_ROW_BYTES, TOO_LARGE, Narrowing, narrow_query
from db.reader.questions import read_questions
from db.reader.run_query import run_query

SLOW = "SELECT count(*) FROM generate_series(1, 100000000000)"


def ask(url, query, limit=10, only=None):
    with run_query(url, narrow_query(query, Narrowing(limit=limit, only=only or {})), timeout_seconds=20) as result:
        return result.columns, list(result)


def plain(url, query):
    with run_query(url, query, timeout_seconds=20) as result:
        return result.columns, list(result)


@pytest.mark.parametrize("question", read_questions(), ids=lambda one: one.name)
def test_every_question_answers_the_same(archive_url, question):
    query = question.sql().replace("now()", "timestamptz '2027-01-01'")
    assert ask(archive_url, query, limit=100_000) == plain(archive_url, query)


def test_rows_are_chosen_by_value_and_by_null(archive_url):
    query = "SELECT * FROM (VALUES (1, 'a', true), (2, 'b', NULL), (3, 'a', NULL)) AS t (n, word, flag);"
    assert ask(archive_url, query, only={"word": "a"})[1] == [(1, "a", True), (3, "a", None)]
    assert ask(archive_url, query, only={"word": "a", "flag": None})[1] == [(3, "a", None)]
    assert ask(archive_url, query, only={"flag": "true", "n": "1"})[1] == [(1, "a", True)]
    assert ask(archive_url, query, limit=1)[1] == [(1, "a", True)]


def test_columns_of_one_name_stay(archive_url):
    assert ask(archive_url, "SELECT 1 AS answer, 2 AS answer, 3 AS x") == (["answer", "answer", "x"], [(1, 2, 3)])


def test_a_large_row_is_refused_before_it_is_read(archive_url):
    fits = f"SELECT repeat('x', {MAX_ROW_BYTES - 100}) AS x"
    assert len(ask(archive_url, fits)[1][0][0]) == MAX_ROW_BYTES - 100
    with pytest.raises(QueryError, match=f"{TOO_LARGE}[0-9]+ bytes"):
        ask(archive_url, f"SELECT repeat('x', {MAX_ROW_BYTES}) AS x")
    with pytest.raises(QueryError):
        ask(archive_url, "SELECT repeat('x', 1000000000) AS x FROM generate_series(1, 1000)")


def test_a_condition_on_a_column_that_is_missing_or_doubled_is_a_mistake(archive_url):
    with pytest.raises(WrongQuery, match="does not exist"):
        ask(archive_url, "SELECT 1 AS x", only={"y": "1"})
    with pytest.raises(WrongQuery, match="ambiguous"):
        ask(archive_url, "SELECT 1 AS x, 2 AS x", only={"x": "1"})


@pytest.mark.parametrize("query", ["SELECT 1) AS a; DELETE FROM facet.job; --", "SELECT 1) AS a, LATERAL (SELECT 1"])
def test_a_query_that_leaves_its_brackets_gets_nowhere(archive_url, query):
    with suppress(QueryError):
        ask(archive_url, query)
    assert plain(archive_url, "SELECT count(*) > 0 FROM jobs")[1] == [(True,)]


def test_a_query_is_cancelled_by_its_name(archive_url):
    raised = []

    def run():
        try:
            with run_query(archive_url, SLOW, timeout_seconds=60, settings=named("facet web test 1")) as result:
                list(result)
        except QueryError as err:
            raised.append(str(err))

    thread = threading.Thread(target=run)
    began = time.monotonic()
    thread.start()
    while thread.is_alive():
        assert time.monotonic() - began < 20
        cancel_query(archive_url, "facet web test 1")
        thread.join(0.05)
    assert raised == ["the query was cancelled"]
    assert cancel_query(archive_url, "facet web test 1") == 0
    assert cancel_query(archive_url, "facet web test 2") == 0
