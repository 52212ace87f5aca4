"""Names of people whose files are erased: each stays with the person who bears it, whichever other bears the same."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from sqlalchemy import text

from worker.identity import correct
from worker.identity.identifier import show_release


@pytest.mark.parametrize(
    "names",
    [
        ("Grace Hopper",) * 2,
        ("unknown nun",) * 3,
        ("Ada", "ada", " Ada "),
        ("Ada", "Ada", "Bo"),
        ("A\u0301da", "\u00c1da", "A\u0301da"),
    ],
)
def test_all_people_who_stay_keep_the_name(house, eraser, names):
    first = house.film(*range(len(names)))
    house.identify()
    who = [house.crowd.who()[first, n] for n in range(len(names))]
    for person, name in zip(who, names, strict=True):
        correct.name_people(house.session, [correct.NewName(person, name)])
    house.film(*range(len(names)))
    house.identify()
    expected = {person: normalize("NFC", name.strip()) for person, name in zip(who, names, strict=True)}
    assert house.crowd.names() == expected
    eraser.erase_media([str(first)])
    house.photo(0)
    house.identify()
    assert _settled(house) == expected


def _settled(house) -> dict[int, str]:
    """Names after the next correction, which settles all of them."""
    house.identify()
    last = house.film(7)
    house.identify()
    correct.name_people(house.session, [correct.NewName(house.crowd.who()[last, 0], "somebody else")])
    house.session.commit()
    return {person: name for person, name in house.crowd.names().items() if name != "somebody else"}


def test_a_name_given_under_two_releases_stays_under_both(house, eraser):
    session = house.session
    first = house.film(0, 1)
    house.identify()
    person = house.crowd.who()[first, 0]
    correct.name_people(session, [correct.NewName(person, "Ada")])
    second = house.film(0, 1)
    house.identify()
    other = house.crowd.register(detector="other")
    for media in (first, second):
        house.crowd.analyse(media, release=other)
    house.identify(other)
    assert house.crowd.who(other)[first, 0] == person
    eraser.erase_media([str(first)])
    assert person in _settled(house)
    show_release(session, "other")
    assert house.crowd.names()[person] == "Ada"


def test_names_of_merged_people_stay_and_can_be_undone(house, eraser):
    session = house.session
    first = house.film(0, 1, 2)
    house.identify()
    one, two, three = (house.crowd.who()[first, n] for n in range(3))
    for person in (one, two, three):
        correct.name_people(session, [correct.NewName(person, "Ada")])
    merged = correct.merge_people(session, [one, two])
    house.film(0, 1, 2)
    house.identify()
    eraser.erase_media([str(first)])
    assert _settled(house) == {one: "Ada", three: "Ada"}
    correct.undo_correction(session)  # the name of another person
    correct.undo_correction(session, merged)
    session.commit()
    assert "Ada" in {house.crowd.names().get(one), house.crowd.names().get(three)}


def test_several_files_and_a_person_of_a_shared_name(house, eraser):
    session = house.session
    files = [house.film(0, 1) for _ in range(2)]
    house.identify()
    one, two = (house.crowd.who()[files[0], n] for n in range(2))
    for person in (one, two):
        correct.name_people(session, [correct.NewName(person, "Ada", "the caption")])
    house.film(0, 1)
    house.identify()
    eraser.erase_media([str(media) for media in files])
    assert _settled(house) == {one: "Ada", two: "Ada"}
    assert eraser.erase_person(one).people == (one,)
    assert _settled(house) == {two: "Ada"}
    assert session.execute(text("SELECT count(*) FROM correction WHERE name = 'Ada'")).scalar_one() == 1


def test_a_name_that_no_correction_gave_is_no_obstacle(house, eraser):
    first = house.film(0, 1)
    house.identify()
    house.session.execute(text("UPDATE person SET name = 'Ada'"))
    house.film(0, 1)
    house.identify()
    assert len(eraser.erase_media([str(first)]).media) == 1
