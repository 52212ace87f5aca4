"""Values of addresses and forms: what cannot be used is named, and no way back leaves this server."""

from __future__ import annotations

import pytest
from starlette.datastructures import FormData

from worker.errors import UsageError
from worker.web.forms import choice_of, decimal_of, local_address, numbers_of, text_of, whole_of


def test_values_are_read():
    given = {"name": "  Ada\u0308 ", "age": "12", "share": "0.5", "kind": "video", "empty": " "}
    assert text_of(given, "name") == "Ad\u00e4"
    assert (whole_of(given, "age"), decimal_of(given, "share")) == (12, 0.5)
    assert choice_of(given, "kind", ("image", "video")) == "video"
    assert [read(given, "empty") for read in (text_of, whole_of, decimal_of)] == [None] * 3
    assert text_of({}, "name") is None


@pytest.mark.parametrize("value", ["-1", "1.0", "x", "\u0663", "9" * 20, "0x10", "1_0", "9223372036854775808"])
def test_no_number_of_a_row(value):
    with pytest.raises(UsageError, match="expected a whole number"):
        whole_of({"n": value}, "n")


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "x", "1e999"])
def test_no_finite_number(value):
    with pytest.raises(UsageError, match="expected a number"):
        decimal_of({"n": value}, "n")


def test_text_that_no_database_stores():
    with pytest.raises(UsageError, match=r"x00, which no database stores"):
        text_of({"name": "a\0"}, "name")
    with pytest.raises(UsageError, match="expected at most 3"):
        text_of({"name": "abcd"}, "name", limit=3)


def test_numbers_come_once_and_in_order():
    assert numbers_of(FormData([("person", "7"), ("person", "3"), ("person", "7"), ("other", "1")]), "person") == [7, 3]


@pytest.mark.parametrize(
    "given",
    [None, "", "people", "//evil.example", "/\\evil.example", "https://a.b", "/a\r\nb", "/a\\b", "/\u00e9"],
)
def test_the_way_back_is_ours(given):
    assert local_address(given, "/people") == "/people"


def test_an_address_of_ours_is_kept():
    assert local_address("/people?q=%C3%A9&after=3:4", "/") == "/people?q=%C3%A9&after=3:4"
