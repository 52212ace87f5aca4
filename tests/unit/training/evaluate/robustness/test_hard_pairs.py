"""Hard pairs of made people: who is compared with whom, and what a degraded side costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.types import FaceOutputs, HeadOutput
from training.data.degradations import COPIES
from training.data.expressions import ExpressiveFaces
from training.data.face_sets import GENDERS, UNKNOWN
from training.evaluate.robustness import hard_pairs

PEOPLE, IMAGES = 100, 3


def faces():
    people = np.repeat([f"P{n:03d}" for n in range(PEOPLE)], IMAGES)
    count = len(people)
    return ExpressiveFaces(
        name="lfw",
        root=None,
        files=np.array([f"{n}.jpg" for n in range(count)]),
        split=np.full(count, "test"),
        expression=np.full(count, UNKNOWN),
        person=people,
    )


def outputs(noise):
    """Return faces whose first hundred and fifty are of men; one image of each person is twelve years older."""
    random = np.random.default_rng(1)
    centres = np.repeat(np.random.default_rng(0).normal(size=(PEOPLE, 24)), IMAGES, axis=0)
    embeddings = torch.from_numpy(centres + noise * random.normal(size=centres.shape)).float()
    gender = torch.eye(2)[(torch.arange(PEOPLE * IMAGES) >= PEOPLE * IMAGES // 2).long()]
    years = 30 + 12.0 * (torch.arange(PEOPLE * IMAGES) % IMAGES == 0)
    heads = {
        "gender": HeadOutput(GENDERS, gender),
        "age": HeadOutput(("0",), torch.ones(len(years), 1), years),
    }
    return FaceOutputs(torch.nn.functional.normalize(embeddings), heads)


def test_people_belong_to_the_groups_of_the_releases_own_answers():
    groups = hard_pairs.alike_groups(outputs(0.5).heads, faces().person)
    assert {name: int(members.sum()) for name, members in groups.items()} == {
        "male": PEOPLE // 2, "female": PEOPLE // 2, "18-39": PEOPLE,
    }  # fmt: skip
    assert hard_pairs.alike_groups({}, faces().person) == {}


def test_one_wrong_image_does_not_move_a_person():
    answers = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    years = torch.tensor([20.0, 25, 70])
    heads = {"gender": HeadOutput(GENDERS, answers), "age": HeadOutput(("0",), torch.ones(3, 1), years)}
    groups = hard_pairs.alike_groups(heads, np.array(["A", "A", "A"]))
    assert set(groups) == {"male", "18-39"}


def test_hard_pairs_degraded_ones_and_years_apart_are_measured():
    pixels = np.full((PEOPLE * IMAGES, 3, 112, 112), 120, dtype=np.uint8)
    seen = []

    def infer(crops):
        seen.append(crops)
        return outputs(2.0)

    found = hard_pairs.hard_pair_findings(outputs(0.6), infer, pixels, faces())
    rows = {(row.task, row.measure, row.group): row.figure for row in found.rows}
    measure = "true positives at 0.1 % false ones"
    hard = rows[hard_pairs.HARD_TASK, measure, "all"]
    assert hard.count == PEOPLE
    assert hard.value > rows[hard_pairs.DEGRADED_TASK, measure, "all"].value + 0.1
    assert rows[hard_pairs.HARD_TASK, measure, "female"].count == PEOPLE // 2
    assert rows[hard_pairs.APART_TASK, measure, "all"].count == PEOPLE
    (copies,) = seen
    assert copies.shape == pixels.shape
    assert (copies != pixels).any()


def test_each_way_of_degrading_takes_its_turn():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (len(COPIES) + 2, 3, 112, 112)).astype(np.uint8)
    found = hard_pairs.one_degradation_each(pixels)
    grey = [row for row, crop in enumerate(found) if (crop[0] == crop[1]).all()]
    names = list(COPIES)
    assert grey == [names.index("grey"), names.index("old print"), len(COPIES)]
    assert (pixels != found).any(axis=(1, 2, 3)).all()


def test_few_people_have_no_hard_pairs():
    alone = faces()[np.arange(IMAGES)]
    some = outputs(0.5)
    heads = {"gender": HeadOutput(GENDERS, some.heads["gender"].probabilities[:IMAGES])}
    few = FaceOutputs(some.embeddings[:IMAGES], heads)
    pixels = np.zeros((IMAGES, 3, 112, 112), dtype=np.uint8)
    assert hard_pairs.hard_pair_findings(few, lambda crops: few, pixels, alone).rows == ()
    assert pytest.approx(1, abs=1e-3) == float(few.embeddings[0].norm())
