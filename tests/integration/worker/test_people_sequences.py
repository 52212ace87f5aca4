"""Random sequences of everything that can happen to people: after every step, all corrections hold.

The expectation is kept apart from the program: a list of statements about places (file and number in it), each pair of
places under the latest correction about it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from itertools import combinations

import faiss
import numpy as np
import pytest
from sqlalchemy import text

from db.schema.totals import find_differences
from worker.errors import UsageError
from worker.identity import correct
from worker.identity.gallery import Gallery, lock_people
from worker.identity.identifier import identify_pending
from worker.identity.regroup import apply, compute, is_current, take_snapshot

SEQUENCES = int(os.environ.get("FACET_TEST_SEQUENCES", "250"))
STEPS = 4
SWEPT_EVERY = 20  # sequences
TOTALS_EVERY = 5  # sequences after which all people are counted again
NAMES = ("Ada", "Bo", "Eve")
DUMP = """SELECT person_id, name, created_at, is_good, correction_id, NULL
          FROM person JOIN person_embedding USING (person_id)
          UNION ALL SELECT appearance_id, NULL, NULL, NULL, NULL, person_id FROM appearance ORDER BY 1, 6 NULLS FIRST"""


@dataclass
class Word:
    number: int
    kind: str
    subject: set
    rest: set
    name: str | None
    undone: bool = False


@dataclass
class Play:
    """One sequence: the crowd, the people in a worker's memory, and its corrections."""

    crowd: object
    known: Gallery
    random: np.random.Generator
    words: list[Word] = field(default_factory=list)
    who: dict = field(default_factory=dict)

    def __post_init__(self):
        self.look()

    def look(self):
        self.who = self.crowd.who()

    @property
    def session(self):
        return self.crowd.session

    def person(self):
        return int(self.random.choice(sorted(set(self.who.values()))))

    def members(self, *people):
        return {place for place, person in self.who.items() if person in people}

    def some(self, person):
        """Some, but not all, appearances of a person, and the places they are at."""
        ids = self.crowd.ids(person)
        if len(ids) < 2:
            return [], set()
        count = int(self.random.integers(1, len(ids)))
        chosen = sorted(self.random.choice(ids, count, replace=False).tolist())
        rows = self.session.execute(
            text("SELECT media_id, ordinal FROM appearance WHERE appearance_id = ANY(:ids)"), {"ids": chosen}
        )
        return chosen, {(row.media_id, row.ordinal) for row in rows}

    # What can happen.

    def name(self):
        person, name = self.person(), str(self.random.choice(NAMES))
        places = self.members(person)
        self.words.append(
            Word(correct.name_people(self.session, [correct.NewName(person, name)])[0], "name", places, set(), name)
        )

    def merge(self):
        people = list({self.person() for _ in range(int(self.random.integers(2, 4)))})
        if len(people) > 1:
            places, names = self.members(*people), self.crowd.names()
            name = next((names[person] for person in people if person in names), None)
            self.words.append(Word(correct.merge_people(self.session, people), "merge", places, set(), name))

    def split(self):
        person = self.person()
        chosen, places = self.some(person)
        if chosen:
            rest = self.members(person) - places
            number = correct.split_person(self.session, person, chosen).correction_id
            self.words.append(Word(number, "split", places, rest, None))

    def deny(self):
        person = self.person()
        chosen, places = self.some(person)
        if chosen:
            rest = self.members(person) - places
            number = correct.not_person(self.session, person, chosen).correction_id
            self.words.append(Word(number, "not", places, rest, None))

    def correct(self):
        getattr(self, str(self.random.choice(["name", "merge", "split", "deny"])))()

    def undo(self):
        """Undo the latest correction, or any that no later one speaks of."""
        active = [word for word in self.words if not word.undone]
        if not active:
            return
        word = active[-1] if self.random.random() < 0.5 else active[int(self.random.integers(len(active)))]
        try:
            correct.undo_correction(self.session, word.number)
        except UsageError:
            later = active[active.index(word) + 1 :]
            assert later, "the latest correction can always be undone"
        else:
            word.undone = True

    def correct_and_undo(self):
        """Undo at once leaves everything as it was."""
        before, count = self.dump(), len(self.words)
        self.correct()
        if len(self.words) > count:
            correct.undo_correction(self.session)
            self.words[-1].undone = True
        assert self.dump() == before

    def correct_regroup_and_undo(self):
        """Check that, after a regrouping in between, the next one gives the result without the correction."""
        branch = self.session.begin_nested()
        self.regroup()
        self.look()
        expected = self.partition()
        branch.rollback()
        self.known.forget()
        self.look()
        count = len(self.words)
        self.correct()
        self.check()
        self.regroup()
        self.check()
        if len(self.words) > count:
            correct.undo_correction(self.session)
            self.words[-1].undone = True
            self.check()
        self.regroup()
        self.look()
        assert self.partition() == expected

    def regroup(self):
        lock_people(self.session)
        regrouping = compute(take_snapshot(self.session, self.crowd.trunk_id))
        assert is_current(self.session, regrouping)
        apply(self.session, self.known, regrouping)

    def arrive(self):
        somebody = self.random.choice(len(self.crowd.centres), int(self.random.integers(1, 4)), replace=False)
        (self.crowd.photo if self.random.random() < 0.6 else self.crowd.film)(*somebody.tolist())
        self.identify()

    def analyse_again(self):
        media_id = int(self.random.choice(list(self.crowd.files)))
        self.crowd.analyse(media_id, jitter=12.0)
        self.identify()

    def identify(self):
        lock_people(self.session)
        while identify_pending(self.session, self.known):
            pass

    # What must be true.

    def dump(self):
        return self.session.execute(text(DUMP)).all()

    def partition(self):
        groups = {}
        for place, person in self.who.items():
            groups.setdefault(person, set()).add(place)
        return sorted(map(sorted, groups.values()))

    def check(self):
        self.look()
        who = self.who
        assert None not in who.values()
        pairs, called = {}, {}
        for place, word in enumerate(self.words):
            if word.undone:
                continue
            if word.kind in ("merge", "split"):
                pairs |= {frozenset(pair): True for pair in combinations(word.subject, 2)}
            pairs |= {frozenset((one, other)): False for one in word.subject for other in word.rest}
            if word.kind != "merge" or word.name:
                called |= dict.fromkeys(word.subject, place if word.name else None)
        for pair, together in pairs.items():
            one, other = pair
            assert (who[one] == who[other]) == together, (pair, together)
        self.check_names(who, {place: word for place, word in called.items() if word is not None})
        assert not self.session.execute(text("SELECT EXISTS (SELECT FROM person_change)")).scalar_one()
        stored = "SELECT count(*) FROM correction WHERE undone_at IS NULL"
        assert self.session.execute(text(stored)).scalar_one() == sum(not word.undone for word in self.words)

    def check_names(self, who, called):
        texts = {}
        votes = {}
        for place, word in called.items():
            texts.setdefault(who[place], set()).add(self.words[word].name)
            votes.setdefault(word, {}).setdefault(who[place], 0)
            votes[word][who[place]] += 1
        assert all(len(names) == 1 for names in texts.values())
        expected = {}
        for word in sorted(votes):
            bearer = min(votes[word], key=lambda person: (-votes[word][person], person))
            expected[bearer] = self.words[word].name
        assert self.crowd.names() == expected


STEPS_THAT_CAN_HAPPEN = {
    "correct": 5,
    "undo": 2,
    "correct_and_undo": 1,
    "correct_regroup_and_undo": 0.5,
    "regroup": 1,
    "arrive": 1.5,
    "analyse_again": 1.5,
}


@pytest.fixture
def one_thread():
    """Searching fifty appearances takes two threads longer than one."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


@pytest.fixture
def small_crowd(crowd):
    """Six people, two pairs of whom look similar, so that grouping alone makes mistakes."""
    for one, other in ((0, 1), (2, 3)):
        mixed = crowd.centres[other] + 0.8 * crowd.centres[one]
        crowd.centres[other] = mixed / np.linalg.norm(mixed)
    crowd.centres = crowd.centres[:6]
    crowd = replace(crowd, noise=0.6)
    for somebody in (0, 1, 2, 3, 4, 5, 0, 2):
        crowd.photo(somebody)
    crowd.photo(0, 1)
    crowd.photo(4, 5, quality=0.2)
    crowd.film(0, 2, 0, 3)
    return crowd


def sweep(archive):
    """Vacuum the rows that were rolled back; small tables are read from end to end."""
    with archive.sessions.kw["bind"].connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a busy machine takes ten times as long
def test_random_sequences(small_crowd, archive, one_thread):
    """Each sequence starts with the same small archive, and is rolled back at its end."""
    crowd, session = small_crowd, small_crowd.session
    lock_people(session)
    identify_pending(session, Gallery(crowd.trunk_id))
    session.commit()
    names, weights = list(STEPS_THAT_CAN_HAPPEN), np.array(list(STEPS_THAT_CAN_HAPPEN.values()))
    files = dict(crowd.files)
    for seed in range(SEQUENCES):
        if seed % SWEPT_EVERY == 0:
            sweep(archive)
        crowd.files = dict(files)
        crowd.random = np.random.default_rng(seed)
        play = Play(crowd, Gallery(crowd.trunk_id), np.random.default_rng(seed))
        for step in play.random.choice(names, STEPS, p=weights / weights.sum()):
            try:
                getattr(play, str(step))()
                play.check()
            except AssertionError as err:
                raise AssertionError(f"sequence {seed}, {step} after {len(play.words)} words: {err}") from err
        if seed % TOTALS_EVERY == 0:
            assert find_differences(session) == []
        session.rollback()
