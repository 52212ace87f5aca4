"""The predictions of an appearance follow from its faces, from clear ones more than from poor ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.analysis.tracking.appearances import AppearanceFaces, AppearanceSums, Verdict, summarise
from worker.analysis.tracking.holds import Holds
from worker.types import HeadRows

GENDERS = ("male", "female")


def faces_of(numbers, *, quality=None, kept=None, times=None, embeddings=None, holds=None):
    count = len(numbers)
    held = Holds.of(np.full(count, 0.5) if holds is None else np.array(holds), 0.5)
    return AppearanceFaces(
        appearance=np.array(numbers, np.int64),
        at_seconds=np.arange(count) * 0.5 if times is None else np.array(times, np.float64),
        quality=np.full(count, 0.5, np.float32) if quality is None else np.array(quality, np.float32),
        kept=np.ones(count, np.bool_) if kept is None else np.array(kept, np.bool_),
        embeddings=np.eye(count, 7, dtype=np.float32) if embeddings is None else np.array(embeddings, np.float32),
        screen_seconds=held.screen_seconds,
        pause_seconds=held.pause_seconds,
        steps=held.steps,
    )


def head(labels, rows):
    return HeadRows(labels, np.array(rows, np.float32))


def ages(values, half):
    values = np.array(values, np.float32)
    return HeadRows((), np.zeros((len(values), 0), np.float32), values, values - half, values + half)


def test_probabilities_are_averaged_by_quality_before_the_label():
    # two poor faces are predicted male, one clear face female
    gender = head(GENDERS, [(0.6, 0.4), (0.6, 0.4), (0.1, 0.9)])
    (one,) = summarise(faces_of([0, 0, 0], quality=[0.1, 0.1, 0.8]), {"gender": gender})
    assert one.gender == Verdict(label="female", confidence=pytest.approx(0.8))


@pytest.mark.parametrize(("threshold", "label"), [(0.0, "female"), (0.7, "female"), (0.9, "unknown")])
def test_a_head_abstains_below_its_threshold_and_keeps_its_confidence(threshold, label):
    (one,) = summarise(faces_of([0]), {"gender": head(GENDERS, [(0.2, 0.8)])}, abstention={"gender": threshold})
    assert one.gender.label == label
    assert one.gender.confidence == pytest.approx(0.8)


@pytest.mark.parametrize(("threshold", "label"), [(0.75, "female"), (np.nextafter(0.75, 1), "unknown")])
def test_a_head_answers_from_its_threshold_on(threshold, label):
    (one,) = summarise(faces_of([0]), {"gender": head(GENDERS, [(0.25, 0.75)])}, abstention={"gender": threshold})
    assert one.gender == Verdict(label=label, confidence=0.75)


def test_dropped_faces_are_counted_and_change_no_prediction():
    nothing = np.full(7, np.nan)
    faces = faces_of(
        [0, 0, 0], kept=[False, True, False], quality=[0.9, 0.4, 0.9], embeddings=[nothing, np.eye(7)[2], nothing]
    )
    gender = head(GENDERS, [(np.nan, np.nan), (0.9, 0.1), (np.nan, np.nan)])
    (one,) = summarise(faces, {"gender": gender})
    assert (one.face_count, one.start_seconds, one.end_seconds) == (3, 0.0, 1.0)
    assert (one.best_face, one.quality) == (1, pytest.approx(0.4))
    assert one.gender.label == "male"
    assert one.embedding.tolist() == np.eye(7)[2].tolist()


def test_faces_without_an_appearance_are_left_out():
    assert [one.number for one in summarise(faces_of([-1, 1, 0, -1, 1]), {})] == [0, 1]
    assert summarise(faces_of([-1, -1]), {}) == ()
    assert summarise(faces_of([]), {}) == ()


def test_an_appearance_of_dropped_faces_is_refused():
    with pytest.raises(ValueError, match="appearance 0 has only dropped faces"):
        summarise(faces_of([0], kept=[False]), {})


def test_a_head_of_another_length_is_refused():
    with pytest.raises(ValueError, match="'gender' has 1 rows, expected 2"):
        summarise(faces_of([0, 0]), {"gender": head(GENDERS, [(0.5, 0.5)])})


def test_heads_that_are_off_have_no_prediction():
    (one,) = summarise(faces_of([0]), {})
    assert one.age is None
    assert one.gender is None
    assert one.emotions == {}
    assert one.attributes == {}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([30], (30, 24, 36)),  # one face: its own interval
        ([30, 30, 30, 30], (30, 24, 36)),  # agreement does not narrow it
        ([20, 40], (30, 30 - 10.86, 30 + 10.86)),  # sqrt(6^2 + (1.2816 * 10 / sqrt(2))^2)
    ],
)
def test_age_and_its_interval(values, expected):
    (one,) = summarise(faces_of([0] * len(values)), {"age": ages(values, 6.0)})
    assert (one.age.value, one.age.low, one.age.high) == pytest.approx(expected, abs=0.01)


def test_no_age_is_below_zero():
    (one,) = summarise(faces_of([0]), {"age": ages([2.0], 6.0)})
    assert (one.age.low, one.age.high) == (0.0, 8.0)


def test_emotions_are_shares_and_the_largest_is_the_emotion():
    emotion = head(("neutral", "happiness", "anger"), [(0.7, 0.2, 0.1), (0.1, 0.9, 0.0), (0.1, 0.9, 0.0)])
    (one,) = summarise(faces_of([0, 0, 0]), {"emotion": emotion})
    assert one.emotions == pytest.approx({"neutral": 0.3, "happiness": 2 / 3, "anger": 0.1 / 3})
    assert one.emotion == Verdict(label="happiness", confidence=pytest.approx(2 / 3))


def test_attributes_are_mean_probabilities():
    attributes = head(("eyeglasses", "smiling"), [(0.9, 0.5), (0.8, 0.3)])
    (one,) = summarise(faces_of([0, 0]), {"attributes": attributes})
    assert one.attributes == pytest.approx({"eyeglasses": 0.85, "smiling": 0.4})


def test_the_embedding_points_to_the_clear_faces():
    (one,) = summarise(faces_of([0, 0], quality=[0.9, 0.1], embeddings=[np.eye(7)[0], np.eye(7)[1]]), {})
    assert np.linalg.norm(one.embedding) == pytest.approx(1.0)
    assert one.embedding[0] == pytest.approx(9 * one.embedding[1])
    assert one.embedding.dtype == np.float32


def test_opposite_embeddings_have_no_mean():
    (one,) = summarise(faces_of([0, 0], embeddings=[np.eye(7)[0], -np.eye(7)[0]]), {})
    assert not one.embedding.any()


def test_the_earliest_of_equally_good_faces_is_the_best():
    assert summarise(faces_of([0, 0, 0], quality=[0.2, 0.7, 0.7]), {})[0].best_face == 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_appearances_share_out_their_faces_and_stay_probabilities(seed, count):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-1, 4, count)
    rows = rng.dirichlet((1, 1, 1), count)
    faces = faces_of(numbers, quality=rng.random(count), embeddings=rng.normal(size=(count, 7)))
    found = summarise(faces, {"emotion": head(("a", "b", "c"), rows)})
    assert [(one.number, one.face_count) for one in found] == [
        (number, np.count_nonzero(numbers == number)) for number in np.unique(numbers[numbers >= 0])
    ]
    for one in found:
        assert sum(one.emotions.values()) == pytest.approx(1.0)
        assert numbers[one.best_face] == one.number
        assert one.emotion.confidence == max(one.emotions.values())


@pytest.mark.parametrize(
    ("times", "holds", "start", "end", "screen"),
    [
        ([0.0, 0.5, 1.0], [0.5, 0.5, 0.5], 0.0, 1.0, 1.5),
        ([0.0, 0.5, 1.0], [0.5, 0.5, 0.03], 0.0, 1.0, 1.03),
        ([20.0], [10.0], 20.0, 29.5, 10.0),
        ([0.0, 5.0], [5.0, 0.033], 0.0, 5.0, 5.033),
        ([0.0, 0.5], [0.5, 8.0], 0.0, 8.0, 8.5),
        ([0.0], [0.03], 0.0, 0.0, 0.03),
    ],
)
def test_time_in_view_lasts_to_the_end_of_the_last_frame(times, holds, start, end, screen):
    (one,) = summarise(faces_of([0] * len(times), times=times, holds=holds), {})
    assert (one.start_seconds, one.end_seconds, one.screen_seconds) == pytest.approx((start, end, screen))


def test_an_emotion_counts_by_its_time_and_other_attributes_by_the_frame():
    happy = head(("happiness", "anger"), [(1, 0), (0, 1)])
    gender = head(GENDERS, [(1, 0), (0, 1)])
    (one,) = summarise(faces_of([0, 0], times=[0.0, 9.5], holds=[9.5, 0.5]), {"emotion": happy, "gender": gender})
    assert one.emotions == pytest.approx({"happiness": 0.95, "anger": 0.05})
    assert one.gender.confidence == pytest.approx(0.5)


def test_faces_that_come_block_by_block_are_aggregated_as_at_once():
    rng = np.random.default_rng(4)
    columns = {"quality": rng.random(9), "embeddings": rng.normal(size=(9, 7)), "times": np.arange(9.0)}
    rows = rng.dirichlet((1, 1, 1), 9)
    sums = AppearanceSums()
    for part in (slice(0, 4), slice(4, 9)):
        faces = faces_of([3] * len(rows[part]), **{name: values[part] for name, values in columns.items()})
        sums.add(faces, {"emotion": head(("a", "b", "c"), rows[part])})
    (found,) = sums.close([3])
    (expected,) = summarise(faces_of([3] * 9, **columns), {"emotion": head(("a", "b", "c"), rows)})
    assert (found.best_face, found.face_count, found.end_seconds) == (expected.best_face, 9, 8.0)
    assert found.embedding == pytest.approx(expected.embedding)
    assert found.emotions == pytest.approx(expected.emotions)
    assert sums.open == []
