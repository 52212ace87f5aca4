"""The grid of people: filters, pages, edits with the visitor's name, and undoing them."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from worker.identity.proposals import regroup_people
from worker.identity.regroup import Alarm
from worker.web.access.visitor import Role
from worker.web.queries.person.people import PEOPLE_ORDERS, PeopleFilter, list_people


def cards(response) -> list[int]:
    return [int(number) for number in re.findall(r'href="/people/(\d+)"', response.text)]


def rows(crowd, query: str):
    crowd.session.rollback()
    found = crowd.session.execute(text(query)).all()
    crowd.session.rollback()
    return found


def test_people_are_shown_with_their_facts(people, browser):
    page = browser.get("/people")
    assert sorted(cards(page)) == [1, 2, 3, 4]
    assert "3 appearances in 3 files" in page.text
    assert "1 appearance in 1 file" in page.text
    assert 'src="/faces/' in page.text


def test_filters_and_orders(people, browser):
    browser.post("/people/name", {"person": [4], "name": "Ada 100%"})
    browser.post("/people/hide", {"person": [2]})
    assert cards(browser.get("/people?files=2")) == [3, 1]
    assert cards(browser.get("/people?naming=named")) == [4]
    assert sorted(cards(browser.get("/people?naming=unnamed"))) == [1, 3]
    assert cards(browser.get("/people?q=ada 1")) == [4]
    assert cards(browser.get("/people?q=0%25")) == [4]
    assert cards(browser.get("/people?q=a%25%25")) == []
    assert cards(browser.get("/people?hidden=1")) == [2]
    assert cards(browser.get("/people?sort=name")) == [4]
    assert cards(browser.get("/people?sort=newest")) == [4, 3, 1]
    (uri,) = rows(people, "SELECT uri FROM appearances JOIN media USING (media_id) WHERE person_id = 4")
    assert cards(browser.get(f"/people?folder={uri.uri}")) == [4]
    assert cards(browser.get("/people?folder=/elsewhere")) == []
    assert cards(browser.get("/people?job=77")) == []
    assert cards(browser.get("/people?year=1969")) == []


def test_an_unsure_person_resembles_another(people, browser):
    people.session.execute(
        text("INSERT INTO person_alike (first_person_id, second_person_id, trunk_id) VALUES (1, 3, :t)"),
        {"t": people.trunk_id},
    )
    people.session.commit()
    assert sorted(cards(browser.get("/people?unsure=1"))) == [1, 3]
    people.session.execute(
        text("""INSERT INTO pair_answer (first_person_id, second_person_id, answer) VALUES (1, 3, 'skipped')""")
    )
    people.session.commit()
    assert sorted(cards(browser.get("/people?unsure=1"))) == [1, 3], "skipped is no answer"


@pytest.mark.parametrize("order", PEOPLE_ORDERS)
def test_pages_show_everyone_once(people, desk, browser, order):
    for number, name in ((1, "Bea"), (2, "ada"), (3, "Ada"), (4, "Cleo")):
        browser.post("/people/name", {"person": [number], "name": name, "same_name": "both"})
    seen, after = [], None
    with desk.reading() as connection:
        whole = list_people(connection, PeopleFilter(order=order)).people
        for _ in range(4):
            page = list_people(connection, PeopleFilter(order=order), after, limit=1)
            seen += [one.person_id for one in page.people]
            after = page.after
    assert seen == [one.person_id for one in whole]
    assert (sorted(seen), after) == ([1, 2, 3, 4], None)


@pytest.mark.parametrize(
    "query", ["sort=random", "job=x", "age_from=-1", "after=nothing", "files=99999999999999999999", "year=0", "q=%00"]
)
def test_a_wrong_address_is_explained(people, browser, query):
    page = browser.get(f"/people?{query}", 400)
    assert re.search("expected|go to its first page|take the special", page.text), page.text


def test_people_are_merged_in_the_name_of_the_visitor_and_undone(people, as_role):
    with as_role(Role.REVIEWER, "grace") as browser:
        browser.post("/people/name", {"person": [2], "name": "Ada"})
        page = browser.post("/people/merge", {"person": [1, 2]})
        assert "2 people are one now: person 2" in page.text
        assert 'action="/corrections/undo"' in page.text
        assert sorted(cards(page)) == [2, 3, 4]
        made = rows(people, "SELECT kind, made_by FROM corrections ORDER BY correction_id")
        assert [tuple(row) for row in made] == [("name", "grace"), ("merge", "grace")]
        assert "2 people are one now" not in browser.get("/people").text, "a note is shown once"
        correction = re.search(r'name="correction" value="(\d+)"', page.text)[1]
        assert sorted(cards(browser.post("/corrections/undo", {"correction": correction}))) == [1, 2, 3, 4]
        assert "Ada" not in browser.post("/corrections/undo", {}).text.partition("<main")[2]
        page = browser.post("/corrections/undo", {}, 400)
        assert "grace has no correction to undo" in page.text


def test_hiding_is_undone(people, browser):
    page = browser.post("/people/hide", {"person": [1, 3]})
    assert "2 people hidden" in page.text
    assert sorted(cards(page)) == [2, 4]
    assert sorted(cards(browser.post("/people/show", {"people": "1,3"}))) == [1, 2, 3, 4]
    assert [tuple(row) for row in rows(people, "SELECT count(*) FROM people WHERE hidden_at IS NOT NULL")] == [(0,)]


def test_hiding_holds_through_a_regrouping(people, archive, browser):
    hidden = people.ids(2)
    people.session.commit()
    browser.post("/people/hide", {"person": [2]})
    regroup_people(archive.sessions, people.trunk_id, Alarm(share=1.0, floor=0), force=True)
    shown = rows(people, f"SELECT person_id FROM appearances WHERE appearance_id IN ({', '.join(map(str, hidden))})")
    (person,) = {row.person_id for row in shown}
    assert cards(browser.get("/people?hidden=1")) == [person]
    assert person not in cards(browser.get("/people"))
    assert len(cards(browser.get("/people"))) == 3


def test_a_name_that_another_person_has_offers_a_merge(people, browser):
    browser.post("/people/name", {"person": [1], "name": "Ada"})
    page = browser.post("/people/name", {"person": [3, 4], "name": "ADA", "back": "/people?sort=newest"}).text
    assert "Someone is called <bdi>ADA</bdi> already" in page
    assert re.findall(r'name="person" value="(\d+)"', page) == ["3", "4"] * 2  # of both forms
    assert re.findall(r'name="into" value="(\d+)"', page) == ["1"]
    assert 'class="button" href="/people?sort=newest">Cancel' in page
    named = [tuple(row) for row in rows(people, "SELECT person_id, name FROM people WHERE name IS NOT NULL")]
    assert named == [(1, "Ada")]
    merged = browser.post("/people/merge", {"person": [3, 4], "into": 1, "back": "/people?sort=newest"})
    assert "3 people are one now: person 1." in merged.text
    assert merged.url.query == b"sort=newest"
    assert sorted(cards(merged)) == [1, 2]


def test_the_one_to_merge_into_stays_though_others_have_names_and_more_appearances(people, browser):
    browser.post("/people/name", {"person": [1], "name": "Bea"})
    assert "person 4." in browser.post("/people/merge", {"person": [1], "into": 4}).text
    assert cards(browser.get("/people?sort=newest")) == [4, 3, 2]
    assert "there is no person 999" in browser.post("/people/merge", {"person": [2], "into": 999}, 400).text


def test_people_may_share_a_name(people, browser):
    browser.post("/people/name", {"person": [1], "name": "Ada"})
    page = browser.post("/people/name", {"person": [3], "name": "ADA", "same_name": "both"}).text
    assert "Person 3 is called ADA." in page
    assert browser.get("/people/names?q=ad").json() == ["ADA", "Ada"]
    page = browser.post("/people/name", {"person": [2], "name": "ada", "back": "//evil.example"}).text
    assert "2 people are called <bdi>ada</bdi> already" in page
    assert 'href="/people">Cancel' in page
    page = browser.post("/people/name", {"person": [1, 3], "name": "Ada"}).text  # no other person has it
    assert "People 1, 3 are called Ada. If they are one person, merge them." in page


def test_a_name_of_many_shows_some_of_them(people, browser, monkeypatch):
    monkeypatch.setattr("worker.web.pages.people.MAX_NAMESAKES", 1)
    for number in (1, 2):
        browser.post("/people/name", {"person": [number], "name": "Ada", "same_name": "both"})
    page = browser.post("/people/name", {"person": [3, 4], "name": "Ada"}).text
    assert "1 of the 2 chosen people are shown" in page
    assert "1 of 2 people with this name are shown" in page
    assert 'href="/people?q=Ada"' in page


@pytest.mark.parametrize("path", ["/people/merge", "/people/name", "/people/hide", "/people/show", "/corrections/undo"])
def test_readers_edit_nothing(people, as_role, path):
    with as_role(Role.READER) as browser:
        page = browser.get("/people")
        assert "formaction" not in page.text
        assert "is a reader here" in browser.post(path, {"person": [1, 2], "name": "x"}, 403).text
    assert rows(people, "SELECT FROM corrections") == []


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"csrf": ""}, {}),
        ({"csrf": "0" * 64}, {}),
        ({}, {"origin": "http://evil.example"}),
        ({}, {"origin": "null"}),
        ({}, {"sec-fetch-site": "cross-site"}),
    ],
)
def test_a_form_of_another_page_is_refused(people, browser, fields, headers):
    browser.post("/people/merge", {"person": [1, 2]} | fields, 403, headers=headers)
    assert rows(people, "SELECT FROM corrections") == []


def test_the_way_back_stays_on_this_server(people, browser):
    for back in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "/a\r\nX: y"):
        fields = {"csrf": browser.token(), "person": "1", "back": back}
        response = browser.client.post("/people/hide", data=fields, follow_redirects=False)
        assert response.headers["location"] == "/people", back


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egnp"


def test_a_hostile_name_is_text(people, browser):
    page = browser.post("/people/name", {"person": [1], "name": HOSTILE}).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "\u202e" not in page.partition("<main")[2].replace('value="', "")
    assert "&lt;script&gt;" in page


def test_a_note_of_another_visitor_is_not_shown(people, as_role, browser):
    browser.client.cookies.set("facet_note", "eyJ0ZXh0IjogImhpIn0.0000")
    assert 'class="note"' not in browser.get("/people").text


def test_a_form_that_is_too_large_is_refused(people, browser):
    assert browser.post("/people/name", {"person": [1], "name": "x" * 2_000_000}, 413)


def test_a_photo_that_is_none_is_explained(people, browser):
    page = browser.post("/search", {}, 400, files={"photo": ("x.jpg", b"no picture", "image/jpeg")})
    assert "expected one photo" in page.text
