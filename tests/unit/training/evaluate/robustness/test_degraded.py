"""Figures on degraded copies, for a head that sees nothing but the brightness of a crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.types import HeadOutput
from training.data import face_sets as data
from training.data.degradations import COPIES, degraded_copy
from training.evaluate.recalls import BALANCED
from training.evaluate.robustness import degraded
from training.evaluate.scores import COVERAGE

COUNT = 12


def crops():
    """Return plain crops, dark ones of men and bright ones of women."""
    level = np.where(np.arange(COUNT) < 8, 60, 150).astype(np.uint8)
    return np.broadcast_to(level[:, None, None, None], (COUNT, 3, 112, 112)).copy()


def people():
    return data.UtkFace(
        name="utkface",
        root=None,
        files=np.array([f"{n}.jpg" for n in range(COUNT)]),
        split=np.full(COUNT, "test"),
        age=np.where(np.arange(COUNT) < 3, np.nan, 60).astype(np.float32),
        gender=(np.arange(COUNT) >= 8).astype(np.int64),
        ethnicity=np.full(COUNT, data.UNKNOWN),
    )


def answers(pixels):
    """Call a face female where its crop is bright, of as many years as its brightness, within twenty."""
    level = torch.from_numpy(np.array(pixels)).float().mean(dim=(1, 2, 3))
    female = (level > 100).float()
    return {
        "gender": HeadOutput(data.GENDERS, torch.stack((1 - female, female), dim=1)),
        "ethnicity": HeadOutput(data.ETHNICITIES, torch.eye(5)[[0] * len(level)]),
        "age": HeadOutput(("0",), torch.ones(len(level), 1), level, level - 20, level + 20),
        "attributes": HeadOutput(("Male",), torch.full((len(level), 1), 0.9)),
    }


@pytest.fixture(scope="module")
def found():
    faces = people()
    return degraded.degraded_findings(answers, crops(), faces, lambda heads: degraded.people_values(heads, faces))


def figures(found):
    return {(row.task, row.measure, row.group): row.figure for row in found.rows}


def test_each_copy_and_the_mean_over_all(found):
    rows = figures(found)
    of_copy = [rows["gender, by degradation", "accuracy", name].value for name in COPIES]
    genders = people().gender
    for name, value in zip(COPIES, of_copy, strict=True):
        level = degraded_copy(torch.from_numpy(crops()), name).float().mean(dim=(1, 2, 3)).numpy()
        assert value == pytest.approx(np.mean((level > 100) == genders))
    assert rows["gender, by degradation", "accuracy", "grey"].value == 1
    assert rows["gender, by degradation", "accuracy", "low light"].value == pytest.approx(8 / 12)
    overall = rows["gender, degraded", "accuracy", "all"]
    assert overall.value == pytest.approx(np.mean(of_copy))
    assert overall.count == COUNT
    assert rows["gender, by degradation", BALANCED, "low light"].value == pytest.approx(1 / 2)


def test_faces_without_a_label_are_left_out(found):
    rows = figures(found)
    assert rows["age, degraded", "mean absolute error", "all"].count == 9
    assert rows["age, by degradation", "mean absolute error", "grey"].value == pytest.approx((5 * 0 + 4 * 90) / 9)
    assert rows["age, by degradation", COVERAGE, "grey"].value == pytest.approx(5 / 9)
    assert ("ethnicity, degraded", "accuracy", "all") not in rows


def test_contradictions_are_counted_on_copies_too(found):
    assert figures(found)["gender against Male, by degradation", "contradictions", "grey"].value == pytest.approx(
        4 / 12
    )


def test_outcomes_are_those_of_the_figures(found):
    rows = figures(found)
    for one in found.outcomes:
        if one.task.endswith(degraded.BY_COPY):
            for name in COPIES:
                expected = rows[one.task, one.measure, name].value
                assert one.unpack()[one.members(name)].mean() == pytest.approx(expected, abs=1e-5)
        else:
            assert one.unpack().mean() == pytest.approx(rows[one.task, one.measure, "all"].value, abs=1e-5)


def test_emotions_and_attributes():
    labels = tuple(reversed(data.ORIGINAL_EMOTIONS))
    fer = data.Fer2013(
        name="fer2013",
        root=None,
        files=np.array(["a", "b"]),
        split=np.array(["test", "test"]),
        votes=np.zeros((2, 8), dtype=np.float32),
        other_votes=np.zeros(2, dtype=np.float32),
        majority=np.array([data.EMOTIONS.index("contempt"), data.UNKNOWN]),
        original=np.array([data.EMOTIONS.index("anger"), data.EMOTIONS.index("fear")]),
    )
    heads = {
        "emotion": HeadOutput(data.EMOTIONS, torch.eye(8)[[7, 0]]),
        "emotion7": HeadOutput(labels, torch.eye(7)[[labels.index("anger"), labels.index("sadness")]]),
    }
    means = {(one.task, one.measure): one.values.mean() for one in degraded.emotion_values(heads, fer)}
    assert (means["emotion", "accuracy"], means["emotion7", "accuracy"]) == (1, 0.5)
    celeba = data.CelebA(
        name="celeba10k",
        root=None,
        files=np.array(["a", "b"]),
        split=np.array(["test", "test"]),
        attributes=np.array([[1, 0], [1, 1]], dtype=np.float32),
        identity=np.array([3, 5]),
        names=("Male", "Bald"),
    )
    heads = {
        "attributes": HeadOutput(("Bald", "Male"), torch.tensor([[0.1, 0.9], [0.2, 0.8]])),
        "gender": HeadOutput(data.GENDERS, torch.eye(2)[[0, 1]]),
    }
    means = {(one.task, one.measure): one.values.mean() for one in degraded.attribute_values(heads, celeba)}
    assert means["attributes", "mean accuracy"] == pytest.approx(3 / 4)
    assert means["gender", "accuracy"] == pytest.approx(1 / 2)
    assert means["gender against Male", "contradictions"] == pytest.approx(1 / 2)
