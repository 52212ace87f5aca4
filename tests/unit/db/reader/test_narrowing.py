from __future__ import annotations

import pytest

from db.errors import WrongQuery
from db.reader.narrowing import Narrowing, narrow_query
from db.reader.sqltext import read_query


def test_a_query_stands_in_another_one():
    narrowed = narrow_query("SELECT 1 AS x; -- end", Narrowing(limit=7, only={}))
    assert narrowed.startswith("SELECT answer.* FROM (\nSELECT 1 AS x\n) AS answer\n")
    assert narrowed.endswith("LIMIT 7")


def test_names_and_values_are_quoted():
    narrowed = narrow_query("TABLE faces", Narrowing(limit=1, only={'a"b': "O'x", "c": None}))
    assert "answer.\"a\"\"b\"::text = 'O''x'" in narrowed
    assert 'answer."c" IS NULL' in narrowed


def test_a_plan_stays_as_it_is():
    assert narrow_query("EXPLAIN SELECT 1", Narrowing(limit=1, only={})) == "EXPLAIN SELECT 1"


def test_no_query_is_refused():
    with pytest.raises(WrongQuery):
        narrow_query("DELETE FROM face", Narrowing(limit=1, only={}))


def test_what_is_called_inside_is_still_seen():
    assert "pg_sleep" in read_query(narrow_query("SELECT pg_sleep(1)", Narrowing(limit=1, only={}))).calls
