from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from worker.web.queries.answers import QueryAnswer
from worker.web.queries.charts import HEIGHT, MAX_BARS, WIDTH, Bars, TimeLine, chart_of


def made(columns, rows, *, is_cut=False):
    names = [name for name, _ in columns]
    types = [kind for _, kind in columns]
    return QueryAnswer(columns=tuple(names), types=tuple(types), rows=tuple(rows), is_cut=is_cut, seconds=0.1)


OUTCOMES = [("outcome", "text"), ("faces", "int8"), ("percent", "numeric")]


def test_names_and_counts_are_bars():
    chart = chart_of(made(OUTCOMES, [("(kept)", 80, Decimal("80.0")), ("too small", 20, Decimal("20.0"))]))
    assert isinstance(chart, Bars)
    assert (chart.measure, chart.names) == ("faces", "outcome")
    assert [(bar.name, bar.value, bar.share) for bar in chart.bars] == [
        ("(kept)", "80", 100.0),
        ("too small", "20", 25.0),
    ]


def test_two_names_are_one_label():
    columns = [("uri", "text"), ("gender", "text"), ("seconds", "float8")]
    chart = chart_of(made(columns, [("a.mp4", "female", 2.0), ("a.mp4", None, 1.0)]))
    assert [bar.name for bar in chart.bars] == ["a.mp4 · female", "a.mp4 · (none)"]


def test_numbers_without_names_are_bars_of_their_key():
    columns = [("person_id", "int8"), ("files", "int8")]
    assert [bar.name for bar in chart_of(made(columns, [(7, 3), (9, 1)])).bars] == ["7", "9"]


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("timestamptz", [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 4)]),
        ("date", [date(2026, 1, day) for day in (1, 2, 4)]),
        ("int4", [1, 2, 4]),
        ("text", ["1961", "1962", "1964"]),
    ],
)
def test_a_number_over_time_is_a_line(kind, times):
    columns = [("year", kind), ("faces", "int8")]
    chart = chart_of(made(columns, zip(times, (0, 10, 5), strict=True)))
    assert isinstance(chart, TimeLine)
    points = [tuple(map(float, one.split(","))) for one in chart.points.split()]
    assert points[0] == (0.0, HEIGHT)
    assert points[1] == (pytest.approx(WIDTH / 3, abs=0.1), 0.0)
    assert points[2] == (WIDTH, HEIGHT / 2)
    assert (chart.measure, chart.time, chart.least, chart.most) == ("faces", "year", "0", "10")


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (OUTCOMES, [("(kept)", 80, Decimal(1))]),  # one row
        (OUTCOMES, [("a", 1, None), ("a", 2, None)]),  # a name twice
        (OUTCOMES, [("a", None, None), ("b", 2, None)]),  # no number
        (OUTCOMES, [("a", -1, None), ("b", 2, None)]),  # below zero
        (OUTCOMES, [("a", 0, None), ("b", 0, None)]),  # nothing to draw
        (OUTCOMES, [(f"{number}", 1, None) for number in range(MAX_BARS + 1)]),
        ([("face_id", "int8"), ("media_id", "int8")], [(1, 2), (3, 4)]),  # keys alone
        ([("name", "text")], [("a",), ("b",)]),
        ([("year", "int4"), ("faces", "int8")], [(1, 1), (3, 1), (2, 1)]),  # not in order
        ([("year", "int4"), ("faces", "float8")], [(1, 1.0), (2, float("nan")), (3, 1.0)]),
        ([("outcome", "text"), ("faces", "float8")], [("a", float("inf")), ("b", 1.0)]),
        ([("outcome", "text"), ("faces", "float8")], [("a", float("nan")), ("b", 1.0)]),
        ([], [(), ()]),
    ],
)
def test_what_has_no_obvious_chart_has_none(columns, rows):
    assert chart_of(made(columns, rows)) is None


def test_a_cut_answer_has_no_chart():
    assert chart_of(made(OUTCOMES, [("a", 1, None), ("b", 2, None)], is_cut=True)) is None
