from __future__ import annotations

import pytest

from db.errors import WrongQuery
from db.reader.questions import Parameter, find_question, read_questions

LIST = Parameter(name="rows", kind="integer", usual="10", meaning="Most rows")


def of(kind, usual="1"):
    return Parameter(name="it", kind=kind, usual=usual, meaning="A value")


def test_every_question_has_a_name_of_its_own():
    names = [one.name for one in read_questions()]
    assert len(names) == len(set(names)) >= 30
    assert {find_question(name).name for name in names} == set(names)
    assert find_question("who-is-it") is None


def test_every_parameter_is_used_and_none_is_left_over():
    for one in read_questions():
        for parameter in one.parameters:
            marked = one.sql({parameter.name: "4711" if parameter.kind != "date" else "1847-11-01"})
            assert ("4711" in marked) or ("1847-11-01" in marked), f"{one.title}: {parameter.name}"
        assert not [word for word in one.sql().split() if word.startswith(":")], one.title


def test_values_take_the_place_of_parameters():
    asked = find_question("where-is-one-person-seen")
    assert "p.name = 'Ada'" in asked.sql()
    assert "p.name = 'O''Brien; DROP TABLE x --'" in asked.sql({"name": "O'Brien; DROP TABLE x --"})


def test_a_value_that_looks_like_a_parameter_stays_a_value():
    asked = find_question("how-probable-is-every-label-of-one-head")
    assert "face_id = 7 AND head = ':face'" in asked.sql({"face": "7", "head": ":face"})


def test_types_are_no_parameters():
    assert "a.age::real > 5::int" not in find_question("where-is-one-person-seen").sql()
    assert "::numeric" in find_question("where-is-one-person-seen").sql()


@pytest.mark.parametrize(
    ("kind", "value", "literal"),
    [
        ("integer", " 0012 ", "12"),
        ("integer", "9223372036854775807", "9223372036854775807"),
        ("number", "-0.25", "-0.25"),
        ("date", "1970-01-31", "'1970-01-31'"),
        ("text", "a'b\\", "'a''b\\'"),
        ("text", "", "''"),
        ("text", "é\U0001f600", "'é\U0001f600'"),
    ],
)
def test_literals(kind, value, literal):
    assert of(kind).literal(value) == literal


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", "1; DROP TABLE face"),
        ("integer", "-1"),
        ("integer", ""),
        ("integer", "9223372036854775808"),
        ("integer", "²"),
        ("number", "1e999"),
        ("number", "nan"),
        ("number", "1 OR 1=1"),
        ("date", "1970-02-31"),
        ("date", "yesterday'"),
        ("text", "a\0b"),
        ("text", "\udc80"),
        ("text", "x" * 1001),
    ],
)
def test_other_values_are_refused_with_what_is_expected(kind, value):
    with pytest.raises(WrongQuery, match=r"it is .*; expected "):
        of(kind).literal(value)


def test_a_long_value_is_not_repeated_in_full():
    with pytest.raises(WrongQuery) as refused:
        LIST.literal("9" * 5000)
    assert len(str(refused.value)) < 200
