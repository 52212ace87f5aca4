"""Appearances of synthetic people become these people, in any order and in any batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.identity.grouping.assign import AppearanceEmbeddings, GalleryPeople, IdentifyOptions, assign, regroup
from worker.identity.grouping.constraints import Constraints
from worker.identity.grouping.in_view import Sightings, connected_components, pairs_in_view

DIMENSION = 64
OPTIONS = IdentifyOptions(threshold=0.5, mean_threshold=0.3, low_quality=0.3, low_quality_threshold=0.7, neighbours=5)


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def appearances(embeddings, *, quality=None, media=None, times=None):
    count = len(embeddings)
    times = np.zeros((count, 2)) if times is None else np.array(times, np.float64)
    return AppearanceEmbeddings(
        embeddings=unit(embeddings) if count else np.zeros((0, DIMENSION), np.float32),
        quality=np.full(count, 0.8, np.float32) if quality is None else np.array(quality, np.float32),
        media=np.arange(count) if media is None else np.array(media, np.int64),
        start_seconds=times[:, 0],
        end_seconds=times[:, 1],
    )


def crowd(people, each, *, noise=0.5, seed=3):
    """``people`` people with ``each`` appearances of cosine about ``1 / (1 + noise^2)`` to one another."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(people, DIMENSION)))
    person = np.repeat(np.arange(people), each)
    return unit(centres[person] + noise * unit(rng.normal(size=(len(person), DIMENSION)))), person


def between(first, second, share):
    """Return a direction between two."""
    return share * first + (1 - share) * second


def together(numbers):
    """Return constraints: equal numbers are one person, different ones are not, -1 is unconstrained."""
    rows = np.flatnonzero(numbers >= 0)
    pairs = [(a, b) for a in rows for b in rows if a < b and numbers[a] != numbers[b]]
    silent = np.full(len(numbers), -1, np.int64)
    links = np.array(pairs, np.int64).reshape(-1, 2)
    return Constraints(must_link=numbers, name=silent, cannot_link=links, pinned=silent)


def same_partition(one, other):
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    return len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


def feed(all_of_them, batches, options=OPTIONS):
    """Assign batch after batch, as the application does; return the person of each row."""
    person = np.full(len(all_of_them), -1, np.int64)
    following = 0
    for rows in batches:
        seen = np.flatnonzero(person >= 0)
        known = GalleryPeople.of(person[seen], all_of_them.embeddings[seen], all_of_them.quality[seen], options=options)
        sightings = Sightings(
            person=person[seen],
            media=all_of_them.media[seen],
            start_seconds=all_of_them.start_seconds[seen],
            end_seconds=all_of_them.end_seconds[seen],
            embeddings=all_of_them.embeddings[seen],
            quality=all_of_them.quality[seen],
        )
        half = len(known) // 2
        found = assign(all_of_them[rows], [known[:half], known[half:]], sightings=sightings, options=options)
        new = found.newcomer >= 0
        assert (new == (found.person < 0)).all()
        person[rows] = np.where(new, following + found.newcomer, found.person)
        following += int(found.newcomer.max(initial=-1)) + 1
    return person


@pytest.mark.parametrize("size", [1, 7, 60])
def test_batches_of_any_size_find_the_people(size):
    embeddings, person = crowd(12, 5)
    order = np.random.default_rng(size).permutation(60)
    everyone = appearances(embeddings)
    found = feed(everyone, [order[start : start + size] for start in range(0, 60, size)])
    assert same_partition(found, person)


def test_regroup_finds_the_people():
    embeddings, person = crowd(12, 9)
    assert same_partition(regroup(appearances(embeddings), options=OPTIONS), person)


def test_more_appearances_than_neighbours_are_one_person():
    embeddings, person = crowd(2, 200)
    assert same_partition(regroup(appearances(embeddings), options=OPTIONS), person)
    assert same_partition(assign(appearances(embeddings), options=OPTIONS).newcomer, person)


def test_identical_appearances_are_one_person():
    assert regroup(appearances(np.ones((40, DIMENSION))), options=OPTIONS).tolist() == [0] * 40


def test_groups_are_numbered_in_order_of_first_row():
    eye = np.eye(DIMENSION)
    everyone = appearances([eye[4], eye[1], eye[4], eye[0]])
    assert regroup(everyone, options=OPTIONS).tolist() == [0, 1, 0, 2]
    assert assign(everyone, options=OPTIONS).newcomer.tolist() == [0, 1, 0, 2]


def test_no_appearance_is_no_person():
    assert regroup(appearances([]), options=OPTIONS).shape == (0,)
    found = assign(appearances([]), [GalleryPeople.empty(DIMENSION)], options=OPTIONS)
    shapes = [column.shape for column in (found.person, found.newcomer, found.similarity, found.merge_candidates)]
    assert shapes == [(0,), (0,), (0,), (0, 2)]


@pytest.mark.parametrize(
    ("times", "together"),
    [
        ([(0.0, 4.0), (2.0, 6.0)], False),
        ([(0.0, 4.0), (4.0, 6.0)], False),
        ([(0.0, 3.5), (4.0, 6.0)], True),
        ([(0.0, 0.0), (0.0, 0.0)], False),  # two faces of a still
    ],
)
def test_appearances_in_view_at_the_same_time_are_two_people(times, together):
    same = looks_of(0.62)
    everyone = appearances(same, media=[5, 5], times=times)
    assert len(set(regroup(everyone, options=OPTIONS).tolist())) == (1 if together else 2)
    assert len(set(feed(everyone, [[0], [1]]).tolist())) == (1 if together else 2)
    assert len(set(feed(replace(everyone, media=np.array([5, 6])), [[0], [1]]).tolist())) == 1


def test_two_in_one_image_stay_apart_through_a_third():
    # the third picture resembles both, and must not make them one
    same = looks_of(0.62)
    found = regroup(appearances([*same, same[0] + same[1]], media=[5, 5, 6]), options=OPTIONS)
    assert found[0] != found[1]


def looks_of(cosine):
    """Return two directions of a cosine."""
    eye = np.eye(DIMENSION)
    return np.stack([eye[0], cosine * eye[0] + (1 - cosine**2) ** 0.5 * eye[1]])


@pytest.mark.parametrize(
    ("cosine", "quality", "together"),
    [
        (0.98, 0.9, True),  # a strip of a photo booth, a mirror, a face that was found twice
        (0.67, 0.9, True),
        (0.63, 0.9, False),
        (0.55, 0.9, False),  # brothers
        (0.73, 0.3, False),  # blurred faces of one picture resemble each other
        (0.77, 0.3, True),
    ],
)
def test_two_in_view_together_are_one_where_two_people_are_implausible(cosine, quality, together):
    everyone = appearances(looks_of(cosine), media=[5, 5], quality=[quality] * 2)
    assert len(set(regroup(everyone, options=OPTIONS).tolist())) == (1 if together else 2)
    assert len(set(feed(everyone, [[0, 1]]).tolist())) == (1 if together else 2)
    assert len(set(feed(everyone, [[0], [1]]).tolist())) == (1 if together else 2)


def test_a_person_of_the_gallery_is_found_and_keeps_its_id():
    embeddings, person = crowd(6, 4)
    known = GalleryPeople.of(person[::2] + 100, embeddings[::2], np.full(12, 0.8, np.float32))
    found = assign(appearances(embeddings[1::2]), [known], options=OPTIONS)
    assert found.person.tolist() == (person[1::2] + 100).tolist()
    assert (found.newcomer == -1).all()
    assert (found.similarity > OPTIONS.threshold).all()


def test_people_of_the_gallery_are_not_joined_but_reported():
    eye = np.eye(DIMENSION)
    people = unit([between(eye[0], eye[1], 0.6), between(eye[1], eye[0], 0.6), eye[5]])
    known = GalleryPeople.of(np.array([31, 17, 8]), people, np.full(3, 0.8, np.float32))
    found = assign(appearances([eye[0] + eye[1]]), [known], options=OPTIONS)
    assert found.person[0] in (17, 31)
    assert found.merge_candidates.tolist() == [[17, 31]]


def test_similar_people_in_view_together_are_no_merge_candidate():
    eye = np.eye(DIMENSION)
    people = unit([between(eye[0], eye[1], 0.6), between(eye[1], eye[0], 0.6)])
    known = GalleryPeople.of(np.array([31, 17]), people, np.full(2, 0.8, np.float32))
    both = Sightings(
        person=np.array([31, 17, 99]),
        media=np.array([4, 4, 4]),
        start_seconds=np.zeros(3),
        end_seconds=np.ones(3),
        embeddings=unit(np.concatenate([looks_of(0.62), eye[5:6]])),
        quality=np.full(3, 0.8, np.float32),
    )
    found = assign(appearances([eye[0] + eye[1]], media=[6]), [known], sightings=both, options=OPTIONS)
    assert found.merge_candidates.tolist() == []


def test_a_poor_appearance_attaches_only_at_more_similarity():
    eye = np.eye(DIMENSION)
    known = GalleryPeople.of(np.array([7]), unit(eye[:1]), np.array([0.8], np.float32))
    for cosine, quality, person in ((0.6, 0.8, 7), (0.6, 0.1, -1), (0.75, 0.1, 7)):
        seen = appearances([cosine * eye[0] + np.sqrt(1 - cosine**2) * eye[1]], quality=[quality])
        assert assign(seen, [known], options=OPTIONS).person.tolist() == [person]


def test_a_poor_appearance_joins_no_two_people():
    # two people at cosine 0.3, and poor pictures right between them
    first = np.eye(DIMENSION)[0]
    second = 0.3 * first + np.sqrt(1 - 0.09) * np.eye(DIMENSION)[1]
    middle = unit([first + second])[0]
    everyone = appearances([first, second, *[middle] * 6], quality=[0.8, 0.8, *[0.1] * 6])
    found = regroup(everyone, options=OPTIONS)
    assert found[0] != found[1]
    assert set(found[2:].tolist()) <= {found[0], found[1]}
    assert len(set(found.tolist())) == 2


def test_poor_appearances_do_not_move_a_person():
    embeddings, _ = crowd(1, 4)
    quality = np.array([0.8, 0.1, 0.1, 0.1], np.float32)
    known = GalleryPeople.of(np.zeros(4, np.int64), embeddings, quality, options=OPTIONS)
    assert np.allclose(unit(known.sums), embeddings[:1])
    assert known.good.tolist() == [True]


def test_people_of_poor_appearances_only_are_their_mean():
    embeddings, _ = crowd(1, 4)
    known = GalleryPeople.of(np.zeros(4, np.int64), embeddings, np.full(4, 0.1, np.float32), options=OPTIONS)
    assert np.allclose(unit(known.sums), unit(embeddings.mean(axis=0)[None]), atol=1e-6)
    assert known.good.tolist() == [False]


def test_large_groups_of_look_alikes_stay_apart():
    # the means of two families come close, though their members resemble one another little across
    rng = np.random.default_rng(11)
    shared, *own = unit(rng.normal(size=(3, DIMENSION)))
    centres = unit([between(shared, one, 0.65) for one in own])
    noise = unit(rng.normal(size=(40, DIMENSION)))
    members = unit(np.repeat(centres, 20, axis=0) + 1.0 * noise)
    assert unit(members[:20].mean(axis=0)) @ unit(members[20:].mean(axis=0)) > OPTIONS.threshold
    strict = replace(OPTIONS, threshold=0.45, mean_threshold=0.40)
    labels = regroup(appearances(members), options=strict)
    assert not set(labels[:20].tolist()) & set(labels[20:].tolist())
    assert len(set(regroup(appearances(members), options=replace(strict, mean_threshold=0.0)).tolist())) == 1


def test_constraints_outweigh_the_embeddings():
    same, other = np.ones(DIMENSION), np.eye(DIMENSION)[0] - np.eye(DIMENSION)[1]
    everyone = appearances([same, same, same, other])
    found = regroup(everyone, constraints=together(np.array([5, 9, -1, 5])), options=OPTIONS)
    assert found[0] == found[3]
    assert found[0] != found[1]
    assert found[2] in (found[0], found[1])


def test_a_must_link_outweighs_being_in_view_together():
    everyone = appearances(np.eye(DIMENSION)[:3], media=[5, 5, 6])
    constraints = replace(Constraints.none(3), must_link=np.array([2, 2, -1]))
    assert regroup(everyone, constraints=constraints, options=OPTIONS).tolist() == [0, 0, 1]
    assert assign(everyone, constraints=constraints, options=OPTIONS).newcomer.tolist() == [0, 0, 1]


def test_different_names_never_join_and_equal_names_mean_nothing():
    eye = np.eye(DIMENSION)
    everyone = appearances([eye[0], eye[0], eye[0], eye[1]])
    constraints = replace(Constraints.none(4), name=np.array([3, 4, -1, 3]))
    for found in (
        regroup(everyone, constraints=constraints, options=OPTIONS),
        assign(everyone, constraints=constraints, options=OPTIONS).newcomer,
    ):
        assert found[0] != found[1]
        assert found[2] in (found[0], found[1])
        assert found[3] not in found[:3]


def test_a_cannot_link_holds_through_a_third():
    same = np.ones((4, DIMENSION)) + 0.01 * np.eye(4, DIMENSION)
    constraints = replace(Constraints.none(4), cannot_link=np.array([[0, 3]]))
    for found in (
        regroup(appearances(same), constraints=constraints, options=OPTIONS),
        assign(appearances(same), constraints=constraints, options=OPTIONS).newcomer,
    ):
        assert found[0] != found[3]
        assert len(set(found.tolist())) == 2


def test_a_pinned_appearance_is_that_person_whatever_it_resembles():
    eye = np.eye(DIMENSION)
    known = GalleryPeople.of(np.array([7, 9]), unit(eye[:2]), np.full(2, 0.8, np.float32))
    # the first is pinned to someone it does not resemble, the second to someone who has no appearance yet
    seen = appearances([eye[0], eye[0], eye[0], eye[5]], quality=[0.8, 0.8, 0.8, 0.1])
    constraints = replace(Constraints.none(4), pinned=np.array([9, 12, -1, 7]))
    found = assign(seen, [known[:1], known[1:]], constraints=constraints, options=OPTIONS)
    assert found.person.tolist()[:2] == [9, 12]
    assert found.person[2] in (7, 9, 12)
    assert found.person[3] == 7
    assert found.newcomer.tolist() == [-1] * 4


def test_all_of_a_pinned_group_are_that_person():
    eye = np.eye(DIMENSION)
    constraints = replace(Constraints.none(3), must_link=np.array([0, 0, -1]), pinned=np.array([7, -1, -1]))
    known = GalleryPeople.of(np.array([7]), unit(eye[3:4]), np.full(1, 0.8, np.float32))
    found = assign(appearances(eye[:3]), [known], constraints=constraints, options=OPTIONS)
    assert found.person.tolist() == [7, 7, -1]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_poor_appearances_never_change_the_people_of_good_ones(seed):
    rng = np.random.default_rng(seed)
    embeddings, _ = crowd(6, 6, noise=0.9, seed=seed)
    poor = rng.random(36) < 0.5
    embeddings[poor] = unit(embeddings[poor] + embeddings[rng.permutation(36)[: poor.sum()]])  # between two people
    everyone = appearances(embeddings, quality=np.where(poor, 0.1, 0.8))
    assert same_partition(regroup(everyone, options=OPTIONS)[~poor], regroup(everyone[~poor], options=OPTIONS))
    assert same_partition(
        assign(everyone, options=OPTIONS).newcomer[~poor], assign(everyone[~poor], options=OPTIONS).newcomer
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_laws_of_grouping(seed, count):
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(4, DIMENSION)))
    everyone = appearances(
        centres[rng.integers(0, 4, count)] + rng.uniform(0.05, 0.2) * rng.normal(size=(count, DIMENSION)),
        quality=rng.random(count),
        media=rng.integers(0, 6, count),
        times=np.sort(rng.integers(0, 9, (count, 2)), axis=1),
    )
    pinned = np.where(rng.random(count) < 0.1, np.arange(count) % 3, -1)
    plain = regroup(everyone, options=OPTIONS)
    pairs = pairs_in_view(everyone.media, everyone.start_seconds, everyone.end_seconds)
    cosine = np.einsum("bd,bd->b", everyone.embeddings[pairs[:, 0]], everyone.embeddings[pairs[:, 1]])
    quality = everyone.quality[pairs].min(axis=1)
    chain = connected_components(count, pairs[cosine >= 0.65 + 0.5 * np.maximum(0.5 - quality, 0) - 1e-6])
    for labels in (
        plain,
        feed(everyone, np.array_split(rng.permutation(count), 3)),
        regroup(everyone, constraints=together(pinned), options=OPTIONS),
    ):
        assert (labels >= 0).all()
        for first in range(count):
            for second in range(first):
                if labels[first] == labels[second] and everyone.media[first] == everyone.media[second]:
                    pinned_together = labels[pinned >= 0].tolist().count(labels[first]) > 1
                    apart = (
                        everyone.start_seconds[first] > everyone.end_seconds[second]
                        or everyone.start_seconds[second] > everyone.end_seconds[first]
                    )
                    assert apart or pinned_together or chain[first] == chain[second]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    embeddings, _ = crowd(5, 6, noise=0.9, seed=seed)
    everyone = appearances(embeddings, quality=rng.random(30))
    order = rng.permutation(30)
    assert same_partition(regroup(everyone[order], options=OPTIONS), regroup(everyone, options=OPTIONS)[order])
