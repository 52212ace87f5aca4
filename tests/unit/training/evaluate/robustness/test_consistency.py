"""Heads that contradict each other, on answers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.types import HeadOutput
from training.data import face_sets as data
from training.evaluate.robustness import consistency

FACES = data.FaceSet(
    name="made", root=None, files=np.array([f"{n}.jpg" for n in range(4)]), split=np.full(4, "test")
)  # fmt: skip


def attributes(names, given):
    return HeadOutput(names, torch.tensor(given) * 0.8 + 0.1, is_multi_label=True)


@pytest.mark.parametrize("labels", [data.GENDERS, tuple(reversed(data.GENDERS))])
def test_gender_and_male_contradict_whatever_the_order_of_the_labels(labels):
    answers = torch.eye(2)[[labels.index(name) for name in ("male", "male", "female", "female")]]
    heads = {
        "gender": HeadOutput(labels, answers),
        "attributes": attributes(("Bald", "Male"), [[1, 1], [1, 0], [0, 1], [0, 0]]),
    }
    found = consistency.consistency_findings(heads, FACES)
    assert [(row.task, row.measure, row.figure.value) for row in found.rows] == [
        ("gender against Male", "contradictions", 0.5)
    ]
    assert found.outcomes[0].unpack().tolist() == [0, 1, 1, 0]
    assert not found.outcomes[0].higher_is_better


def test_ages_between_30_and_50_contradict_neither_answer():
    years = torch.tensor([29.0, 30, 50, 51])
    for young, expected in ((1, [0, 0, 0, 1]), (0, [1, 0, 0, 0])):
        heads = {
            "age": HeadOutput(("0",), torch.ones(4, 1), years),
            "attributes": attributes(("Young",), [[young]] * 4),
        }
        (one,) = consistency.contradictions(heads)
        assert (one.task, one.found.tolist()) == ("age against Young", [bool(n) for n in expected])


def test_heads_that_are_not_there_contradict_nothing():
    alone = {"gender": HeadOutput(data.GENDERS, torch.eye(2))}
    assert list(consistency.contradictions(alone)) == []
    assert list(consistency.contradictions(alone | {"attributes": attributes(("Bald",), [[1], [0]])})) == []
    assert consistency.consistency_findings({}, FACES[:0]).rows == ()
