"""Runs that go on from a release: its answers at the start and in the targets, and crops that are degraded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.branches import Branch, BranchSpec
from models.trunks.registry import create_trunk
from training.errors import RecipeError, TrainingError
from training.fit.balance import GROUP_AGES, Balance
from training.fit.fit import FitOptions
from training.fit.losses import GROUP_PRIOR
from training.fit.targets import group_numbers
from training.joint.batches import FaceViews
from training.joint.run import JointRun
from training.joint.setup import JointSetup
from training.joint.teachers import Base
from training.recipes.joint import BaseTeaching, JointOptions, SecondRun, TrunkTuning
from training.recipes.recipe import HeadRecipe, Recipe

SIDE, COUNT = 32, 40
GENDER = BranchSpec(task="gender", kind="softmax", labels=("male", "female"), depths=("conv_14",), pool=1, hidden=8)
OPTIONS = JointOptions(
    steps=40, batch={"utkface": 8}, searches=(None,), evaluate_every=20, base=BaseTeaching(taught=1.0)
)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    return create_trunk("sface-w0.25-r32").eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def views(random_people):
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3, SIDE, SIDE), dtype=np.uint8)
    return {"utkface": FaceViews(random_people(train=30, val=10), (pixels,))}


def branch(trunk, spec=GENDER, bias=None):
    torch.manual_seed(4)
    found = Branch(spec, trunk.layout).eval()
    if bias is not None:
        torch.nn.init.zeros_(found.head[-1].weight)
        found.head[-1].bias.data = torch.tensor(bias)
    return found


def new_run(trunk, views, folder, base, options=OPTIONS, **fit):
    fit = FitOptions(loss="cross_entropy", held_out=0.1, learning_rate=1e-2, average=0.9, **fit)
    recipe = HeadRecipe(spec=GENDER, data="utkface", fit=fit, dropout=0.0)
    setup = JointSetup(recipes=(recipe,), trunk=trunk, views=views, options=options, base=base)
    return JointRun(setup, folder)


def answers(trunk, views, found):
    crops = torch.from_numpy(views["utkface"].pixels[0])
    with torch.no_grad():
        return found(trunk.forward_intermediates(crops, {"conv_14"}))


def test_a_branch_begins_with_the_answers_of_the_base(trunk, views, tmp_path):
    base = branch(trunk)
    task = new_run(trunk, views, tmp_path, Base({"gender": base}, 0.5)).state.task("gender")
    expected = answers(trunk, views, base)
    for begun in (task.branch, task.average):
        assert torch.allclose(answers(trunk, views, begun.eval()), expected, atol=1e-4)
    assert torch.allclose(answers(trunk, views, task.branch.shipped()), expected, atol=1e-4)


def test_offsets_while_training_are_taken_from_the_start(trunk, views, tmp_path):
    base = branch(trunk)
    run = new_run(trunk, views, tmp_path, Base({"gender": base}, 0.5), balance=Balance(adjust=1.0))
    task = run.state.task("gender")
    task.offset.copy_(torch.tensor([-0.2, -1.7]))
    task.begin_as(base)
    found = answers(trunk, views, task.branch.eval()) + task.offset
    assert torch.allclose(found, answers(trunk, views, base), atol=1e-4)


@pytest.mark.parametrize("answer", [0, 1])
def test_a_run_learns_the_answers_of_its_base(trunk, views, tmp_path, answer):
    """The labels are men and women in turn; all targets are the base's, which always answers the same."""
    base = branch(trunk, bias=[4.0, -4.0] if answer == 0 else [-4.0, 4.0])
    run = new_run(trunk, views, tmp_path, Base({"gender": base}, 1.0))
    (found,) = run.run()
    assert (run.evaluation.logits("gender", np.arange(30), found.branch.shipped()).argmax(1) == answer).all()


def test_a_base_with_another_shape_is_refused(trunk, views, tmp_path):
    other = branch(trunk, replace(GENDER, hidden=4))
    with pytest.raises(TrainingError, match="another shape"):
        new_run(trunk, views, tmp_path, Base({"gender": other}, 0.5))


def test_a_checkpoint_of_another_base_is_refused(trunk, views, tmp_path):
    new_run(trunk, views, tmp_path, Base({"gender": branch(trunk)}, 0.5)).run(until=1)
    with pytest.raises(TrainingError, match="belongs to another run"):
        new_run(trunk, views, tmp_path, Base({"gender": branch(trunk, bias=[1.0, 0.0])}, 0.5))


def test_some_crops_are_degraded_and_the_reference_is_not(trunk, views, tmp_path):
    plain, degraded = (
        new_run(trunk, views, tmp_path / str(share), None, replace(OPTIONS, base=None, degraded=share)).batches.take(0)
        for share in (0.0, 1.0)
    )
    assert torch.equal(plain.crops, plain.reference)
    assert torch.equal(plain.reference, degraded.reference)
    changed = (degraded.crops != degraded.reference).flatten(1).any(dim=1)
    assert changed.all()
    assert float(degraded.crops.min()) >= 0
    assert float(degraded.crops.max()) <= 255


def test_embeddings_of_degraded_crops_are_held_to_those_of_the_reference(trunk, views, tmp_path):
    tuning = TrunkTuning(name="held", hold=10.0)
    options = replace(OPTIONS, trunk=tuning, degraded=1.0)
    run = new_run(trunk, views, tmp_path, Base({"gender": branch(trunk)}, 0.5), options)
    batch = run.batches.take(0)
    found = run.state.trunk.learn(batch.crops, batch.reference)
    same = run.state.trunk.learn(batch.reference, batch.reference)
    assert same.drift.item() < 0.2 * found.drift.item()
    with torch.no_grad():
        expected = trunk.forward_intermediates(batch.reference, {"conv_14"})["conv_14"]
    assert torch.allclose(found.original["conv_14"].float(), expected, atol=0.05 * float(expected.abs().max()))


def test_faces_of_other_sets_teach_by_the_answers_of_the_base(trunk, views, random_people, tmp_path):
    """The labels of one set are all men; only the base, which answers for the other set, knows of women."""
    base = branch(trunk, bias=[-3.0, 3.0])
    pixels = np.random.default_rng(5).integers(0, 256, (COUNT, 3, SIDE, SIDE), dtype=np.uint8)
    faces = replace(views["utkface"].faces, gender=np.zeros(COUNT, dtype=np.int64))
    every = {"utkface": FaceViews(faces, views["utkface"].pixels), "fairface": FaceViews(faces, (pixels,))}
    losses = {}
    for weight in (0.0, 2.0):
        options = replace(
            OPTIONS, batch={"utkface": 8, "fairface": 8}, base=BaseTeaching(taught=0.0, elsewhere=weight), steps=1
        )
        fit = FitOptions(loss="cross_entropy", held_out=0.1)
        heads = [HeadRecipe(spec=GENDER, data="utkface", fit=fit, dropout=0.0)]
        other = replace(GENDER, task="ethnicity", labels=("a", "b", "c", "d", "e"))
        heads.append(HeadRecipe(spec=other, data="fairface", fit=fit, dropout=0.0))
        setup = JointSetup(recipes=heads, trunk=trunk, views=every, options=options, base=Base({"gender": base}, 0.0))
        run = JointRun(setup, tmp_path / str(weight))
        batch = run.batches.take(0)
        assert batch.others("gender").tolist() == list(range(8, 16))
        assert batch.others("ethnicity").tolist() == list(range(8))
        losses[weight] = run._train_step()
    expected = torch.tensor([-3.0, 3.0]).softmax(0)
    assert losses[2.0]["gender"].item() == pytest.approx(
        losses[0.0]["gender"].item() - 2 * (expected * expected.log()).sum().item(), abs=0.05
    )
    assert losses[2.0]["ethnicity"].item() == pytest.approx(losses[0.0]["ethnicity"].item(), abs=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"degraded": 1.2}, {"base": BaseTeaching(), "second": SecondRun(steps=3)}], ids=["share", "two"]
)
def test_options_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(RecipeError, match=r"expected 0|second run"):
        replace(OPTIONS, **{"base": None} | wrong)


def test_groups_balance_joint_runs_only():
    fit = FitOptions(loss="cross_entropy", balance=Balance(adjust=1.0, within=("ethnicity",)))
    head = HeadRecipe(spec=GENDER, data="utkface", fit=fit)
    with pytest.raises(RecipeError, match="balance groups"):
        Recipe(name="test", heads=(head,), summary="")
    with pytest.raises(RecipeError, match="adjust"):
        Balance(within=("age",))


def test_classes_are_balanced_within_the_groups_of_other_labels(trunk, views, tmp_path):
    balance = Balance(adjust=0.7, within=("ethnicity", "age"))
    task = new_run(trunk, views, tmp_path, None, replace(OPTIONS, base=None), balance=balance).state.task("gender")
    faces, learnt = views["utkface"].faces, task.may_learn
    share = np.bincount(faces.gender[learnt], minlength=2) / learnt.sum()
    bands = np.digitize(faces.age, GROUP_AGES)
    for row in range(len(faces)):
        group = learnt & (faces.ethnicity == faces.ethnicity[row]) & (bands == bands[row])
        counts = np.bincount(faces.gender[group], minlength=2) + GROUP_PRIOR * share
        expected = torch.from_numpy(0.7 * np.log(counts / counts.sum())).float()
        assert torch.allclose(task.offset + task.group_offset[row], expected, atol=1e-4)


def test_a_missing_label_is_a_group_of_its_own(views):
    faces = views["utkface"].faces
    faces = replace(faces, age=np.where(np.arange(COUNT) % 2, np.float32(1), np.float32(np.nan)))
    numbers = group_numbers(faces, ("age",))
    assert numbers.tolist() == [int(number % 2) for number in range(COUNT)]
