"""Teachers: their answers, and a run that learns from these."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.branches import Branch, BranchSpec
from models.trunks.registry import create_trunk
from training.errors import RecipeError, TrainingError
from training.fit.fit import FitOptions
from training.joint.batches import FaceViews
from training.joint.run import JointRun
from training.joint.setup import JointSetup
from training.joint.teachers import Teacher, Teachers
from training.recipes.joint import JointOptions, SecondRun
from training.recipes.recipe import HeadRecipe

SIDE, COUNT = 32, 40
GENDER = BranchSpec(task="gender", kind="softmax", labels=("male", "female"), depths=("conv_14",), pool=1)
SIGNS = BranchSpec(task="signs", kind="multilabel", labels=("hat", "beard"), depths=("conv_12", "conv_14"), pool=1)
OPTIONS = JointOptions(steps=40, batch={"utkface": 8}, searches=(None,), evaluate_every=20)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    return create_trunk("sface-w0.25-r32").eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def views(random_people):
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3, SIDE, SIDE), dtype=np.uint8)
    return {"utkface": FaceViews(random_people(train=30, val=10), (pixels,))}


def branch(trunk, spec, bias):
    """Return a branch that answers the same for every face."""
    found = Branch(spec, trunk.layout)
    torch.nn.init.zeros_(found.head[-1].weight)
    found.head[-1].bias.data = torch.tensor(bias)
    return found


def sure_of_women(trunk):
    return Teacher(trunk, {"gender": branch(trunk, GENDER, [-4.0, 4.0])})


def recipe():
    fit = FitOptions(loss="cross_entropy", held_out=0.1, learning_rate=1e-2, average=0.9)
    return HeadRecipe(spec=GENDER, data="utkface", fit=fit, dropout=0.0)


def run(trunk, views, folder, teachers, splits=("train",)):
    setup = JointSetup(recipes=(recipe(),), trunk=trunk, views=views, options=OPTIONS, splits=splits, teachers=teachers)
    return JointRun(setup, folder)


def test_answers_are_the_mean_of_the_probabilities(trunk):
    first, second = (
        Teacher(trunk, {"gender": branch(trunk, GENDER, logits), "signs": branch(trunk, SIGNS, logits)})
        for logits in ([0.0, 0.0], [-50.0, 50.0])
    )
    crops = torch.randint(0, 256, (6, 3, SIDE, SIDE)).float()
    found = Teachers([first, second], 0.5).answers(crops, {"gender": slice(0, 4), "signs": slice(4, 6)})
    assert torch.allclose(found["gender"], torch.tensor([[0.25, 0.75]]).expand(4, 2), atol=1e-5)
    assert torch.allclose(found["signs"], torch.tensor([[0.25, 0.75]]).expand(2, 2), atol=1e-5)


@pytest.mark.parametrize("answer", [0, 1])
def test_a_run_learns_the_answers_of_its_teachers(trunk, views, tmp_path, answer):
    """The labels are men and women in turn; all targets are of the teacher, which always answers the same."""
    teacher = Teacher(trunk, {"gender": branch(trunk, GENDER, [4.0, -4.0] if answer == 0 else [-4.0, 4.0])})
    taught = run(trunk, views, tmp_path, Teachers([teacher], 1.0))
    (found,) = taught.run()
    assert (taught.evaluation.logits("gender", np.arange(30), found.branch.shipped()).argmax(1) == answer).all()


def test_only_rows_of_the_splits_are_learnt_from(trunk, views, tmp_path):
    for splits, expected in ((("train",), range(30)), (("train", "val"), range(40))):
        batches = run(trunk, views, tmp_path / str(len(splits)), None, splits).batches
        seen = np.unique(np.concatenate([batches.rows("utkface", step) for step in range(30)]))
        assert set(seen.tolist()) <= set(expected)
        assert len(seen) == round(len(expected) * 0.9)


def test_a_checkpoint_with_other_teachers_or_rows_is_refused(trunk, views, tmp_path):
    teachers = Teachers([sure_of_women(trunk)], 0.5)
    run(trunk, views, tmp_path, teachers).run(until=1)
    assert run(trunk, views, tmp_path, teachers).step == 1
    other = Teachers([Teacher(trunk, {"gender": branch(trunk, GENDER, [1.0, 0.0])})], 0.5)
    for wrong, splits in ((None, ("train",)), (other, ("train",)), (teachers, ("train", "val"))):
        with pytest.raises(TrainingError, match="belongs to another run"):
            run(trunk, views, tmp_path, wrong, splits)


def test_batches_are_the_same_whether_they_were_awaited_or_not(trunk, views, tmp_path):
    one, other = (run(trunk, views, tmp_path / name, None).batches for name in ("one", "other"))
    in_order = [one.take(step) for step in range(3)]
    alone = other.take(2)
    assert torch.equal(in_order[2].crops, alone.crops)
    assert torch.equal(in_order[2].tasks["gender"].soft, alone.tasks["gender"].soft)
    assert not torch.equal(in_order[1].crops, alone.crops)


def test_models_that_become_teachers_stay_unchanged(trunk):
    teacher = sure_of_women(trunk)
    Teachers([teacher], 0.5)
    assert next(trunk.parameters()).dtype == torch.float32
    assert all(parameter.requires_grad for parameter in teacher.branches["gender"].parameters())


@pytest.mark.parametrize("wrong", [{"teachers": 0}, {"taught": 1.5}])
def test_a_second_run_needs_a_teacher_and_a_share(wrong):
    with pytest.raises(RecipeError, match="expected 1 or more"):
        SecondRun(steps=1, **wrong)
