"""Two in view together are two people, unless they look the same; only groups that may join are compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worker.identity.grouping.assign import AppearanceEmbeddings, GalleryPeople, IdentifyOptions, assign, regroup
from worker.identity.grouping.constraints import Constraints, Exclusions
from worker.identity.grouping.in_view import InView, cannot_link_pairs, connected_components, pairs_in_view

OPTIONS = IdentifyOptions(threshold=0.5, mean_threshold=0.3)


def photo(looks):
    """People side by side in one photo."""
    looks = np.array(looks, np.float32)
    return AppearanceEmbeddings(
        embeddings=looks / np.linalg.norm(looks, axis=1, keepdims=True),
        quality=np.full(len(looks), 0.8, np.float32),
        media=np.full(len(looks), 5),
        start_seconds=np.zeros(len(looks)),
        end_seconds=np.zeros(len(looks)),
    )


def test_a_chain_of_images_in_one_collage_is_one_person():
    eye = np.eye(64)
    collage = photo([np.cos(angle) * eye[0] + np.sin(angle) * eye[1] for angle in np.radians([0, 40, 80])])
    assert regroup(collage, options=replace(OPTIONS, mean_threshold=0.0)).tolist() == [0, 0, 0]
    assert len(set(regroup(collage[np.array([0, 2])], options=OPTIONS).tolist())) == 2


def test_a_correction_separates_two_that_a_collage_would_join():
    everyone = photo([[1.0, 0.0], [0.98, 0.2]])
    constraints = replace(Constraints.none(2), cannot_link=np.array([[0, 1]]))
    assert len(set(regroup(everyone, constraints=constraints, options=OPTIONS).tolist())) == 2
    known = GalleryPeople.of(np.array([7]), everyone.embeddings[:1], everyone.quality[:1])
    excluded = replace(Constraints.none(1), excluded=Exclusions(np.array([0]), np.array([7])))
    assert assign(everyone[1:], [known], constraints=excluded, options=OPTIONS).person.tolist() == [-1]
    assert assign(everyone[1:], [known], options=OPTIONS).person.tolist() == [7]


def test_meetings_are_all_pairs_in_view_at_once():
    rng = np.random.default_rng(2)
    media, times = rng.integers(0, 4, 60), np.sort(rng.integers(0, 40, (60, 2)), axis=1).astype(float)
    found = {tuple(sorted(pair)) for pair in pairs_in_view(media, times[:, 0], times[:, 1]).tolist()}
    assert found == {
        (a, b)
        for b in range(60)
        for a in range(b)
        if media[a] == media[b] and times[a, 0] <= times[b, 1] and times[b, 0] <= times[a, 1]
    }
    assert pairs_in_view(media[:0], times[:0, 0], times[:0, 1]).shape == (0, 2)


def test_numbers_are_connected_by_chains():
    pairs = np.array([[4, 2], [2, 7], [5, 6], [9, 9]])
    assert connected_components(10, pairs).tolist() == [0, 1, 2, 3, 2, 5, 5, 2, 8, 9]
    assert connected_components(3, np.zeros((0, 2), np.int64)).tolist() == [0, 1, 2]


def test_only_groups_that_may_join_are_compared():
    """A crowd of three hundred in every shot has 44,850 pairs in view in each; here one of them matters."""
    crowd, shots = 300, 20
    count = crowd * shots
    start = np.repeat(np.arange(shots) * 10.0, crowd)
    seen = InView(
        group=np.arange(count),
        media=np.zeros(count, np.int64),
        start_seconds=start,
        end_seconds=start + 8,
        embeddings=np.eye(crowd, dtype=np.float32)[np.tile(np.arange(crowd), shots)],
        quality=np.ones(count, np.float32),
    )
    # everybody in a shot and the next one, and a chain from 0 over 300 to 1
    near = np.array([[n, n + crowd] for n in range(count - crowd)] + [[1, crowd]])
    found = cannot_link_pairs(seen, np.arange(count), near)
    assert [0, 1] in found.tolist()
    assert {(a % crowd, b % crowd) for a, b in found.tolist()} == {(0, 1)}


def test_an_appearance_without_an_embedding_is_someone_of_its_own():
    everyone = replace(photo(np.eye(64)[:3]), embeddings=np.zeros((3, 64), np.float32))
    assert regroup(everyone, options=OPTIONS).tolist() == [0, 1, 2]
