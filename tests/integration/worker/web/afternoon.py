"""An afternoon of corrections by a visitor who knows everybody, through the page; and what has to hold of it later."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from worker.identity.gallery import lock_people, refresh_people
from worker.identity.placing import move_appearances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from tests.integration.worker.web.conftest import Browser

ANSWERS = 30
CHOICE = re.compile(r'name="appearance" value="(\d+)"')
UNDO = re.compile(r'action="(/corrections/\d+/undo)"')
PROGRESS = re.compile(r"(\d+) answered, (\d+) to go")


@dataclass
class Afternoon:
    """Knowledge, actions and statements of the visitor."""

    sessions: sessionmaker[Session]
    browser: Browser
    truth: Mapping[int, object]
    """The human being that each appearance shows."""
    known: Sequence[object]
    """Those whom the visitor knows, thirty or more; the first ten are named."""
    names: dict[object, str] = field(default_factory=dict)
    taken_out: list[tuple[int, int]] = field(default_factory=list)
    """Appearance, and one of the person that it is not."""
    together: list[tuple[int, int]] = field(default_factory=list)
    apart: list[tuple[int, int]] = field(default_factory=list)

    def people(self) -> dict[int, int]:
        """Return the person of each appearance."""
        with self.sessions() as session:
            rows = session.execute(text("SELECT appearance_id, person_id FROM appearances"))
            return {row.appearance_id: row.person_id for row in rows}

    def faces(self, person: int) -> list[int]:
        return sorted(face for face, owner in self.people().items() if owner == person)

    def person_of(self, somebody: object) -> int:
        """Return the person that has most of somebody's appearances."""
        people = self.people()
        mine = [people[face] for face, shown in self.truth.items() if shown == somebody]
        return max(sorted(set(mine)), key=mine.count)

    def misplace(self, faces: Sequence[int], person: int) -> None:
        """Move appearances to a person, as a wrong grouping would have."""
        touched = [person, *(self.people()[face] for face in faces)]
        with self.sessions.begin() as session:
            lock_people(session)
            move_appearances(session, np.array(faces), np.full(len(faces), person))
            trunk = session.scalar(text("SELECT trunk_id FROM release WHERE active"))
            refresh_people(session, trunk, np.array(touched))

    def post(self, path: str, page_of: int, **fields: object) -> str:
        """Send a form of a person's page."""
        return self.browser.post(path, fields | {"back": f"/people/{page_of}"}).text

    def take_out_wrong_faces(self) -> None:
        """Choose the odd faces of a person, which come first."""
        person = self.person_of(self.known[0])
        wrong = [self.faces(self.person_of(somebody))[0] for somebody in self.known[30:32]]
        self.misplace(wrong, person)
        page = self.browser.get(f"/people/{person}").text
        first = [int(face) for face in CHOICE.findall(page)][: len(wrong)]
        assert sorted(first) == sorted(wrong)  # nobody has to look for them
        self.post(f"/people/{person}/exclude", person, appearance=first)
        rest = self.faces(person)
        assert not set(wrong) & set(rest)
        self.taken_out += [(face, rest[0]) for face in wrong]

    def merge_two(self) -> None:
        """Join a person who was torn."""
        person = self.person_of(self.known[3])
        torn = self.faces(person)[:1]
        page = self.post(f"/people/{person}/split", person, appearance=torn)
        other = int(re.search(r"1 face is person (\d+) now", page)[1])
        self.post("/people/merge", person, person=[other], into=person)
        assert torn[0] in self.faces(person)
        self.together.append((torn[0], self.faces(person)[-1]))

    def name_ten(self) -> None:
        """Name those who are known best."""
        for number, somebody in enumerate(self.known[:10]):
            person = self.person_of(somebody)
            self.names[somebody] = f"Somebody {number}"
            self.post("/people/name", person, person=[person], name=self.names[somebody])

    def undo_three(self) -> None:
        """Make three mistakes, and take them back."""
        for somebody in self.known[20:23]:
            person, before = self.person_of(somebody), self.people()
            page = self.post(f"/people/{person}/split", person, appearance=self.faces(person)[:1])
            assert self.people() != before
            self.post(UNDO.search(page)[1], person)
            assert self.people() == before

    def answer_thirty(self) -> None:
        """Answer pairs by what is true; two of them are one person, and the last is skipped."""
        for somebody in self.known[12:14]:
            person = self.person_of(somebody)
            with self.sessions.begin() as session:
                half = session.execute(text("INSERT INTO person DEFAULT VALUES RETURNING person_id")).scalar_one()
            self.misplace(self.faces(person)[:1], half)
            self.note_pair(person, half)
        for one, other in pairwise([self.person_of(somebody) for somebody in self.known[10:]]):
            self.note_pair(one, other)
        for answered in range(ANSWERS):
            page = self.browser.get("/same").text
            assert int(PROGRESS.search(page)[1]) == answered
            form = page.partition('class="bar answers"')[2]
            self.answer([int(found) for found in re.findall(r'name="(?:first|second)" value="(\d+)"', form)], answered)

    def answer(self, pair: Sequence[int], answered: int) -> None:
        faces = [self.faces(person) for person in pair]
        shown = [{self.truth[face] for face in side} for side in faces]
        given = "skip" if answered == ANSWERS - 1 else "yes" if shown[0] & shown[1] else "no"
        self.browser.post("/same", {"first": pair[0], "second": pair[1], "answer": given, "back": "/same"})
        stated = {"yes": self.together, "no": self.apart, "skip": []}[given]
        stated.append((faces[0][0], faces[1][0]))

    def note_pair(self, one: int, other: int) -> None:
        """Note a merge candidate, as identification does."""
        with self.sessions.begin() as session:
            session.execute(
                text("""INSERT INTO person_alike (trunk_id, first_person_id, second_person_id)
                        SELECT trunk_id, least(cast(:a AS bigint), :b), greatest(cast(:a AS bigint), :b)
                        FROM release WHERE active AND cast(:a AS bigint) <> :b ON CONFLICT DO NOTHING"""),
                {"a": one, "b": other},
            )

    def work(self) -> None:
        """Do all of it."""
        self.take_out_wrong_faces()
        self.merge_two()
        self.name_ten()
        self.undo_three()
        self.answer_thirty()
        assert len(self.together) >= 3
        assert len(self.apart) >= 20

    def check(self) -> None:
        """Check that everything that was stated holds."""
        people = self.people()
        assert [pair for pair in self.taken_out + self.apart if people[pair[0]] == people[pair[1]]] == []
        assert [pair for pair in self.together if people[pair[0]] != people[pair[1]]] == []
        with self.sessions() as session:
            rows = session.execute(text("SELECT person_id, name FROM people WHERE name IS NOT NULL"))
            called = {row.person_id: row.name for row in rows}
            made = session.execute(text("SELECT made_by FROM corrections GROUP BY made_by")).scalars().all()
        assert called == {self.person_of(somebody): name for somebody, name in self.names.items()}
        assert len(made) == 1
        assert made[0] is not None
        again = self.browser.get("/same").text
        assert "30 pairs answered" in again or "30 answered" in again
