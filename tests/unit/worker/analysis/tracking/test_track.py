"""Faces of synthetic sequences become the appearances that they were made of."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.analysis.tracking.assignment import linear_assignment
from worker.analysis.tracking.track import Tracker, TrackInput, TrackOptions, track

DIMENSION = 32
EVERY_FRAME = 1 / 25
TWO_A_SECOND = 0.5


def face_of(person, rng, agreement=0.75):
    """Return an embedding whose cosine to another one of the same person is about ``agreement``."""
    centre = np.random.default_rng(1000 + person).normal(size=DIMENSION)
    centre /= np.linalg.norm(centre)
    noise = rng.normal(size=DIMENSION)
    noise -= (noise @ centre) * centre
    noise /= np.linalg.norm(noise)
    return np.sqrt(agreement) * centre + np.sqrt(1 - agreement) * noise


def sequence(sightings, interval, *, agreement=0.75, size=60.0, holds=None):
    """Build the input from (frame, person, x, y) rows; a negative person is the dropped face of person ``-1 - p``."""
    rng = np.random.default_rng(5)
    rows = sorted(sightings, key=lambda row: row[0])
    frames = np.array([row[0] for row in rows], np.int64)
    corners = np.array([row[2:4] for row in rows], np.float32).reshape(-1, 2)
    embeddings = [face_of(row[1], rng, agreement) if row[1] >= 0 else np.zeros(DIMENSION) for row in rows]
    return TrackInput(
        frame_index=frames,
        at_seconds=frames * interval,
        boxes=np.concatenate([corners, corners + np.float32(size)], axis=1),
        scores=np.full(len(rows), 0.9, np.float32),
        quality=np.full(len(rows), 0.7, np.float32),
        embeddings=np.array(embeddings, np.float32).reshape(-1, DIMENSION),
        has_embedding=np.array([row[1] >= 0 for row in rows], np.bool_),
        hold_seconds=np.array([(holds or {}).get(row[0], interval) for row in rows]),
    )


def walk(person, frames, start, step):
    """Return a person who moves by ``step`` pixels a frame."""
    return [(f, person, start[0] + i * step[0], start[1] + i * step[1]) for i, f in enumerate(frames)]


def run(sightings, interval, cuts=(), **kwargs):
    """Return the appearances as lists of (frame, person), and the numbers."""
    rows = sorted(sightings, key=lambda row: row[0])
    numbers = track(sequence(rows, interval, **kwargs), cuts, sample_interval_seconds=interval)
    groups = {}
    for row, number in zip(rows, numbers.tolist(), strict=True):
        groups.setdefault(number, []).append((row[0], row[1]))
    return groups, numbers


@pytest.mark.parametrize("interval", [EVERY_FRAME, TWO_A_SECOND])
@pytest.mark.parametrize(
    ("what", "sightings"),
    [
        ("one who stays", walk(0, range(20), (100, 100), (0, 0))),
        ("one who walks", walk(0, range(20), (0, 100), (9, 0))),
        ("two side by side", walk(0, range(20), (100, 100), (1, 0)) + walk(1, range(20), (200, 100), (1, 0))),
        ("two who cross", walk(0, range(21), (0, 100), (20, 0)) + walk(1, range(21), (400, 104), (-20, 0))),
        ("one who hides while the other passes",
         [s for s in walk(0, range(21), (0, 100), (20, 0)) if s[0] not in (9, 10, 11)]
         + walk(1, range(21), (400, 104), (-20, 0))),
        ("a crowd", [s for p in range(12) for s in walk(p, range(10), (70 * p, 50), (3, 2))]),
    ],
)  # fmt: skip
def test_each_person_is_one_appearance(what, sightings, interval):
    groups, _ = run(sightings, interval)
    assert sorted({tuple({person for _, person in members}) for members in groups.values()}) == [
        (person,) for person in sorted({s[1] for s in sightings})
    ]
    assert len(groups) == len({s[1] for s in sightings})


@pytest.mark.parametrize(
    ("what", "missing", "interval", "count"),
    [
        ("a flicker", range(10, 12), EVERY_FRAME, 1),
        ("just under two seconds", range(10, 58), EVERY_FRAME, 1),
        ("over two seconds", range(10, 62), EVERY_FRAME, 2),
        ("three samples at two a second", range(10, 13), TWO_A_SECOND, 1),
        ("four samples at two a second", range(10, 14), TWO_A_SECOND, 2),
        ("one sample of a slow series", range(10, 11), 3.0, 1),
        ("two samples of a slow series", range(10, 12), 3.0, 2),
    ],
)
def test_a_gap_is_bridged_up_to_its_limit(what, missing, interval, count):
    sightings = [s for s in walk(0, range(90), (100, 100), (0, 0)) if s[0] not in missing]
    assert len(run(sightings, interval)[0]) == count


def test_a_gap_is_not_bridged_to_another_person():
    sightings = walk(0, range(10), (100, 100), (0, 0)) + walk(1, range(12, 20), (100, 100), (0, 0))
    assert len(run(sightings, TWO_A_SECOND)[0]) == 2


@pytest.mark.parametrize("interval", [EVERY_FRAME, TWO_A_SECOND])
def test_another_person_in_the_same_place_is_another_appearance_even_without_a_cut(interval):
    sightings = walk(0, range(10), (100, 100), (0, 0)) + walk(1, range(10, 20), (100, 100), (0, 0))
    groups, _ = run(sightings, interval)
    assert [len(members) for members in groups.values()] == [10, 10]


def test_a_poor_face_stays_in_its_track_where_it_moved_little():
    faces = sequence(walk(0, range(10), (100, 100), (1, 0)), EVERY_FRAME, agreement=0.2)
    poor = replace(faces, quality=np.full(10, 0.1, np.float32))
    assert set(track(poor, sample_interval_seconds=EVERY_FRAME).tolist()) == {0}


@pytest.mark.parametrize("interval", [EVERY_FRAME, TWO_A_SECOND])
def test_a_cut_ends_all_appearances(interval):
    sightings = walk(0, range(20), (100, 100), (0, 0)) + walk(1, range(20), (300, 100), (0, 0))
    groups, _ = run(sightings, interval, cuts=[10 * interval])
    assert len(groups) == 4
    assert all(max(f for f, _ in m) < 10 or min(f for f, _ in m) >= 10 for m in groups.values())


def test_a_cut_survives_rounding_to_single_precision():
    interval = 1 / 29.97
    sightings = walk(0, range(60_000, 60_010), (100, 100), (0, 0))
    assert len(run(sightings, interval, cuts=[float(np.float32(60_005 * interval))])[0]) == 2


def test_a_dropped_face_joins_by_overlap_only():
    beside = [(f, -1, 400, 100) for f in range(5)]  # far from the track
    turned = [(f, -1, 102, 100) for f in (5, 6)]
    sightings = walk(0, range(5), (100, 100), (0, 0)) + turned + walk(0, range(7, 10), (100, 100), (0, 0)) + beside
    groups, numbers = run(sightings, TWO_A_SECOND)
    assert set(groups) == {0, -1}
    assert sorted(groups[0]) == sorted([(f, 0) for f in (*range(5), *range(7, 10))] + [(5, -1), (6, -1)])
    assert (numbers == -1).sum() == 5


def test_a_dropped_face_starts_no_appearance():
    groups, _ = run([(f, -1, 100, 100) for f in range(3)] + walk(0, range(3, 6), (100, 100), (0, 0)), EVERY_FRAME)
    assert groups == {-1: [(0, -1), (1, -1), (2, -1)], 0: [(3, 0), (4, 0), (5, 0)]}


def test_dropped_faces_bridge_no_gap_that_is_too_long():
    hidden = [(f, -1, 100, 100) for f in range(5, 15)]
    both = walk(0, range(5), (100, 100), (0, 0)) + walk(0, range(15, 20), (100, 100), (0, 0))
    groups, _ = run(both + hidden, TWO_A_SECOND)
    kept = {number: [s for s in members if s[1] >= 0] for number, members in groups.items() if number >= 0}
    assert [len(members) for members in kept.values()] == [5, 5]


def test_a_kept_face_goes_before_a_dropped_one():
    sightings = [*walk(0, range(5), (100, 100), (0, 0)), (5, -1, 100, 100), (5, 0, 115, 100)]
    groups, _ = run(sightings, EVERY_FRAME)
    assert (5, 0) in groups[0]
    assert groups[-1] == [(5, -1)]


def test_every_face_of_an_image_is_its_own_appearance():
    faces = sequence([(0, 0, 300, 10), (0, 0, 100, 10), (0, -1, 500, 10), (0, 2, 200, 10)], 1.0)
    assert track(faces).tolist() == [2, 0, -1, 1]


def test_no_face():
    assert track(TrackInput.empty(7)).shape == (0,)


def test_parts_of_a_video_get_the_numbers_of_the_whole():
    sightings = [s for p in range(4) for s in walk(p, range(30), (90 * p, 50), (3, 2)) if (s[0] + p) % 7]
    faces = sequence(sightings, TWO_A_SECOND)
    tracker = Tracker(sample_interval_seconds=TWO_A_SECOND)
    borders = np.searchsorted(faces.frame_index, [0, 3, 4, 11, 30])
    pieces = [tracker.update(faces[a:b]) for a, b in itertools.pairwise(borders.tolist())]
    assert np.array_equal(np.concatenate(pieces), track(faces, sample_interval_seconds=TWO_A_SECOND))


def test_faces_out_of_order_are_refused():
    faces = sequence(walk(0, range(5), (0, 0), (0, 0)), 1.0)
    with pytest.raises(ValueError, match=r"not ordered by time: 3\.0 s comes after 4\.0 s"):
        track(faces[np.arange(5)[::-1]])


def test_columns_of_other_lengths_are_refused():
    faces = sequence(walk(0, range(5), (0, 0), (0, 0)), 1.0)
    with pytest.raises(ValueError, match=r"TrackInput\.boxes has shape \(5, 3\), expected \(5, 4\)"):
        replace(faces, boxes=faces.boxes[:, :3])


def test_columns_show_shapes_and_join():
    faces = sequence(walk(0, range(5), (0, 0), (0, 0)), 1.0)
    assert "boxes=(5, 4)" in repr(faces)
    assert len(TrackInput.cat([faces[:2], faces[2:], TrackInput.empty(DIMENSION)])) == 5


@st.composite
def scenes(draw):
    """Draw faces in any place and any number, with cuts at any time."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames = draw(st.integers(1, 14))
    counts = rng.integers(0, 5, frames)
    sightings = [
        (frame, int(rng.integers(-4, 4)), float(rng.integers(0, 400)) + 0.01 * k, float(rng.integers(0, 60)))
        for frame, count in enumerate(counts)
        for k in range(count)
    ]
    interval = draw(st.sampled_from([EVERY_FRAME, TWO_A_SECOND, 2.5]))
    cuts = sorted(draw(st.sets(st.integers(0, frames), max_size=3)))
    return sequence(sightings, interval), [cut * interval for cut in cuts], interval


@given(scenes())
@settings(max_examples=150, deadline=None)
def test_laws_of_appearances(scene):
    faces, cuts, interval = scene
    numbers = track(faces, cuts, sample_interval_seconds=interval)
    assert (numbers[faces.has_embedding] >= 0).all()
    used = numbers[numbers >= 0]
    firsts = [faces.frame_index[numbers == number].min() for number in range(int(numbers.max(initial=-1)) + 1)]
    assert firsts == sorted(firsts), "numbered in order of first sight"
    shots = np.searchsorted(cuts, faces.at_seconds + 1e-6, side="right")
    for number in set(used.tolist()):
        rows = np.flatnonzero(numbers == number)
        assert len(set(faces.frame_index[rows].tolist())) == len(rows), "two faces of one frame"
        assert len(set(shots[rows].tolist())) == 1, "across a cut"
        assert faces.has_embedding[rows[0]], "started by a dropped face"
        kept_times = faces.at_seconds[rows[faces.has_embedding[rows]]]
        limit = max(TrackOptions().gap_seconds, 2 * interval) + 1e-5
        assert (np.diff(kept_times) <= limit).all()


@given(scenes(), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_the_order_of_faces_within_a_frame_does_not_matter(scene, seed):
    faces, cuts, interval = scene
    shuffle = np.lexsort((np.random.default_rng(seed).random(len(faces)), faces.frame_index))
    expected = track(faces, cuts, sample_interval_seconds=interval)
    assert np.array_equal(track(faces[shuffle], cuts, sample_interval_seconds=interval), expected[shuffle])


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_pairs_have_the_largest_sum(seed, rows, columns):
    weights = np.random.default_rng(seed).integers(-3, 4, (rows, columns)).astype(float)
    pairs = linear_assignment(weights)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)
    table = np.clip(weights if rows <= columns else weights.T, 0, None)
    best = max(
        sum(table[row, column] for row, column in enumerate(choice))
        for choice in itertools.permutations(range(table.shape[1]), table.shape[0])
    )
    assert sum(weights[pair] for pair in pairs) == best


@pytest.mark.parametrize("interval", [5.0, 10.0, 60.0, 600.0])
@pytest.mark.parametrize("step", [None, 0.5, 0.1])
def test_a_person_in_slides_is_one_appearance_however_long_they_stay(interval, step):
    sightings = walk(0, range(6), (100, 100), (2, 0)) + walk(1, range(6), (400, 100), (2, 0))
    assert track(sequence(sightings, interval), sample_interval_seconds=step).tolist() == [0, 1] * 6


@pytest.mark.parametrize("interval", [10.0, 60.0])
def test_a_person_who_misses_slides_for_too_long_is_a_new_appearance(interval):
    sightings = [s for s in walk(0, range(6), (100, 100), (0, 0)) if s[0] != 3]
    assert track(sequence(sightings, interval), sample_interval_seconds=0.5).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("unknown", [0.5, np.nan])
def test_a_frozen_frame_among_others_cuts_nothing(unknown):
    sightings = walk(0, range(4), (100, 100), (1, 0)) + walk(0, range(40, 44), (104, 100), (1, 0))
    faces = sequence(sightings, 0.5, holds={3: 18.5})
    assert set(track(faces, sample_interval_seconds=0.5).tolist()) == {0}
    passing = replace(faces, hold_seconds=np.full(8, unknown))
    assert set(track(passing, sample_interval_seconds=0.5).tolist()) == {0, 1}


def turning(angles, interval, boxes):
    """Return one face a frame, whose embedding turns in a plane by so many degrees."""
    radians = np.deg2rad(np.array(angles, np.float64))
    count = len(angles)
    embeddings = np.zeros((count, DIMENSION), np.float32)
    embeddings[:, 0], embeddings[:, 1] = np.cos(radians), np.sin(radians)
    return TrackInput(
        frame_index=np.arange(count),
        at_seconds=np.arange(count) * interval,
        boxes=np.array(boxes, np.float32),
        scores=np.full(count, 0.9, np.float32),
        quality=np.full(count, 0.7, np.float32),
        embeddings=embeddings,
        has_embedding=np.ones(count, np.bool_),
        hold_seconds=np.full(count, interval),
    )


@pytest.mark.parametrize(
    ("angles", "numbers"),
    [
        ([0, 60, 120], [0, 0, 0]),  # the last one is 60 degrees from the latest, 90 from the mean of both
        ([0, 0, 0, 60, -50], [0] * 5),  # 110 degrees from the latest, 64 from the mean
        ([0, 60, -60], [0, 0, 1]),  # 120 and 90
    ],
)
def test_a_face_joins_when_it_resembles_the_latest_one_or_their_mean(angles, numbers):
    faces = turning(angles, TWO_A_SECOND, [(100, 100, 160, 160)] * len(angles))
    assert track(faces, sample_interval_seconds=TWO_A_SECOND).tolist() == numbers


@pytest.mark.parametrize(
    ("missing", "interval", "count"),
    [
        (5, EVERY_FRAME, 1),  # gone for 0.24 s: a short gap, whatever the face looks like
        (6, EVERY_FRAME, 2),  # for 0.28 s: only the embedding could bridge it, and it does not
        (0, TWO_A_SECOND, 1),
        (1, TWO_A_SECOND, 2),
    ],
)
def test_a_gap_of_more_than_a_quarter_of_a_second_needs_the_embedding(missing, interval, count):
    sightings = [s for s in walk(0, range(12), (100, 100), (0, 0)) if not 4 <= s[0] < 4 + missing]
    faces = sequence(sightings, interval)
    unlike = np.zeros((len(faces), DIMENSION), np.float32)
    unlike[faces.frame_index < 4, 0] = 1.0
    later = faces.frame_index >= 4
    unlike[later, 0], unlike[later, 1] = 0.35, np.sqrt(1 - 0.35**2)  # just below the cosine that bridges a gap
    numbers = track(replace(faces, embeddings=unlike), sample_interval_seconds=interval)
    assert numbers.max() + 1 == count
