"""The queue of pairs over a real database: answers are kept, and the next visit goes on where it stopped."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text


@pytest.fixture
def pairs(people):
    """Three pairs of the four people, as identification would note them; returns the people."""
    crowd = people
    numbers = sorted(set(crowd.who().values()))
    crowd.session.execute(
        text("""INSERT INTO person_alike (trunk_id, first_person_id, second_person_id)
                VALUES (:t, :a, :b), (:t, :a, :c), (:t, :b, :d)"""),
        {"t": crowd.trunk_id} | dict(zip("abcd", numbers, strict=True)),
    )
    crowd.session.commit()
    return crowd


def pair_of(page):
    """Return the pair that a page asks about, None for none."""
    form = page.text.partition('class="bar answers"')[2]  # behind that of the note
    found = re.findall(r'name="(?:first|second)" value="(\d+)"', form)
    return tuple(map(int, found)) or None


def answer(browser, pair, given, status=200):
    fields = {"first": pair[0], "second": pair[1], "answer": given, "back": "/same"}
    return browser.post("/same", fields, status)


def test_answers_come_one_after_the_other_and_never_again(pairs, browser):
    page = browser.get("/same")
    asked = []
    for given in ("no", "skip", "yes"):
        pair = pair_of(page)
        asked.append(pair)
        page = answer(browser, pair, given)
        assert page.url.path == "/same"
    assert len(set(asked)) == 3
    assert pair_of(page) is None
    assert "You are through: 3 pairs answered (1 yes, 1 no, 1 skipped)" in page.text
    assert pair_of(browser.get("/same")) is None
    kinds = pairs.session.execute(text("SELECT kind FROM corrections ORDER BY correction_id")).scalars().all()
    assert kinds == ["not", "merge"]


def test_progress_is_shown_and_both_faces(pairs, browser):
    page = browser.get("/same")
    assert "0 answered, 3 to go" in page.text
    assert page.text.count('class="large"') == 2
    assert "Similarity " in page.text  # the made release has no calibration
    page = answer(browser, pair_of(page), "skip")
    assert "1 answered, 2 to go" in page.text


@pytest.mark.parametrize("given", ["yes", "no", "skip"])
def test_an_undo_asks_again(pairs, browser, given):
    first = pair_of(browser.get("/same"))
    page = answer(browser, first, given)
    assert pair_of(page) != first
    form = re.search(r'<form method="post" action="([^"]+)" data-undo>(.*?)</form>', page.text, re.DOTALL)
    fields = dict(re.findall(r'name="(first|second)" value="(\d+)"', form[2]))
    page = browser.post(form[1], fields | {"back": "/same"})
    assert pair_of(page) == first
    assert "0 answered, 3 to go" in page.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"first": 1, "second": 2}, "no answer was given"),
        ({"first": 1, "second": 2, "answer": "perhaps"}, "expected one of yes, no, skip"),
        ({"first": 1, "answer": "yes"}, "names no pair"),
        ({"first": 1, "second": 1, "answer": "yes"}, "twice"),
        ({"first": 1, "second": 999, "answer": "no"}, "there is no person 999"),
    ],
)
def test_wrong_use_is_a_sentence(pairs, browser, fields, message):
    assert message in browser.post("/same", fields, 400).text


def test_an_archive_without_pairs_says_so(people, browser):
    assert "No pair is waiting" in browser.get("/same").text
