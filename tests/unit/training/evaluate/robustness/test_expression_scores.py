"""Expressions of made faces against the answers of two heads, and the identity of a film's people."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.types import HeadOutput
from training.data.expressions import ExpressiveFaces
from training.data.face_sets import EMOTIONS, ORIGINAL_EMOTIONS, UNKNOWN
from training.evaluate.robustness.expression_scores import (
    expression_findings,
    film_identity_findings,
    person_groups,
)

NAMES = ("neutral", "anger", "contempt", "anger", None)


def faces(expressions, people):
    number = [EMOTIONS.index(name) if name else UNKNOWN for name in expressions]
    count = len(expressions)
    return ExpressiveFaces(
        name="film_faces",
        root=None,
        files=np.array([f"{n:04d}.jpg" for n in range(count)]),
        split=np.full(count, "test"),
        expression=np.array(number, dtype=np.int64),
        person=np.array(people),
    )


def answers(labels, *names):
    return HeadOutput(labels, torch.eye(len(labels))[[labels.index(name) for name in names]])


def test_each_head_is_compared_by_the_names_of_its_labels():
    labels = tuple(reversed(ORIGINAL_EMOTIONS))
    heads = {
        "emotion": answers(EMOTIONS, "neutral", "contempt", "contempt", "anger", "fear"),
        "emotion7": answers(labels, "anger", "anger", "anger", "anger", "fear"),
    }
    made = faces(NAMES, ["A", "A", "B", "B", "B"])
    found = expression_findings(heads, made, person_groups(made))
    rows = {(row.task, row.measure, row.group): row.figure for row in found.rows}
    assert rows["emotion", "accuracy", "all"].value == pytest.approx(3 / 4)
    assert rows["emotion", "recall", "anger"].value == pytest.approx(1 / 2)
    assert rows["emotion7", "accuracy", "all"].count == 3  # it has no contempt
    assert rows["emotion7", "accuracy", "all"].value == pytest.approx(2 / 3)
    assert rows["emotion7", "balanced accuracy", "all"].value == pytest.approx((0 + 1) / 2)
    assert rows["emotion", "accuracy", "A"].value == pytest.approx(1 / 2)
    assert expression_findings({}, made).rows == ()


def test_people_of_a_film_are_told_apart_by_all_pairs_of_their_faces():
    random = np.random.default_rng(0)
    people = np.repeat(["A", "B", "C"], 70)
    centres = np.repeat(np.eye(3, 16), 70, axis=0)
    embeddings = centres + 0.2 * random.normal(size=centres.shape)
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    made = faces(["neutral"] * 210, people)
    rows = {(row.measure, row.group): row.figure for row in film_identity_findings(embeddings, made).rows}
    figure = rows["true positives at 0.1 % false ones", "all"]
    assert (figure.count, figure.value) == (210, pytest.approx(0.5, abs=0.4))
    assert figure.low < figure.value < figure.high
    assert rows["true positives at 0.1 % false ones", "B"].count == 70
    assert film_identity_findings(embeddings[:70], made[np.arange(70)]).rows == ()  # one person has no impostors
