"""People under two trunks on a real PostgreSQL: numbers, names and corrections go along, embeddings do not."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from worker.identity import correct
from worker.identity.corrections.history import read_history
from worker.identity.gallery import Gallery, lock_people
from worker.identity.identifier import Identifier, identify_pending, show_release
from worker.identity.proposals import apply_proposal, read_proposals, regroup_people
from worker.identity.regroup import Alarm
from worker.identity.search.searcher import Probe, Searcher, SearchOptions

NEVER = Alarm(share=1.0, floor=0)
ALWAYS = Alarm(share=0.0, floor=0)


def identify(crowd, release=None):
    lock_people(crowd.session)
    known = Gallery((release or crowd.release).trunk_id)
    while identify_pending(crowd.session, known):
        pass


@pytest.fixture
def people(crowd):
    """Three people, three images each, and one image with all three; the person of each."""
    for _ in range(3):
        for somebody in range(3):
            crowd.photo(somebody)
    crowd.photo(0, 1, 2)
    identify(crowd)
    last = max(crowd.files)
    return [crowd.who()[last, somebody] for somebody in range(3)]


@pytest.fixture(params=["trunk", "detector"])
def process(crowd, request):
    """Process files under a release with another trunk, or another finder besides; returns the release."""
    other = crowd.register("other", **{request.param: "other"})

    def again(files=None):
        for media_id in crowd.files if files is None else files:
            if request.param == "trunk":
                crowd.embed(media_id, other)
            else:
                crowd.analyse(media_id, release=other, jitter=12.0)
        return other

    return again


def test_people_keep_their_numbers_and_their_embeddings_are_new(crowd, people, process):
    correct.name_people(crowd.session, [correct.NewName(people[1], "Ada")])
    other = process()
    identify(crowd, other)
    assert crowd.who(other) == crowd.who()
    assert crowd.session.execute(text("SELECT count(*) FROM person")).scalar_one() == 3
    assert crowd.names() == {people[1]: "Ada"}
    gallery = Gallery(other.trunk_id).refresh(crowd.session)
    assert sorted(gallery.person.tolist()) == sorted(people)
    for somebody, person in enumerate(people):
        seen = [one for file in crowd.files.values() for one in file if one.somebody == somebody]
        [row] = np.flatnonzero(gallery.person == person)
        total = sum(one.quality * crowd.turned(one, other).astype(np.float64) for one in seen)
        assert gallery.sums[row] == pytest.approx(total, abs=2e-3)


def test_a_regrouping_under_a_trunk_that_agrees_changes_nothing(crowd, people, process, archive):
    other = process()
    crowd.session.commit()
    done = regroup_people(archive.sessions, other.trunk_id, ALWAYS)
    assert (done.changed, done.appearances, done.people_before, done.people_after) == (0, 12, 3, 3)
    assert crowd.who(other) == crowd.who()


def test_files_that_come_later_go_along(crowd, people, process):
    identify(crowd, process())
    late = crowd.photo(2, 5)
    identify(crowd)
    other = process([late])
    identify(crowd, other)
    assert crowd.who(other)[late, 0] == crowd.who()[late, 0] == people[2]
    assert crowd.who(other)[late, 1] == crowd.who()[late, 1] not in people


def test_a_face_that_only_the_new_finder_sees_is_grouped_by_its_embedding(crowd, people):
    other = crowd.register("other", detector="other")
    for media_id in crowd.files:
        crowd.analyse(media_id, release=other, jitter=12.0)
    identify(crowd, other)
    [found] = {type(one) for file in crowd.files.values() for one in file}
    file = max(crowd.files)
    crowd.files[file] = [
        *crowd.files[file],
        found(0, 20.0, 4, 0.8, crowd.look(0)),
        found(6, 20.0, 5, 0.8, crowd.look(6)),
    ]
    crowd.analyse(file, release=other, jitter=12.0)
    identify(crowd, other)
    who = crowd.who(other)
    assert [who[file, n] for n in range(4)] == [*people, people[0]]
    assert who[file, 4] not in people


def test_embeddings_of_two_trunks_are_never_compared(crowd, people, clean_database):
    """Under the other trunk a stranger looks exactly like a person does under this one."""
    other = crowd.register("other", detector="other")
    twin = crowd.files[1][0].embedding
    crowd.files[1] = [type(crowd.files[1][0])(0, 50.0, 5, 0.8, np.roll(twin, -7 * (other.trunk_id - crowd.trunk_id)))]
    crowd.analyse(1, release=other)
    stored = text("SELECT embedding::vector::real[] FROM appearance WHERE trunk_id = :t")
    [embedding] = crowd.session.scalars(stored, {"t": other.trunk_id}).all()
    assert np.dot(embedding, twin) == pytest.approx(1.0, abs=1e-3)
    identify(crowd, other)
    stranger = crowd.who(other)[1, 0]
    assert stranger not in people
    crowd.session.commit()
    probe, options = Probe(embedding=twin, quality=0.8), SearchOptions(exact=True)
    assert {hit.person_id for hit in Searcher(clean_database).search(probe, options).people} == set(people)
    show_release(crowd.session, "other")
    crowd.session.commit()
    assert {hit.person_id for hit in Searcher(clean_database).search(probe, options).people} == {stranger}


def test_corrections_go_along_and_are_undone_under_both(crowd, people, process):
    before = crowd.who()
    correct.name_people(crowd.session, [correct.NewName(people[2], "Cyd")])
    correct.merge_people(crowd.session, people[:2])
    new = correct.split_person(crowd.session, people[2], crowd.ids(people[2])[:2]).person_id
    sent = correct.not_person(crowd.session, people[0], crowd.ids(people[0])[-1:]).people
    other = process()
    identify(crowd, other)
    assert crowd.who(other) == crowd.who()
    assert set(crowd.who().values()) == {people[0], people[2], new, *sent.values()}
    for _ in range(3):
        correct.undo_correction(crowd.session)
    assert crowd.who(other) == crowd.who() == before
    assert crowd.names() == {people[2]: "Cyd"}


@pytest.mark.parametrize("follows", ["activation", "regrouping", "identification"])
def test_corrections_made_later_lead_to_the_same_people(crowd, people, process, archive, follows):
    crowd.photo(1)
    identify(crowd)
    other = process()
    identify(crowd, other)
    before = crowd.who(other)
    correct.merge_people(crowd.session, people[:2])  # the second has more appearances
    new = correct.split_person(crowd.session, people[2], crowd.ids(people[2])[:2]).person_id
    correct.not_person(crowd.session, people[0], crowd.ids(people[0])[-1:])
    assert crowd.who(other) == before
    assert new in crowd.who().values()
    if follows == "activation":
        show_release(crowd.session, "other")
    elif follows == "regrouping":
        crowd.session.commit()
        assert regroup_people(archive.sessions, other.trunk_id, ALWAYS).changed == 0
        crowd.session.commit()
    else:
        crowd.analyse(1)
        identify(crowd)
        process([1])
        identify(crowd, other)
    assert crowd.who(other) == crowd.who() != before
    assert [told.lost for told in read_history(crowd.session)] == [0, 0, 0]


def test_corrections_made_under_a_release_hold_after_the_one_before_is_back(crowd, people, process):
    other = process()
    identify(crowd, other)
    correct.name_people(crowd.session, [correct.NewName(people[0], "Ada")])
    show_release(crowd.session, "other")
    correct.merge_people(crowd.session, [people[1], people[0]])
    new = correct.split_person(crowd.session, people[2], crowd.ids(people[2], other)[:2]).person_id
    assert show_release(crowd.session, "test") == "test"
    assert crowd.who() == crowd.who(other)
    assert len(crowd.ids(new)) == 2
    assert crowd.names() == {people[1]: "Ada"}


def disagree(crowd, other, somebody, as_somebody, files):
    """Make the other trunk see one person as another one in some files."""
    crowd.session.execute(
        text("""UPDATE appearance a SET embedding = b.embedding FROM appearance b
                WHERE a.trunk_id = :t AND b.trunk_id = :t AND a.media_id = ANY(:m) AND b.media_id = :as"""),
        {
            "t": other.trunk_id,
            "m": files,
            "as": next(m for m, f in crowd.files.items() if f[0].somebody == as_somebody),
        },
    )
    assert {crowd.files[media][0].somebody for media in files} == {somebody}


def alone(crowd, somebody):
    """Return the images that show this person alone."""
    return [media for media, seen in crowd.files.items() if [one.somebody for one in seen] == [somebody]]


def test_what_the_new_trunk_sees_otherwise_waits_as_its_proposal(crowd, people, process, archive):
    other = process()
    wrong = alone(crowd, 0)[:2]
    disagree(crowd, other, 0, 1, wrong)
    crowd.session.commit()
    shown = crowd.who()
    done = regroup_people(archive.sessions, other.trunk_id, ALWAYS)
    crowd.session.commit()
    assert done.reason == "2 of 12 appearances would change their person"
    assert crowd.who(other) == shown
    own = regroup_people(archive.sessions, crowd.trunk_id, ALWAYS)
    assert own.changed == 0
    [waiting] = read_proposals(crowd.session)
    assert (waiting.proposal_id, waiting.release) == (done.proposal_id, "other")
    assert [(one.from_person_id, one.to_person_id, one.appearances) for one in waiting.shifts] == [(*people[:2], 2)]
    apply_proposal(crowd.session, waiting.proposal_id)
    assert crowd.who() == shown
    assert {key for key, who in crowd.who(other).items() if who != shown[key]} == {(media, 0) for media in wrong}


def test_each_trunk_has_a_proposal_of_its_own(crowd, people, process, archive):
    other = process()
    identify(crowd, other)
    disagree(crowd, other, 0, 1, alone(crowd, 0)[:2])
    disagree(crowd, crowd.release, 2, 1, alone(crowd, 2)[:1])
    crowd.session.commit()
    numbers = [regroup_people(archive.sessions, one.trunk_id, ALWAYS).proposal_id for one in (other, crowd.release)]
    crowd.session.commit()
    assert [one.release for one in read_proposals(crowd.session)] == ["test", "other"]
    show_release(crowd.session, "other")
    assert [one.proposal_id for one in read_proposals(crowd.session)] == numbers


def test_a_name_follows_the_trunk_of_the_views(crowd, people, process, archive):
    correct.name_people(crowd.session, [correct.NewName(people[0], "Ada")])
    other = process()
    identify(crowd, other)
    moved = [*alone(crowd, 0), max(crowd.files)]
    crowd.session.execute(
        text("""UPDATE appearance SET person_id = :to
                WHERE trunk_id = :t AND media_id = ANY(:m) AND person_id = :from"""),
        {"t": other.trunk_id, "m": moved, "from": people[0], "to": people[2]},
    )
    crowd.photo(0)
    identify(crowd)
    identify(crowd, process([max(crowd.files)]))
    assert crowd.names() == {people[0]: "Ada"}
    show_release(crowd.session, "other")
    assert crowd.names() == {people[2]: "Ada"}
    show_release(crowd.session, "test")
    assert crowd.names() == {people[0]: "Ada"}


def test_two_workers_of_two_trunks_identify_the_same_files(crowd, archive):
    other = crowd.register("other", trunk="other")
    for _ in range(2):
        crowd.embed(crowd.photo(0, 1), other)
    crowd.session.commit()
    assert Identifier(archive.sessions, other.trunk_id).finish() == 4
    assert Identifier(archive.sessions, crowd.trunk_id).finish() == 4
    assert crowd.who() == crowd.who(other)
    assert len(set(crowd.who().values())) == 2


def test_an_analysis_is_retired_when_its_successor_has_people_under_every_trunk(crowd, people):
    other = crowd.register("other", trunk="other")
    for media_id in crowd.files:
        crowd.embed(media_id, other)
    identify(crowd, other)
    file = alone(crowd, 0)[0]
    crowd.analyse(file)
    crowd.embed(file, other)
    retired = text("SELECT count(*) FROM analysis WHERE retired")
    identify(crowd)
    assert crowd.session.execute(retired).scalar_one() == 0
    identify(crowd, other)
    assert crowd.session.execute(retired).scalar_one() == 1
    assert crowd.who(other)[file, 0] == crowd.who()[file, 0] == people[0]
    weights = text("SELECT embedding_weight FROM person_embedding WHERE person_id = :p")
    assert crowd.session.scalars(weights, {"p": people[0]}).all() == pytest.approx([3.2, 3.2])
