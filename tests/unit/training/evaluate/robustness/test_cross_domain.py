"""Heads on sets whose labels they have not learnt, on answers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.types import HeadOutput
from training.data import face_sets as data
from training.evaluate.robustness import cross_domain

FEMALE_FIRST = tuple(reversed(data.GENDERS))


def celeba(names, attributes):
    count = len(attributes)
    return data.CelebA(
        name="celeba10k",
        root=None,
        files=np.array([f"{n}.jpg" for n in range(count)]),
        split=np.full(count, "test"),
        attributes=np.array(attributes, dtype=np.float32),
        identity=np.arange(count),
        names=names,
    )


def figures(found):
    return {(row.task, row.measure, row.group): row.figure for row in found.rows}


@pytest.mark.parametrize("labels", [data.GENDERS, FEMALE_FIRST])
def test_gender_is_compared_with_male_whatever_the_order_of_the_labels(labels):
    answers = torch.eye(2)[[labels.index(name) for name in ("male", "female", "female")]]
    found = cross_domain.photo_findings({"gender": HeadOutput(labels, answers)}, celeba(("Male",), [[1], [0], [1]]))
    assert figures(found)["gender", "accuracy", "all"].value == pytest.approx(2 / 3)
    assert figures(found)["gender", "balanced accuracy", "all"].value == pytest.approx((1 / 2 + 1) / 2)
    assert [one.unpack().tolist() for one in found.outcomes if one.measure == "accuracy"] == [[1, 1, 0]]


@pytest.mark.parametrize(("task", "labels"), [("emotion", data.EMOTIONS), ("emotion7", data.ORIGINAL_EMOTIONS)])
def test_happiness_is_compared_with_smiling(task, labels):
    answers = torch.eye(len(labels))[[labels.index(name) for name in ("happiness", "anger", "neutral", "happiness")]]
    faces = celeba(("Young", "Smiling"), [[0, 1], [1, 0], [0, 1], [1, 1]])
    found = cross_domain.photo_findings({task: HeadOutput(labels, answers)}, faces)
    assert figures(found)[cross_domain.SMILE_TASK, "accuracy", "all"].value == pytest.approx(3 / 4)
    assert figures(found)[cross_domain.SMILE_TASK, "balanced accuracy", "all"].value == pytest.approx((2 / 3 + 1) / 2)


def test_a_release_without_these_heads_is_not_checked():
    faces = celeba(("Male", "Smiling"), [[1, 0], [0, 1]])
    assert cross_domain.photo_findings({"age": HeadOutput(("0", "1"), torch.eye(2))}, faces).rows == ()
    assert cross_domain.lfw_gender_findings({}, lfw("A", "B"), {"A": 0}).rows == ()


def lfw(*people):
    files = [f"images/{person}/{person}_{n:04d}.jpg" for n, person in enumerate(people)]
    return data.FaceSet(name="lfw", root=None, files=np.array(files), split=np.full(len(files), "test"))


def test_gender_of_lfw_counts_faces_whose_person_is_labelled():
    head = HeadOutput(data.GENDERS, torch.eye(2)[[0, 0, 1, 1, 0]])
    found = figures(
        cross_domain.lfw_gender_findings({"gender": head}, lfw("A", "A", "B", "C", "D"), {"A": 0, "B": 1, "C": 0})
    )
    assert found["gender", "accuracy", "all"].value == pytest.approx(3 / 4)
    assert found["gender", "accuracy", "all"].count == 4
    assert found["gender", "accuracy", "male"].value == pytest.approx(2 / 3)
    assert found["gender", "accuracy", "female"].value == 1
    assert found["gender", "balanced accuracy", "all"].value == pytest.approx((2 / 3 + 1) / 2)


def test_an_interval_over_people_is_wider_than_one_over_their_many_images():
    people = [f"P{n % 20}" for n in range(2000)]
    wrong = np.array([number % 20 == 0 for number in range(2000)])  # every image of one person
    head = HeadOutput(data.GENDERS, torch.eye(2)[wrong.astype(int)])
    found = cross_domain.lfw_gender_findings({"gender": head}, lfw(*people), dict.fromkeys(people, 0))
    all_faces = figures(found)["gender", "accuracy", "all"]
    assert all_faces.value == pytest.approx(0.95)
    assert all_faces.high - all_faces.low > 0.1  # of images it would be 0.02


def test_genders_of_lfw_are_read_by_name(tmp_path):
    assert data.read_lfw_genders(tmp_path) == {}
    (tmp_path / "lfw").mkdir()
    (tmp_path / "lfw" / "gender.csv").write_text("person,images,gender,note\nA_B,1,female,\nC,2,male,\nD,1,,mixed\n")
    assert data.read_lfw_genders(tmp_path) == {"A_B": 1, "C": 0}
