"""Recalls and balanced accuracy of made answers, and the counts that tables show beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.types import HeadOutput
from training.data import face_sets as data
from training.evaluate import scores
from training.evaluate.evaluate import Evaluation
from training.evaluate.recalls import BALANCED, RECALL, balanced_outcomes, recall_findings
from training.evaluate.report import tables

LABELS = ("calm", "glad", "sad")
PLACE = ("made", "mood", BALANCED)


def findings(predicted, truth):
    files = [f"{n}.jpg" for n in range(len(truth))]
    return recall_findings(PLACE, LABELS, np.array(predicted), np.array(truth), files)


def test_each_class_that_occurs_counts_alike():
    found = findings([0, 0, 0, 0, 2, 0], [0, 0, 0, 0, 0, 2])
    assert {row.group: (row.figure.value, row.figure.count) for row in found.rows if row.measure == RECALL} == {
        "calm": (4 / 5, 5),
        "sad": (0, 1),
    }
    assert found.rows[0].figure.value == pytest.approx((4 / 5 + 0) / 2)
    assert findings([], []).rows == ()


def test_outcomes_of_single_faces_average_to_the_figures():
    predicted, truth = np.array([0, 1, 1, 2, 0, 0, 1]), np.array([0, 0, 1, 2, 2, 2, 1])
    balanced, recall = findings(predicted, truth).outcomes
    assert balanced.unpack().mean() == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)
    assert recall.unpack()[recall.members("sad")].mean() == pytest.approx(1 / 3)
    assert balanced_outcomes(np.ones(7, dtype=bool), truth).tolist() == [1] * 7  # whatever a resample draws


def test_a_balanced_accuracy_is_shown_with_the_classes_that_have_few_faces():
    found = findings([0] * 20 + [1] * 19, [0] * 20 + [1] * 19)
    text = tables.overall(Evaluation("made", "0", "test", (), found.rows))
    assert "| made, mood | balanced accuracy | 100.0 % (100.0-100.0) | 39 (glad 19) |" in text
    assert "| made, mood | calm | 100.0 % (100.0-100.0) | 20 |" in tables.recalls(
        Evaluation("made", "0", "test", (), found.rows)
    )
    assert tables.recalls(Evaluation("made", "0", "test", (), ())) == ""


def people(ages):
    count = len(ages)
    return data.UtkFace(
        name="utkface",
        root=None,
        files=np.array([f"{n}.jpg" for n in range(count)]),
        split=np.full(count, "test"),
        age=np.array(ages, dtype=np.float32),
        gender=np.arange(count) % 2,
        ethnicity=np.zeros(count, dtype=np.int64),
    )


def test_coverage_of_the_age_is_measured_for_each_group():
    value = torch.tensor([10.0, 30, 30, 70])
    head = HeadOutput(tuple(map(str, range(117))), torch.eye(117)[value.long()], value, value - 5, value + 5)
    found = scores.people_findings({"age": head}, people([10, 30, 36, 60]))
    rows = {row.group: row.figure.value for row in found.rows if row.measure == scores.COVERAGE}
    assert (rows["all"], rows["male"], rows["female"], rows["18-39"], rows["60+"]) == (0.5, 0.5, 0.5, 0.5, 0)
    outcome = next(one for one in found.outcomes if one.measure == scores.COVERAGE)
    assert outcome.unpack().tolist() == [1, 1, 0, 0]
    assert outcome.members("male / White / 18-39").tolist() == [False, False, True, False]
