"""Joint runs: an interrupted run goes on as if it had not been, and branches learn from their own rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.branches import BranchSpec
from models.trunks.sface import SFace
from training.errors import TrainingError
from training.fit.augment import AugmentOptions, augment
from training.fit.fit import FitOptions
from training.joint.batches import FaceViews
from training.joint.run import JointRun
from training.joint.setup import JointSetup
from training.recipes.joint import JointOptions
from training.recipes.recipe import HeadRecipe

COUNT = 40
OPTIONS = JointOptions(steps=4, batch={"utkface": 6}, searches=(32, None), evaluate_every=2)
NOTHING = AugmentOptions(
    mirror=0, rotation_degrees=0, scale=0, shift=0, brightness=0, contrast=0, grey=0, coarse=0, erase=0
)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    return SFace().eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def views(random_people):
    random = np.random.default_rng(0)
    faces = random_people(train=30, val=10)
    pixels = tuple(random.integers(0, 256, (COUNT, 3, 112, 112), dtype=np.uint8) for _ in range(2))
    return {"utkface": FaceViews(faces, pixels)}


def recipes():
    fit = FitOptions(loss="cross_entropy", held_out=0.2, mixup=0.2)
    gender = BranchSpec(
        task="gender",
        kind="softmax",
        labels=("male", "female"),
        depths=("conv_13",),
        relearnt_to="conv_14",
        pool=1,
        hidden=8,
    )
    age = BranchSpec(task="age", kind="age", labels=tuple(map(str, range(117))), depths=("conv_14",), pool=1)
    return (
        HeadRecipe(spec=gender, data="utkface", fit=fit, copies=True),
        HeadRecipe(spec=age, data="utkface", fit=replace(fit, loss="age")),
    )


def new_run(trunk, views, folder, seed=0):
    return JointRun(JointSetup(recipes=recipes(), trunk=trunk, views=views, options=OPTIONS, seed=seed), folder)


def weights(run):
    return {key: value for found in run for key, value in found.branch.state_dict().items()}


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(trunk, views, tmp_path):
    whole = new_run(trunk, views, tmp_path / "whole").run()
    new_run(trunk, views, tmp_path / "parts").run(until=3)
    resumed = new_run(trunk, views, tmp_path / "parts")
    assert resumed.step == 3
    parts = resumed.run()
    assert [(found.score, found.step) for found in parts] == [(found.score, found.step) for found in whole]
    expected = weights(whole)
    assert all(torch.equal(value, expected[key]) for key, value in weights(parts).items())
    log = (tmp_path / "parts" / "log.csv").read_text().splitlines()
    assert log[0].startswith("time,step,task")
    assert [line.split(",")[1:3] for line in log[1:]] == [["2", "gender"], ["2", "age"], ["4", "gender"], ["4", "age"]]


def test_a_checkpoint_of_another_run_is_refused(trunk, views, tmp_path):
    new_run(trunk, views, tmp_path).run(until=1)
    with pytest.raises(TrainingError, match="belongs to another run"):
        new_run(trunk, views, tmp_path, seed=5)


def test_relearnt_layers_start_as_the_trunks(trunk, views, tmp_path):
    run = new_run(trunk, views, tmp_path)
    ours = run.state.task("gender").branch.branch.tail.layers["conv_14"].state_dict()
    theirs = trunk.layers["conv_14"].state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_held_out_and_validation_rows_are_never_learnt_from(trunk, views, tmp_path):
    run = new_run(trunk, views, tmp_path)
    learnt = set(np.concatenate([run.batches.rows("utkface", step) for step in range(20)]).tolist())
    assert learnt.isdisjoint(run.evaluation.validation_rows("gender").tolist())
    assert learnt.isdisjoint(run.state.task("gender").held.tolist())


def test_augmentation_repeats_with_its_generator_and_changes_faces():
    crops = torch.randint(0, 256, (8, 3, 112, 112), dtype=torch.uint8)
    first, second = (augment(crops, AugmentOptions(), torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.min() >= 0
    assert first.max() <= 255
    assert not torch.equal(first, crops.float())


def test_no_augmentation_leaves_crops_as_they_are():
    crops = torch.randint(0, 256, (4, 3, 112, 112), dtype=torch.uint8)
    changed = augment(crops, NOTHING, torch.Generator().manual_seed(0))
    assert (changed - crops.float()).abs().max() <= 1
