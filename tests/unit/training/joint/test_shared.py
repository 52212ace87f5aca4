"""Branches that share layers in a joint run, ages as targets of three kinds, and a trunk that is kept at its best."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.branches import BranchSpec
from models.trunks.registry import create_trunk
from training.errors import RecipeError
from training.fit.descent import Descent
from training.fit.fit import FitOptions
from training.fit.losses import YEARS_DEVIATION, years_rows
from training.fit.targets import targets
from training.fit.trainable_branch import TrainableBranch
from training.joint.batches import FaceViews
from training.joint.run import JointRun
from training.joint.setup import JointSetup
from training.recipes.joint import JointOptions, TrunkTuning
from training.recipes.recipe import HeadRecipe, Recipe

NAME, SIDE = "sface-w0.25-r32", 32
YEARS = tuple(map(str, range(117)))
OPTIONS = JointOptions(steps=6, batch={"utkface": 8}, searches=(None,), evaluate_every=2)
FIT = FitOptions(loss="cross_entropy", held_out=0.2)
GENDER = HeadRecipe(
    spec=BranchSpec(
        task="gender",
        kind="softmax",
        labels=("male", "female"),
        depths=("conv_14",),
        hidden=(16, 12, 6),
        shared=2,
        leak=0.2,
    ),
    data="utkface",
    fit=FIT,
    dropout=0.1,
)
AGE = replace(
    GENDER, spec=replace(GENDER.spec, task="age", kind="age", labels=YEARS, hidden=(16, 12, 9)), spread_years=0.0
)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    return create_trunk(NAME).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def views(random_people):
    faces = random_people(train=40, val=10)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, SIDE, SIDE), dtype=np.uint8)
    pixels[:, 0] = np.where(faces.gender == 1, 220, 30)[:, None, None]
    return {"utkface": FaceViews(faces, (pixels,))}


def new_run(trunk, views, folder, recipes=(GENDER, AGE), options=OPTIONS):
    return JointRun(JointSetup(recipes=recipes, trunk=trunk, views=views, options=options), folder)


def same_shared(branches):
    pairs = zip(*(branch.shared_layers.state_dict().values() for branch in branches), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def test_shared_layers_learn_from_all_their_tasks_and_are_shipped_equal(trunk, views, tmp_path):
    run = new_run(trunk, views, tmp_path)
    started = [task.branch.branch.shared_layers[0].weight.clone() for task in run.state.tasks]
    assert torch.equal(*started)
    results = run.run()
    shipped = [found.branch.shipped() for found in results]
    assert same_shared(shipped)
    assert not torch.equal(shipped[0].head[0].weight, started[0])
    assert len({found.step for found in results}) == 1
    gender, age = (task.branch.branch for task in run.state.tasks)
    assert gender.head[2] is age.head[2]
    assert gender.head[4] is not age.head[4]


def test_a_step_moves_shared_layers_by_the_gradients_of_both(trunk, views, tmp_path):
    options = replace(OPTIONS, descent=Descent(optimiser="sgd", schedule="constant", momentum=0.0))
    fit = replace(FIT, weight_decay=0.0, learning_rate=1e5)  # features of this trunk are tiny
    heads = [replace(head, fit=fit, dropout=0.0) for head in (GENDER, AGE)]
    moved = []
    for place, recipes in enumerate(((heads[0],), (heads[1],), heads)):
        run = new_run(trunk, views, tmp_path / str(place), recipes, options)
        layer = run.state.tasks[0].branch.branch.head[0]
        if moved:
            layer.load_state_dict(moved[0][0])
        else:
            first = {key: value.clone() for key, value in layer.state_dict().items()}
        for task in run.state.tasks:  # equal own layers in all three runs
            torch.manual_seed(5)
            for own in task.branch.branch.head[2:]:
                if isinstance(own, torch.nn.Linear):
                    own.reset_parameters()
        before = layer.weight.detach().clone()
        run.run(until=1)
        moved.append((first, layer.weight.detach() - before))
    (_, one), (_, other), (_, both) = moved
    assert float(both.abs().max()) > 0
    assert torch.allclose(both, one + other, atol=2e-2 * float(both.abs().max()))


def test_an_interrupted_run_of_shared_layers_goes_on_exactly(trunk, views, tmp_path):
    whole = new_run(trunk, views, tmp_path / "whole").run()
    new_run(trunk, views, tmp_path / "parts").run(until=3)
    parts = new_run(trunk, views, tmp_path / "parts").run()
    for one, other in zip(whole, parts, strict=True):
        expected = one.branch.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in other.branch.state_dict().items())
        assert (one.score, one.step) == (other.score, other.step)


def test_tasks_that_share_are_kept_at_the_step_of_the_least_sum_of_losses(trunk, views, tmp_path):
    run = new_run(trunk, views, tmp_path, options=replace(OPTIONS, steps=2))
    losses = iter([(3.0, 1.0), (1.0, 2.0), (0.5, 9.0)])
    for step in (1, 2, 3):
        run.state.step = step
        now = next(losses)
        for task, loss in zip(run.state.tasks, now, strict=True):
            task.held_out_loss = lambda *_, loss=loss: loss
        run.evaluation.update({"gender": torch.tensor(1.0), "age": torch.tensor(1.0)})
    assert [(task.step, task.rank) for task in run.state.tasks] == [(2, -3.0)] * 2


def test_what_cannot_share_is_refused():
    with pytest.raises(RecipeError, match=r"\['gender', 'age'\] cannot share layers; add joint"):
        Recipe(name="x", heads=(GENDER, AGE), summary="")
    slower = replace(AGE, fit=replace(AGE.fit, average=0.9))
    with pytest.raises(RecipeError, match="share layers but differ in average"):
        Recipe(name="x", heads=(GENDER, slower), summary="", joint=OPTIONS)


def test_ages_are_targets_of_one_year_or_of_a_gaussian(random_people):
    faces = random_people(train=9, val=1)
    narrow, wide = (targets("age", faces, 117, spread) for spread in (0.0, 2.5))
    assert torch.equal(narrow.argmax(1).float(), torch.from_numpy(faces.age).float())
    assert torch.equal(narrow, narrow.round())
    assert float(wide.max()) < 0.25


def test_a_regression_is_shipped_as_a_branch_with_the_same_ages():
    torch.manual_seed(4)
    spec = BranchSpec(task="age", kind="age", labels=YEARS, depths=("embedding",), hidden=(16, 8))
    branch = TrainableBranch(spec, dropout=0.2, regresses=True)
    torch.nn.init.normal_(branch.branch.head[-1].line.weight, std=1.0)
    maps = {"embedding": torch.nn.functional.normalize(torch.randn(50, 128)) * 3}
    branch.standardise(maps)
    branch.eval()
    shipped = branch.shipped()
    half = {key: value.half().float() for key, value in shipped.state_dict().items()}
    with torch.no_grad():
        expected = branch(maps).softmax(1)
        assert torch.allclose(shipped(maps).softmax(1), expected, atol=1e-4)
        shipped.load_state_dict(half)
        years = torch.arange(117.0)
        assert float(((shipped(maps).softmax(1) - expected) @ years).abs().max()) < 0.15
        ages = expected @ years
    assert float(ages.std()) > 3
    inside = (ages > 15) & (ages < 100)
    spread = ((expected * (years - ages[:, None]) ** 2).sum(1)).sqrt()[inside]
    assert torch.allclose(spread, torch.full_like(spread, YEARS_DEVIATION), atol=0.2)


def test_the_loss_of_a_regression_is_the_squared_error_of_the_mean():
    soft = torch.eye(117)[[30, 40]]
    logits = torch.full((2, 117), -100.0)
    logits[:, 30] = 100.0
    assert years_rows(logits, soft, torch.ones(117)).tolist() == pytest.approx([0, 0.5 * (10 / YEARS_DEVIATION) ** 2])


def test_only_ages_are_regressed():
    with pytest.raises(RecipeError, match="that loss is for the kind 'age'"):
        replace(GENDER, fit=replace(FIT, loss="years"))


def test_a_regression_learns_in_a_joint_run(trunk, views, tmp_path):
    years = replace(AGE, fit=replace(FIT, loss="years"))
    found = new_run(trunk, views, tmp_path, (GENDER, years)).run()
    assert all(math.isfinite(each.score) for each in found)
    assert tuple(found[1].branch.shipped().head[-1].weight.shape) == (117, 9)


def test_a_trunk_that_learns_is_kept_at_its_best_with_its_branches(trunk, views, tmp_path):
    tuning = TrunkTuning(name="tuned", keeps_best=True, hold=0.0)
    options = replace(OPTIONS, steps=12, patience=2, trunk=tuning)
    run = new_run(trunk, views, tmp_path, options=options)
    kept = {}
    losses = iter([2.0, 1.0, 3.0, 4.0, 5.0, 6.0])
    update = run.evaluation.update

    def evaluate(found):
        loss = next(losses)
        for task in run.state.tasks:
            task.held_out_loss = lambda *_: loss
        update(found)
        kept[run.step] = {key: value.clone() for key, value in run.trunk.state_dict().items()}

    run.evaluation.update = evaluate
    results = run.run()
    assert run.step == 8  # two evaluations after the best one
    assert [found.step for found in results] == [4, 4]
    found = run.trunk.state_dict()
    assert all(torch.equal(found[key], value) for key, value in kept[4].items())
    assert any(not torch.equal(found[key], value) for key, value in kept[8].items())
    resumed = new_run(trunk, views, tmp_path, options=options)
    resumed.run()
    assert all(torch.equal(value, kept[4][key]) for key, value in resumed.trunk.state_dict().items())
