"""Joint runs of labels that are read one by one: rare faces come more often, and each label rests by itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.branches import BranchSpec
from models.trunks.registry import create_trunk
from training.data.face_sets import CelebA
from training.fit.balance import Balance
from training.fit.fit import FitOptions
from training.joint.batches import FaceViews
from training.joint.run import JointRun
from training.joint.setup import JointSetup
from training.recipes.joint import JointOptions
from training.recipes.recipe import HeadRecipe

COUNT, TRAIN = 40, 32
LABELS = ("bald", "hat", "smile")
SPEC = BranchSpec(task="attributes", kind="multilabel", labels=LABELS, depths=("conv_14",), pool=1)
FIT = FitOptions(
    loss="binary", held_out=0.2, average=0.5, balance=Balance(both_answers=True, rare_below=0.2), label_patience=1
)
OPTIONS = JointOptions(steps=6, batch={"celeba10k": 6}, searches=(None,), evaluate_every=1)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    return create_trunk("sface-w0.25-r32").eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    attributes = (np.arange(COUNT)[:, None] % np.array([16, 4, 2]) == 0).astype(np.float32)
    faces = CelebA(
        name="celeba10k",
        root=tmp_path_factory.mktemp("celeba"),
        files=np.array([f"{number}.jpg" for number in range(COUNT)]),
        split=np.array(["train"] * TRAIN + ["val"] * (COUNT - TRAIN)),
        attributes=attributes,
        identity=np.arange(COUNT),
        names=LABELS,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
    return {"celeba10k": FaceViews(faces, (pixels,))}


def new_run(trunk, views, folder, **changes):
    recipe = HeadRecipe(spec=SPEC, data="celeba10k", fit=FIT)
    options = replace(OPTIONS, **changes)
    return JointRun(JointSetup(recipes=(recipe,), trunk=trunk, views=views, options=options), folder)


def test_an_epoch_shows_faces_with_rare_labels_more_often(trunk, views, tmp_path):
    run = new_run(trunk, views, tmp_path, batch={"celeba10k": 1})
    (task,) = run.state.tasks
    shown = Counter(int(run.batches.rows("celeba10k", step)[0]) for step in range(int(task.copies.sum())))
    assert shown == {row: task.copies[row] for row in task.rows}
    bald = [row for row in task.rows if row % 16 == 0]
    assert {shown[row] for row in bald} == {max(shown.values())}
    assert max(shown.values()) > 1


def test_a_label_that_rests_gives_no_gradient(trunk, views, tmp_path):
    run = new_run(trunk, views, tmp_path)
    (task,) = run.state.tasks
    task.resting.load([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    batch = run.batches.take(0)
    maps = run.state.trunk.learn(batch.crops).maps
    run._loss(task, maps, batch.tasks["attributes"], None).backward()
    gradient = task.branch.layers[-1].weight.grad.abs().sum(dim=1)
    assert gradient[0] == 0
    assert (gradient[1:] > 0).all()


def test_a_run_ends_when_all_labels_rest(trunk, views, tmp_path):
    run = new_run(trunk, views, tmp_path, steps=50, patience=50)
    run.state.tasks[0].resting.load([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    run.run()
    assert run.step == 0


def test_an_interrupted_run_knows_which_labels_rest(trunk, views, tmp_path):
    whole = new_run(trunk, views, tmp_path / "whole", patience=50)
    whole.run()
    new_run(trunk, views, tmp_path / "parts", patience=50).run(until=3)
    resumed = new_run(trunk, views, tmp_path / "parts", patience=50)
    assert resumed.step == 3
    assert max(resumed.state.tasks[0].resting.state()[1]) > 0
    resumed.run()
    assert resumed.state.tasks[0].resting.state() == whole.state.tasks[0].resting.state()
