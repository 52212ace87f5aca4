from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import QueryError
from db.reader.sqltext import BEGINNINGS, read_query, without_end


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        ("SELECT f(1), g (2), h\n(3)", {"f", "g", "h"}),
        ("select pg_catalog.Set_Config('a', 'b', true)", {"set_config"}),
        ('select "Set_Config" (1), "a""b"(2)', {"Set_Config", 'a"b'}),
        ("select f/* between /* nested */ */ (1)", {"f"}),
        ("select f -- between\n (1)", {"f"}),
        ("select 'f(1)', '''g(2)', \"h(3)\"", set()),
        ("select $$ f(1) $$, $tag$ g(2) $$ $tag$", set()),
        ("select a$b$(1), $1$x$ f(2) $x$", {"a$b$"}),
        ("select 1 /* f(1) */ -- g(2)", set()),
        ("select é(1), f\u00a0(2)", {"é", "f\u00a0"}),
        ("select a, (b) from c", set()),
        ("select 'a' \n 'b', f(1)", {"f"}),
        ("select 'never closed f(1)", set()),
        ("select x from t where y in (1, 2)", {"in"}),
    ],
)
def test_calls_are_names_before_a_parenthesis(query, calls):
    assert read_query(query).calls == calls


@pytest.mark.parametrize(
    "query", ["select 1", " /* why */ WITH a AS (VALUES (1)) TABLE a", "((select 1))", "explain table faces"]
)
def test_questions_may_begin_so(query):
    assert read_query(query).beginning in BEGINNINGS


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("delete from faces", "'delete'"),
        ("/* select */ drop table face", "'drop'"),
        ("", "no word"),
        ("; select 1", "no word"),
        ('"select" 1', "no word"),
    ],
)
def test_others_may_not(query, found):
    with pytest.raises(QueryError, match=found):
        read_query(query)


@pytest.mark.parametrize("query", [r"select E'a\'b'", "select e'a'", "select U&'a'", 'select u&"a"(1)'])
def test_notations_that_could_hide_a_call_are_refused(query):
    with pytest.raises(QueryError, match="expected plain"):
        read_query(query)


@given(st.text())
def test_any_text_is_read_to_its_end(text):
    read_query(f"select {text.replace(chr(39), '').replace(chr(34), '')}")


@given(st.text(alphabet="ab '\"$*/-\n(E", max_size=30))
def test_hostile_text_ends_in_an_answer_or_a_refusal(text):
    with suppress(QueryError):
        read_query(f"select {text}")


@pytest.mark.parametrize(
    ("query", "stays"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT 1 ; \n", "SELECT 1"),
        ("SELECT 1; -- why ;\n;; /* and /* ; */ */", "SELECT 1"),
        ("SELECT ';'", "SELECT ';'"),
        ("SELECT $$;$$;", "SELECT $$;$$"),
        ("SELECT 1; SELECT 2;", "SELECT 1; SELECT 2"),
        ("SELECT '-- x' -- y", "SELECT '-- x'"),
        ("SELECT 'never closed; -- x", "SELECT 'never closed; -- x"),
        (" ; ", ""),
    ],
)
def test_the_end_of_a_query_is_taken_off(query, stays):
    assert without_end(query) == stays
