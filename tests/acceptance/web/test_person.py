"""The pages of a person and the queue of pairs in a real browser, with the mouse and with the keyboard alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from worker.config import Settings
from worker.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session, sessionmaker

    from tests.acceptance.web.conftest import Site


@pytest.fixture(scope="module")
def sessions(site: Site) -> Iterator[sessionmaker[Session]]:
    """Open the database of the running page."""
    with open_database(Settings(home=site.home)) as database:
        yield database.sessions


@pytest.fixture
def people(sessions):
    """Return the people of the demonstration, those with the most appearances first."""
    with sessions() as session:
        return list(session.scalars(text("SELECT person_id FROM people ORDER BY appearance_count DESC, person_id")))


@pytest.fixture
def pair(sessions, people):
    """Note a merge candidate, as identification does."""
    with sessions.begin() as session:
        session.execute(
            text("""INSERT INTO person_alike (trunk_id, first_person_id, second_person_id)
                    SELECT trunk_id, least(cast(:a AS bigint), :b), greatest(cast(:a AS bigint), :b)
                    FROM release WHERE active ON CONFLICT DO NOTHING"""),
            {"a": people[0], "b": people[1]},
        )


def corrections(sessions) -> list[tuple[str, bool]]:
    """Return the kind of each correction, and whether it holds."""
    with sessions() as session:
        rows = session.execute(text("SELECT kind, undone_at IS NULL FROM corrections ORDER BY correction_id"))
        return [tuple(row) for row in rows]


def appearances(sessions, person: int) -> int:
    with sessions() as session:
        return session.scalar(text("SELECT count(*) FROM appearances WHERE person_id = :p"), {"p": person})


def test_faces_are_chosen_taken_out_and_brought_back(sessions, people, open_page):
    person = people[0]
    before, known = appearances(sessions, person), len(corrections(sessions))
    page = open_page(f"/people/{person}")
    take_out = page.get_by_role("button", name="Not this person")
    assert take_out.is_disabled()
    page.locator("[data-card] input[type=checkbox]").first.check()
    assert page.locator("[data-count]").inner_text() == "1"
    take_out.click()
    page.get_by_text("1 face was taken out").wait_for()
    assert appearances(sessions, person) == before - 1
    page.get_by_role("button", name="Undo").click()
    page.locator(".note", has_text="is undone").wait_for()
    assert appearances(sessions, person) == before
    assert corrections(sessions)[known:] == [("not", False)]


def test_keys_alone_split_a_person_and_undo_it(sessions, people, open_page):
    person = people[0]
    before, known = appearances(sessions, person), len(corrections(sessions))
    page = open_page(f"/people/{person}")
    for key in "jxjx":
        page.keyboard.press(key)
    assert page.locator("[data-count]").inner_text() == "2"
    page.keyboard.press("s")
    page.get_by_text("2 faces are person").wait_for()
    assert appearances(sessions, person) == before - 2
    page.keyboard.press("z")
    page.locator(".note", has_text="is undone").wait_for()
    assert appearances(sessions, person) == before
    assert corrections(sessions)[known:] == [("split", False)]


def test_a_name_is_typed_suggested_and_offers_a_merge(sessions, people, open_page):
    first, second = people[0], people[1]
    known = len(corrections(sessions))
    page = open_page(f"/people/{first}")
    page.keyboard.press("n")
    page.keyboard.type("Ada <b>Lovelace</b>")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Ada <b>Lovelace</b>").wait_for()
    assert page.locator("h1 b").count() == 0  # a name is text
    page = open_page(f"/people/{second}")
    page.get_by_label("Name", exact=True).fill("ada")
    page.locator("#names option").wait_for(state="attached")
    assert page.locator("#names option").get_attribute("value") == "Ada <b>Lovelace</b>"
    page.get_by_label("Name", exact=True).fill("Ada <b>Lovelace</b>")
    page.get_by_role("button", name="Name", exact=False).first.click()
    page.get_by_role("heading", name=re.compile("called Ada .* already")).wait_for()
    page.get_by_role("button", name="Yes, merge them").click()
    page.get_by_text(f"2 people are one now: person {first}").wait_for()
    assert page.url.endswith(f"/people/{first}")
    for _ in range(2):
        page.goto(f"/people/{first}/history")
        page.get_by_role("button", name=re.compile("^Undo")).first.click()
        page.locator(".note", has_text="is undone").wait_for()
    assert corrections(sessions)[known:] == [("name", False), ("merge", False)]


@pytest.mark.parametrize("inner", ["", "?order=groups", "/times", "/company", "/history", "/forget"])
def test_every_page_of_a_person_is_for_all(people, check_page, inner):
    name = re.sub(r"\W", "", inner) or "faces"
    check_page(f"/people/{people[0]}{inner}", f"person-{name}")


def test_the_queue_is_for_all(pair, check_page):
    check_page("/same", "same")


def test_pairs_are_answered_by_keys_and_stay_answered(pair, sessions, open_page):
    known = len(corrections(sessions))
    page = open_page("/same")
    page.get_by_text("0 answered, 1 to go").wait_for()
    assert re.search(r"\d % probable", page.content())
    page.keyboard.press("n")
    page.get_by_text("You are through: 1 pair answered (0 yes, 1 no, 0 skipped)").wait_for()
    page.keyboard.press("z")
    page.get_by_text("0 answered, 1 to go").wait_for()
    page.keyboard.press("y")
    page.get_by_text("You are through: 1 pair answered (1 yes").wait_for()
    page.keyboard.press("z")
    page.get_by_text("0 answered, 1 to go").wait_for()
    page.keyboard.press("s")
    page.get_by_text("You are through: 1 pair answered (0 yes, 0 no, 1 skipped)").wait_for()
    assert corrections(sessions)[known:] == [("not", False), ("merge", False)]
    page = open_page("/same")  # another visit goes on where this one stopped
    page.get_by_text("You are through").wait_for()


def test_a_person_without_scripts_is_corrected_by_forms(sessions, people, open_page):
    person = people[0]
    before = appearances(sessions, person)
    page = open_page(f"/people/{person}", java_script_enabled=False)
    page.locator("[data-card] input[type=checkbox]").first.check()
    page.get_by_role("button", name="Make a new person").click()
    page.get_by_text("1 face is person").wait_for()
    page.get_by_role("button", name="Undo").click()
    assert appearances(sessions, person) == before


def test_a_person_is_forgotten_after_typing_the_number(sessions, people, open_page):
    person = people[-1]
    page = open_page(f"/people/{person}/forget")
    page.get_by_label("to confirm").fill(f"person {person}")
    page.get_by_role("button", name="Erase for good").click()
    page.get_by_role("heading", name=f"Person {person} is erased").wait_for()
    assert "receipt_sha256" in page.content()
    assert appearances(sessions, person) == 0
