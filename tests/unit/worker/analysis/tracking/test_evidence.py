"""The evidence that a track and a face are one person, against densities and overlaps computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from worker.analysis.tracking import track as tracking
from worker.analysis.tracking.track import Tracker, TrackInput, TrackOptions


def normal(value, spread):
    """Log-density of a normal distribution around 0."""
    return -0.5 * (value / spread) ** 2 - math.log(spread) - 0.5 * math.log(2 * math.pi)


@pytest.mark.parametrize("elapsed", [0.04, 0.5, 1.7])
@pytest.mark.parametrize("face", [(100, 50, 140, 140), (130, 80, 170, 130), (900, 700, 1000, 790)])
def test_motion_is_the_ratio_of_two_densities(face, elapsed):
    box = (90, 60, 130, 150)  # 40 x 90: its size is 60
    own = math.sqrt((face[2] - face[0]) * (face[3] - face[1]))
    away = math.hypot((face[0] + face[2] - 220) / 2, (face[1] + face[3] - 210) / 2) / math.sqrt(60 * own)
    place, scale = math.hypot(0.1, elapsed), math.hypot(0.1, 0.3 * elapsed)
    along, growth = normal(away, place), normal(math.log(own / 60), scale)
    person = math.exp(along + normal(0, place) + growth) * 80  # someone else: 40 square face sizes, a factor of e twice
    found = tracking._motion_evidence(np.array([box], float), np.array([face], float), np.array([[elapsed]]), 0.05)
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(math.log(0.95 * person + 0.05))


def test_motion_compares_each_track_with_each_face():
    tracks = np.array([(0, 0, 40, 40), (200, 0, 240, 40)], float)
    faces = np.array([(201, 0, 241, 40), (1, 0, 41, 40), (400, 0, 440, 40)], float)
    found = tracking._motion_evidence(tracks, faces, np.array([[0.04], [0.5]]), 0.05)
    assert found.shape == (2, 3)
    assert found.argmax(axis=1).tolist() == [1, 0]
    assert found[0, 1] > found[1, 0], "what was seen just now may have moved less"
    assert found.min() >= math.log(0.05) - 1e-9, "a jump is always possible"


def test_a_face_of_no_size_is_a_pixel():
    boxes = np.array([(5, 5, 5, 5), (5, 5, 5.5, 9), (0, 0, 9, 4)], float)
    assert tracking._sizes(boxes) == pytest.approx([1, 2, 6])


@pytest.mark.parametrize(
    ("similarity", "nats"), [(0.38, 0), (0.48, 3), (0.28, -3), (0.9, 8), (1.0, 8), (0.0, -11.4), (-0.1, -12), (-1, -12)]
)
def test_an_embedding_is_worth_30_nats_a_cosine_within_bounds(similarity, nats):
    assert tracking._embedding_evidence(np.array(similarity), np.array(1.0)) == pytest.approx(nats)
    assert tracking._embedding_evidence(np.array(similarity), np.array(0.2)) == pytest.approx(nats / 5)


@pytest.mark.parametrize(
    ("first", "second", "trust"), [(0.9, 0.5, 1), (0.5, 0.9, 1), (0.25, 0.8, 0.5), (0.8, 0.25, 0.5), (0.05, 0.9, 0.2)]
)
def test_the_poorer_face_says_how_much_an_embedding_counts(first, second, trust):
    assert tracking._trust(np.array(first), np.array(second)) == pytest.approx(trust)


def test_overlap_is_intersection_over_union():
    first = np.array([(0, 0, 10, 20), (50, 50, 60, 60)], float)
    second = np.array([(5, 0, 15, 20), (0, 5, 10, 25), (2, 5, 7, 10), (50, 70, 60, 80)], float)
    found = tracking._overlaps(first, second)
    assert found == pytest.approx(np.array([[100 / 300, 150 / 250, 25 / 200, 0], [0, 0, 0, 0]]))
    assert tracking._overlaps(np.zeros((1, 4)), np.zeros((1, 4))) == pytest.approx(np.zeros((1, 1)))


def face(at_seconds, x, embedding, *, quality=0.5, hold=0.04):
    return TrackInput(
        frame_index=np.array([round(at_seconds * 25)]),
        at_seconds=np.array([at_seconds]),
        boxes=np.array([(x, 100, x + 60, 160)], np.float32),
        scores=np.ones(1, np.float32),
        quality=np.array([quality], np.float32),
        embeddings=np.array([embedding], np.float32),
        has_embedding=np.ones(1, np.bool_),
        hold_seconds=np.array([hold]),
    )


def test_a_track_moves_on_with_its_smoothed_speed_for_a_fifth_of_a_second():
    tracker = Tracker(sample_interval_seconds=0.04)
    for frame, x in enumerate((100, 104, 110)):
        tracker.update(face(0.04 * frame, x, (1, 0)))
    (one,) = tracker._tracks
    speed = 0.5 * (0.5 * 100) + 0.5 * 150  # pixels a second: 4 and 6 in a twenty-fifth
    assert one.velocity == pytest.approx([speed, 0], rel=1e-4)
    for later, shift in ((0.0, 0), (0.1, 0.1 * speed), (0.2, 0.2 * speed), (5.0, 0.2 * speed)):
        predicted = tracker._predicted(tracker._tracks, 0.08 + later)
        assert predicted == pytest.approx(np.array([[110 + shift, 100, 170 + shift, 160]]), abs=1e-3)
    assert tracker._predicted(tracker._tracks, 0.0) == pytest.approx(np.array([[110, 100, 170, 160]]), abs=1e-3)


def test_a_track_sums_embeddings_by_quality_and_keeps_the_best():
    tracker = Tracker(sample_interval_seconds=0.04)
    tracker.update(face(0.0, 100, (1, 0), quality=0.01))
    tracker.update(face(0.04, 100, (0.8, 0.6), quality=0.6))
    tracker.update(face(0.08, 100, (1, 0), quality=0.25))
    (one,) = tracker._tracks
    assert one.direction == pytest.approx([0.05 + 0.48 + 0.25, 0.36], abs=1e-6)
    assert one.quality == pytest.approx(0.6)
    assert one.latest.tolist() == [1, 0]
    assert (one.at_seconds, one.seen_seconds, one.kept_seconds) == pytest.approx((0.08, 0.08, 0.08))


def test_a_track_of_a_frame_that_stays_is_seen_until_it_goes():
    tracker = Tracker(sample_interval_seconds=0.5)
    tracker.update(face(2.0, 100, (1, 0), hold=6.0))
    (one,) = tracker._tracks
    assert (one.at_seconds, one.seen_seconds, one.kept_seconds) == pytest.approx((2.0, 7.5, 7.5))


@pytest.mark.parametrize(("interval", "limit"), [(None, 2.0), (0.04, 2.0), (0.5, 2.0), (3.0, 6.0)])
def test_a_track_ends_after_two_seconds_or_two_samples(interval, limit):
    assert Tracker(sample_interval_seconds=interval)._gap == pytest.approx(limit, abs=1e-5)
    assert Tracker(sample_interval_seconds=interval)._gap > limit


@pytest.mark.parametrize(("interval", "limit"), [(None, 0.25), (0.04, 0.25), (0.5, 0.75)])
def test_a_sample_is_missed_after_a_quarter_of_a_second_or_half_a_step_more(interval, limit):
    tracker = Tracker(sample_interval_seconds=interval)
    assert not tracker._is_gap(limit)
    assert tracker._is_gap(limit + 1e-6)


def test_limits_are_as_documented():
    options = TrackOptions()
    assert (options.gap_seconds, options.gap_similarity, options.overlap, options.jump) == (2.0, 0.38, 0.3, 0.05)


def test_a_cut_belongs_to_the_shot_that_it_begins():
    tracker = Tracker([1.0, 2.0], sample_interval_seconds=0.5)
    shots = []
    for at in (0.9, 1.0 - 4e-4, 1.5, 2.0):
        tracker.update(face(at, 100, (1, 0)))
        shots.append(tracker._tracks[-1].shot)
    assert shots == [0, 1, 1, 2]
    assert len(tracker._tracks) == 1, "tracks of other shots are gone"
