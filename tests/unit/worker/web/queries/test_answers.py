from __future__ import annotations

from datetime import date

from worker.web.queries.answers import MAX_FACET_VALUES, SHOWN_FACET_VALUES, QueryAnswer, facets


def counted(columns, rows):
    names, types = zip(*columns, strict=True)
    found = facets(QueryAnswer(columns=names, types=types, rows=tuple(rows), is_cut=False, seconds=0.0))
    return {facet.column: [(one.value, one.rows) for one in facet.values] for facet in found}


def test_columns_of_few_values_are_counted():
    columns = [("gender", "text"), ("active", "bool"), ("day", "date"), ("age", "float4"), ("face_id", "int8")]
    rows = [
        ("female" if number % 3 else None, number % 2 == 0, date(2026, 1, 1 + number % 2), 1.0, number)
        for number in range(12)
    ]
    assert counted(columns, rows) == {
        "gender": [("female", 8), (None, 4)],
        "active": [("true", 6), ("false", 6)],
        "day": [("2026-01-01", 6), ("2026-01-02", 6)],
    }


def test_columns_of_one_value_or_of_many_are_no_choice():
    columns = [("one", "text"), ("many", "text"), ("own", "text")]
    rows = [("a", str(number % (MAX_FACET_VALUES + 1)), str(number)) for number in range(100)]
    assert counted(columns, rows) == {}


def test_only_the_commonest_values_show():
    rows = [(str(number % 15),) for number in range(60)]
    assert len(counted([("word", "text")], rows)["word"]) == SHOWN_FACET_VALUES


def test_columns_of_one_name_are_no_choice():
    assert counted([("x", "text"), ("x", "text")], [("a", "b"), ("c", "d")] * 4) == {}


def test_no_rows_have_no_choice():
    assert counted([("x", "text")], []) == {}
