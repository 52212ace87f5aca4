"""Training on a GPU: runs, checkpoints, and branches that the CPU can read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.branches import BranchSpec
from models.trunks.registry import create_trunk
from models.trunks.sface import SFace
from training.fit.augment import AugmentOptions, augment
from training.fit.fit import Examples, FitOptions, fit
from training.fit.trainable_branch import TrainableBranch
from training.joint.batches import FaceViews
from training.joint.run import JointRun
from training.joint.setup import JointSetup
from training.recipes.joint import JointOptions, TrunkTuning
from training.recipes.recipe import HeadRecipe

pytestmark = pytest.mark.gpu
COUNT = 24


@pytest.fixture(scope="module")
def device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


@pytest.fixture
def spec():
    return BranchSpec(task="gender", kind="softmax", labels=("male", "female"), depths=("conv_14",), pool=3, hidden=8)


def test_crops_are_changed_as_on_the_cpu(device):
    crops = torch.randint(0, 256, (16, 3, 112, 112), dtype=torch.uint8)
    here, there = (
        augment(where, AugmentOptions(), torch.Generator().manual_seed(3)) for where in (crops, crops.to(device))
    )
    assert there.device.type == "cuda"
    assert ((here - there.cpu()).abs() <= 1).float().mean() > 0.99


def test_a_joint_run_goes_on_from_its_checkpoint(device, spec, random_people, tmp_path):
    random = np.random.default_rng(0)
    faces = random_people(train=18, val=6)
    views = {"utkface": FaceViews(faces, (random.integers(0, 256, (COUNT, 3, 112, 112), dtype=np.uint8),))}
    stages = replace(spec, depths=("conv_12", "conv_14"), stages=((16, 2), (16, 1)), pool=1)
    recipe = HeadRecipe(spec=stages, data="utkface", fit=FitOptions(loss="cross_entropy", held_out=0.2))
    trunk = SFace().to(device, torch.bfloat16).to(memory_format=torch.channels_last).eval()
    options = JointOptions(steps=4, batch={"utkface": 6}, searches=(None,), evaluate_every=2)
    setup = JointSetup(recipes=(recipe,), trunk=trunk, views=views, options=options)
    JointRun(setup, tmp_path / "run").run(until=2)
    run = JointRun(setup, tmp_path / "run")
    assert run.step == 2
    found = run.run()
    branch = found[0].branch.shipped()
    assert next(branch.parameters()).device.type == "cuda"
    assert run.evaluation.logits("gender", np.arange(3), branch).device.type == "cpu"


def test_a_tuned_trunk_goes_on_from_its_checkpoint(device, spec, random_people, tmp_path):
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
    faces = random_people(train=18, val=6)
    recipe = HeadRecipe(spec=replace(spec, pool=1), data="utkface", fit=FitOptions(loss="cross_entropy", held_out=0.2))
    tuning = TrunkTuning(name="tuned", held_by={"utkface": 4})
    options = JointOptions(steps=4, batch={"utkface": 6}, searches=(None,), evaluate_every=2, trunk=tuning)
    views = {"utkface": FaceViews(faces, (crops,))}
    trunk = create_trunk("sface-w0.25-r32").to(device).to(memory_format=torch.channels_last).eval()
    setup = JointSetup(recipes=(recipe,), trunk=trunk, views=views, options=options, held_by={"utkface": crops})
    JointRun(setup, tmp_path / "run").run(until=2)
    run = JointRun(setup, tmp_path / "run")
    assert run.step == 2
    run.run()
    moved = [not torch.equal(a, b) for a, b in zip(run.trunk.parameters(), trunk.parameters(), strict=True)]
    assert all(moved)


def test_a_branch_learns_on_the_gpu(device, spec):
    random = np.random.default_rng(0)
    labels = np.arange(64) % 2
    plain = (random.normal(size=(64, 3, 3, 1024)) + labels[:, None, None, None]).astype(np.float16)
    wanted = torch.nn.functional.one_hot(torch.from_numpy(labels)).float()
    from training.fit.features import Features

    head = TrainableBranch(spec, dropout=0.0).to(device)
    options = FitOptions(loss="cross_entropy", epochs=16, patience=16, batch=16, noise=0.1, mixup=0.2, held_out=0.25)
    examples = Examples({"conv_14": Features(plain, plain)}, wanted, np.arange(64))

    def score(logits, soft):
        return float((logits.argmax(1) == soft.argmax(1)).float().mean())

    assert fit(head, examples, score, options).score > 0.7
    assert next(head.parameters()).device.type == "cuda"
