"""The pages of one person over a real database: faces, names, corrections with their users, times, company."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from worker.web.access.visitor import Role
from worker.web.queries.person.faces import face_groups, furthest_faces

HOSTILE = "<script>alert(1)</script>\"'\u202e"


def person_of(crowd, somebody):
    """Return the number of a made person: the first three photos show 0, 1 and 2 from left to right."""
    return crowd.who()[min(crowd.files), somebody]


def chosen_boxes(page):
    return [int(found) for found in re.findall(r'name="appearance" value="(\d+)"', page.text)]


@pytest.fixture
def mixed(people):
    """The first person with a face of the second, merged by mistake; returns the person and the intruder."""
    first, second = person_of(people, 0), person_of(people, 1)
    intruder = people.ids(second)[0]
    people.session.execute(
        text("UPDATE appearance SET person_id = :p WHERE appearance_id = :a"), {"p": first, "a": intruder}
    )
    people.session.commit()
    return first, intruder


def test_the_face_that_is_least_like_the_others_comes_first(mixed, browser):
    first, intruder = mixed
    page = browser.get(f"/people/{first}")
    assert chosen_boxes(page)[0] == intruder
    assert len(chosen_boxes(page)) == 4
    assert f'alt="person {first}, ' in page.text
    groups = browser.get(f"/people/{first}?order=groups")
    assert chosen_boxes(groups)[0] == intruder  # alone in the smallest group
    assert groups.text.count("<section>") == 2


def test_faces_come_in_pages_without_a_gap(mixed, desk):
    first, _ = mixed
    with desk.reading() as connection:
        whole = furthest_faces(connection, first)
        seen, place = [], None
        while True:
            page = furthest_faces(connection, first, place, limit=1)
            seen += page.faces
            place = page.after
            if place is None:
                break
    assert tuple(seen) == whole.faces
    assert [one.likeness for one in seen] == sorted(one.likeness for one in seen)


def test_sub_groups_hold_every_face_once(mixed, desk, people):
    first, _ = mixed
    with desk.reading() as connection:
        groups = face_groups(connection, first)
    found = [face.appearance_id for group in groups for face in group.faces]
    assert sorted(found) == people.ids(first)
    assert [len(group.faces) for group in groups] == [group.count for group in groups] == [1, 3]


def test_a_person_of_many_faces_is_compared_in_part_and_the_page_says_so(mixed, browser, monkeypatch):
    first, _ = mixed
    monkeypatch.setattr("worker.web.pages.person.MAX_RANKED", 3)
    monkeypatch.setattr("worker.web.pages.person.MAX_GROUPED", 2)
    monkeypatch.setattr("worker.web.queries.person.faces.MAX_SHOWN_OF_GROUP", 2)
    assert "Of 4 appearances, the latest 3 are compared." in browser.get(f"/people/{first}").text
    groups = browser.get(f"/people/{first}?order=groups").text
    assert "Of 4 appearances, the clearest 2 are compared." in groups
    assert "3 faces, the clearest 2 of them" in groups
    assert groups.count('name="appearance"') == 3


def test_only_the_latest_and_the_clearest_faces_are_compared(mixed, desk, people):
    first, _ = mixed
    with desk.reading() as connection:
        found = furthest_faces(connection, first, compared=2)
        (group,) = face_groups(connection, first, limit=1)
    assert sorted(one.appearance_id for one in found.faces) == people.ids(first)[-2:]
    assert found.after is None
    assert group.count == 1


def test_a_wrong_face_is_taken_out_and_an_undo_brings_it_back(mixed, browser, people):
    first, intruder = mixed
    second = people.who()[sorted(people.files)[1], 1]
    page = browser.post(f"/people/{first}/exclude", {"appearance": [intruder], "back": f"/people/{first}"})
    assert f"1 face was taken out of person {first}: now person {second}." in page.text
    assert intruder in people.ids(second)
    people.session.commit()
    undo = re.search(r'action="(/corrections/\d+/undo)"', page.text)[1]
    browser.post(undo, {"back": f"/people/{first}"})
    assert intruder in people.ids(first)
    people.session.commit()
    history = browser.get(f"/people/{first}/history").text
    assert "1 appearance is not person" in history
    assert "undone by" in history
    made = people.session.execute(text("SELECT made_by, undone_by FROM corrections")).one()
    assert made.made_by == made.undone_by is not None


def test_chosen_faces_become_a_new_person(people, browser):
    first = person_of(people, 0)
    chosen = people.ids(first)[:2]
    page = browser.post(f"/people/{first}/split", {"appearance": chosen, "back": f"/people/{first}"})
    new = int(re.search(r"2 faces are person (\d+) now", page.text)[1])
    assert people.ids(new) == chosen


def test_a_name_is_given_and_suggested(people, browser):
    first, second = person_of(people, 0), person_of(people, 1)
    page = browser.post("/people/name", {"person": [first], "name": "Grace Hopper", "back": f"/people/{first}"})
    assert f"Person {first} is called Grace Hopper." in page.text
    assert "<bdi>Grace Hopper</bdi>" in page.text
    assert 'value="Grace Hopper"' in browser.get("/names?name=hop").text
    assert "option" not in browser.get("/names?name=%25").text  # a % is a %
    offer = browser.post("/people/name", {"person": [second], "name": "grace hopper", "back": f"/people/{second}"}).text
    assert "Someone is called <bdi>grace hopper</bdi> already" in offer
    assert f'name="into" value="{first}"' in offer
    assert people.names() == {first: "Grace Hopper"}
    people.session.commit()
    merged = browser.post("/people/merge", {"person": [second], "into": first, "back": f"/people/{second}"})
    assert f"2 people are one now: person {first}." in merged.text
    assert merged.url.path == f"/people/{first}"
    assert browser.get(f"/people/{second}").url.path == f"/people/{first}"  # an old link leads to the joined person


def test_two_people_may_have_one_name(people, browser):
    first, second = person_of(people, 0), person_of(people, 1)
    browser.post("/people/name", {"person": [first], "name": "Ada"})
    browser.post("/people/name", {"person": [second], "name": "Ada", "same_name": "both"})
    assert people.names() == {first: "Ada", second: "Ada"}


def test_a_hostile_name_is_text(people, browser):
    first = person_of(people, 0)
    browser.post("/people/name", {"person": [first], "name": HOSTILE})
    for path in ("", "/times", "/company", "/history", "/forget"):
        shown = browser.get(f"/people/{first}{path}").text
        assert "<script>alert" not in shown
        assert "\u202e" not in re.sub(r'value="[^"]*"', "", shown)  # a field keeps what it holds
    assert "<script>alert" not in browser.get("/names?name=script").text


def test_times_are_drawn_file_by_file(people, browser):
    crowd = people
    film = crowd.film(0, 1, 0)
    crowd.session.execute(text("UPDATE media_file SET duration_seconds = 40 WHERE media_id = :m"), {"m": film})
    crowd.session.execute(
        text("UPDATE appearance SET person_id = :p WHERE media_id = :m AND ordinal <> 1"),
        {"p": person_of(crowd, 0), "m": film},
    )
    crowd.session.commit()
    page = browser.get(f"/people/{person_of(crowd, 0)}/times").text
    assert f'/media/{film}?at=20.000"' in page
    assert 'x="500.0" y="2" width="25.0"' in page
    assert "style=" not in page


def test_company_is_who_is_in_view_at_the_same_time(people, browser):
    first, second, alone = person_of(people, 0), person_of(people, 1), people.who()[max(people.files), 0]
    page = browser.get(f"/people/{first}/company").text
    assert f'href="/people/{second}"' in page
    assert "3 files together" in page
    assert "No other person is in view" in browser.get(f"/people/{alone}/company").text


def test_a_person_is_erased_after_typing_who(people, browser):
    first = person_of(people, 0)
    shown = browser.get(f"/people/{first}/forget").text
    assert "3 appearances, 3 faces" in shown
    assert len(people.ids(first)) == 3  # the preview changed nothing
    people.session.commit()
    wrong = browser.post(f"/people/{first}/forget", {"confirm": "person"}, 400)
    assert "type it to confirm" in wrong.text
    gone = browser.post(f"/people/{first}/forget", {"confirm": f"person {first}"})
    assert "receipt_sha256" in gone.text
    browser.get(f"/people/{first}", 404)
    assert people.ids(first) == []


def test_a_reader_sees_and_a_reviewer_corrects(people, as_role):
    first = person_of(people, 0)
    face = people.ids(first)[0]
    people.session.commit()
    with as_role(Role.READER) as reader:
        page = reader.get(f"/people/{first}")
        assert "<form" not in page.text
        reader.get(f"/people/{first}/forget", 403)
        for path in ("exclude", "split", "forget"):
            reader.post(f"/people/{first}/{path}", {}, 403)
        reader.get("/same", 403)
    with as_role(Role.REVIEWER, "ines") as reviewer:
        reviewer.post(f"/people/{first}/exclude", {"appearance": [face], "back": f"/people/{first}"})
        reviewer.get(f"/people/{first}/forget", 403)
        reviewer.post(f"/people/{first}/forget", {"confirm": f"person {first}"}, 403)
    made = people.session.execute(text("SELECT made_by FROM corrections")).scalar_one()
    assert made == "ines"


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("exclude", {}, "no face was chosen"),
        ("exclude", {"appearance": ["1x"]}, "expected a whole number"),
        ("split", {"appearance": [10**12]}, "are not of person"),
    ],
)
def test_wrong_use_is_a_sentence(people, browser, path, fields, message):
    page = browser.post(f"/people/{person_of(people, 0)}/{path}", fields, 400)
    assert message in page.text
    browser.get(f"/people/{person_of(people, 0)}?after=x", 400)
    browser.get("/people/999", 404)
