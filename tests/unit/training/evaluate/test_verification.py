"""LFW's protocol and counts of detections on made values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.trunks.registry import layout_of
from training.data.face_sets import FaceSet, LabelledImage, Pairs
from training.evaluate.detection import tally
from training.evaluate.evaluate import bottlenecks
from training.evaluate.verification import (
    FALSE_ACCEPTANCE,
    best_threshold,
    held_back_accuracy,
    verification_findings,
    verify,
)


def test_best_threshold_lies_between_the_classes():
    similarity = np.array([0.1, 0.2, 0.6, 0.9], dtype=np.float32)
    assert 0.2 < best_threshold(similarity, np.array([False, False, True, True])) < 0.6


@pytest.mark.parametrize(
    ("similarity", "same", "threshold"),
    [
        ([0.1, 0.2, 0.6, 0.9], [False, False, True, True], 0.4),
        ([0.9, 0.2, 0.6, 0.1], [True, False, True, False], 0.4),  # in any order
        ([0.1, 0.3, 0.5, 0.7, 0.9], [False, True, False, True, True], 0.2),  # of two as good, the lower
        ([0.1, 0.3, 0.5, 0.7], [False, False, True, False], 0.4),  # three right: more than if all were different
        ([0.1, 0.3, 0.5], [True, True, True], -1.0),
        ([0.1, 0.3, 0.5], [False, False, False], 1.0),
    ],
)
def test_the_best_threshold_judges_most_pairs_right(similarity, same, threshold):
    found = best_threshold(np.array(similarity, np.float32), np.array(same))
    assert found == pytest.approx(threshold)


def test_folds_are_judged_with_the_threshold_of_the_others():
    left = np.arange(0, 20, 2)
    same = np.tile([True, False], 5)
    embeddings = np.zeros((20, 3), dtype=np.float32)
    embeddings[left, 0] = 1
    embeddings[left[same] + 1, 0] = 1
    embeddings[left[~same] + 1, 1] = 1
    pairs = Pairs(left=left, right=left + 1, same=same, fold=np.arange(10) // 2)
    found = verify(embeddings, pairs)
    assert found.correct.all()
    assert found.fold_accuracy.tolist() == [1.0] * 5
    assert found.thresholds.shape == (5,)


def pairs_of(similarity, same, fold):
    """Pairs of so many cosines: the left face is an axis, the right one turned from it."""
    cosine = np.array(similarity, np.float32)
    count = len(cosine)
    embeddings = np.zeros((2 * count, 2), np.float32)
    embeddings[:count, 0] = 1
    embeddings[count:] = np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1)
    rows = np.arange(count)
    return embeddings, Pairs(left=rows, right=rows + count, same=np.array(same), fold=np.array(fold))


def test_a_fold_has_no_say_in_the_threshold_that_judges_it():
    # Two folds part at 0.3; the last one parts at 0.7, and with the threshold of the others all its pairs look alike.
    similarity = [0.2, 0.4, 0.2, 0.4, 0.6, 0.8]
    embeddings, pairs = pairs_of(similarity, [False, True] * 3, [0, 0, 1, 1, 2, 2])
    found = verify(embeddings, pairs)
    assert found.thresholds[2] == pytest.approx(0.3)
    assert found.correct.tolist() == [True, True, True, True, False, True]
    assert found.fold_accuracy.tolist() == [1.0, 1.0, 0.5]


def test_the_last_folds_are_judged_with_the_threshold_of_the_eighth():
    # Fold 8 parts at 0.7; folds 9 and 10 would part at 0.3, and all others at -0.2.
    similarity = [-0.5, 0.1, 0.8, 0.6, 0.2, 0.4, 0.2, 0.75]
    same = [False, True, True, False, False, True, False, True]
    embeddings, pairs = pairs_of(similarity, same, [0, 0, 7, 7, 8, 8, 9, 9])
    figure = held_back_accuracy(embeddings, pairs)
    assert (figure.value, figure.count) == (0.75, 4)


def faces_of(pairs):
    count = 2 * len(pairs.left)
    return FaceSet(
        name="made", root=Path(), files=np.array([f"{n}.jpg" for n in range(count)]), split=np.array(["test"] * count)
    )


def test_verification_is_told_with_its_error_over_folds():
    similarity = [0.2, 0.4, 0.2, 0.4, 0.6, 0.8]
    embeddings, pairs = pairs_of(similarity, [False, True] * 3, [0, 0, 1, 1, 2, 2])
    found = verification_findings(embeddings, faces_of(pairs), pairs)
    figures = {row.measure: row.figure for row in found.rows}
    assert figures["accuracy"].value == pytest.approx(5 / 6)
    error = figures["standard error over folds"]
    assert (error.value, error.count) == (pytest.approx(np.std([1, 1, 0.5], ddof=1) / 3**0.5), 3)
    assert figures["true positives at 0.1 % false ones"].value == pytest.approx(1 / 3)  # above 0.6, the best of others
    (outcomes,) = found.outcomes
    assert outcomes.unpack().tolist() == [1, 1, 1, 1, 0, 1]
    assert FALSE_ACCEPTANCE == 0.001


@pytest.mark.parametrize(
    ("same", "fold"), [([True] * 4, [0, 0, 1, 1]), ([False] * 4, [0, 0, 1, 1]), ([True, False] * 2, [3] * 4)]
)
def test_nothing_is_told_where_there_is_no_threshold_to_choose(same, fold):
    embeddings, pairs = pairs_of([0.1, 0.2, 0.3, 0.4], same, fold)
    assert verification_findings(embeddings, faces_of(pairs), pairs).rows == ()
    embeddings, pairs = pairs_of([0.1, 0.2, 0.3, 0.4], [True, False] * 2, [0, 0, 1, 1])
    assert len(verification_findings(embeddings, faces_of(pairs), pairs).rows) == 3


def boxes(*rows):
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (boxes(), (1, 0, 0)),
        (boxes((0, 0, 40, 40)), (1, 1, 0)),
        (boxes((0, 0, 40, 40), (1, 1, 41, 41)), (1, 1, 0)),  # a second box on a face is no false positive, nor a hit
        (boxes((100, 0, 108, 8)), (1, 0, 0)),  # a face too small to count
        (boxes((200, 0, 240, 40)), (1, 0, 0)),  # a face marked invalid
        (boxes((300, 0, 340, 40)), (1, 0, 1)),
    ],
)
def test_tally_of_an_image(found, expected):
    image = LabelledImage(Path("a.jpg"), boxes((0, 0, 40, 40), (100, 0, 108, 8)), boxes((200, 0, 240, 40)))
    result = tally(image, found)
    assert (result.faces, result.found, result.false_positives) == expected


def test_only_a_trunk_with_vectors_before_its_embedding_is_compared_by_them():
    assert bottlenecks(layout_of("face24")) == ["bn320"]
    assert bottlenecks(layout_of("sface")) == bottlenecks(layout_of("dlib29")) == []
