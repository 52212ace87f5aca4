"""A trunk that learns with its branches: the layers that move, the embeddings that stay, and its release."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.branches import BranchSpec
from models.manifest import read_manifest
from models.release import DEFAULT
from models.trunks.base import TrunkName
from models.trunks.registry import create_trunk
from models.weights import read_weights
from training.errors import TrainingError
from training.fit.fit import FitOptions
from training.fit.trainable_branch import TrainableBranch
from training.joint.batches import FaceViews
from training.joint.run import JointRun
from training.joint.setup import JointSetup
from training.joint.tuned_trunk import RunTrunk
from training.recipes.joint import JointOptions, TrunkTuning
from training.recipes.recipe import HeadRecipe
from training.releases.export import TunedTrunk, export

COUNT, SIDE = 40, 32
NAME = "sface-w0.25-r32"
TUNING = TrunkTuning(name="tuned", learning_rate=1e-3, held_by={"celeba10k": 4})
OPTIONS = JointOptions(steps=4, batch={"utkface": 8}, searches=(None,), evaluate_every=2, trunk=TUNING)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    return create_trunk(NAME).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 3, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture(scope="module")
def views(random_people, crops):
    faces = random_people(train=30, val=10)
    return {"utkface": FaceViews(faces, (crops,))}


def recipe():
    spec = BranchSpec(task="gender", kind="softmax", labels=("male", "female"), depths=("conv_12", "conv_14"), pool=1)
    return HeadRecipe(spec=spec, data="utkface", fit=FitOptions(loss="cross_entropy", held_out=0.2, mixup=0.2))


def new_run(trunk, views, crops, folder, options=OPTIONS):
    setup = JointSetup(recipes=(recipe(),), trunk=trunk, views=views, options=options, held_by={"celeba10k": crops})
    return JointRun(setup, folder)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(trunk, views, crops, tmp_path):
    whole = new_run(trunk, views, crops, tmp_path / "whole")
    whole.run()
    new_run(trunk, views, crops, tmp_path / "parts").run(until=3)
    resumed = new_run(trunk, views, crops, tmp_path / "parts")
    assert resumed.step == 3
    resumed.run()
    found, expected = resumed.trunk.state_dict(), whole.trunk.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    lines = (tmp_path / "parts" / "log.csv").read_text().splitlines()[1:]
    assert [line.split(",")[2] for line in lines] == ["gender", "embedding"] * 2


def test_a_checkpoint_of_another_trunk_is_refused(trunk, views, crops, tmp_path):
    new_run(trunk, views, crops, tmp_path).run(until=1)
    torch.manual_seed(2)
    with pytest.raises(TrainingError, match="belongs to another run"):
        new_run(create_trunk(NAME).eval(), views, crops, tmp_path)


def test_only_layers_from_the_first_on_learn_and_the_given_trunk_stays(trunk, views, crops, tmp_path):
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    options = replace(OPTIONS, trunk=replace(TUNING, first="conv_13"))
    run = new_run(trunk, views, crops, tmp_path, options)
    run.run()
    moved = {key for key, value in run.trunk.state_dict().items() if not torch.equal(value, before[key])}
    assert moved
    assert {key.split(".")[1] for key in moved if key.startswith("layers.")} == {"conv_13", "conv_14"}
    assert all(torch.equal(value, before[key]) for key, value in trunk.state_dict().items())


def test_holding_the_embeddings_keeps_them(trunk, views, crops, tmp_path):
    pixels = torch.from_numpy(crops)
    alike = {}
    for hold in (0.0, 300.0):
        options = replace(OPTIONS, steps=12, evaluate_every=12, trunk=replace(TUNING, hold=hold))
        run = new_run(trunk, views, crops, tmp_path / str(hold), options)
        run.run()
        with torch.no_grad():
            alike[hold] = float((run.trunk(pixels) * trunk(pixels)).sum(1).mean())
    assert alike[300.0] > alike[0.0] + 0.01


def test_the_branches_taken_are_those_of_the_last_step(trunk, views, crops, tmp_path):
    (found,) = new_run(trunk, views, crops, tmp_path, replace(OPTIONS, steps=6, patience=1)).run()
    assert found.step == 6


def test_a_run_that_diverges_is_ended(trunk, views, crops, tmp_path):
    options = replace(OPTIONS, trunk=replace(TUNING, learning_rate=1e30))
    with pytest.raises(TrainingError, match="choose smaller rates"):
        new_run(trunk, views, crops, tmp_path, options).run()


def test_front_layers_take_smaller_steps(trunk):
    groups = RunTrunk(trunk, {"conv_14"}, replace(TUNING, first="conv_12", layer_decay=0.5)).groups()
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])
    assert sum(p.numel() for p in groups[0]["params"]) == sum(p.numel() for p in trunk.linear.parameters())


def test_a_frozen_trunk_has_nothing_to_learn_or_to_keep(trunk, crops):
    run = RunTrunk(trunk, {"conv_14"}, None)
    found = run.learn(torch.from_numpy(crops[:4]))
    maps, drift = found.maps, found.drift
    assert set(maps) == {"conv_14"}
    assert drift is None
    assert (run.groups(), run.state()) == ([], {})


def test_a_release_on_a_tuned_trunk_keeps_no_branch_of_another(tmp_path):
    tuned = create_trunk("sface")
    head = TrainableBranch(replace(recipe().spec, depths=("conv_14",)), dropout=0.0)
    export("new", DEFAULT, [head.shipped()], tmp_path / "new", TunedTrunk("sface-tuned", tuned, ("fairface",)))
    manifest = read_manifest(tmp_path / "new")
    assert (manifest.trunk, [spec.task for spec in manifest.branches]) == ("sface-tuned", ["gender"])
    assert "tuned on images of fairface" in manifest.licences["trunk"]
    assert manifest.data["tuning"]["source"] == "fairface"
    stored = read_weights(tmp_path / "new" / "trunk.safetensors")
    assert torch.equal(stored["linear.weight"], tuned.linear.weight.half())


@pytest.mark.parametrize("name", ["sface", "sface-2021dec", "face24-w0.5-r112", "face24-w0.5-r112-mine"])
def test_a_trunk_name_is_written_as_it_is_read(name):
    assert str(TrunkName.parse(name)) == name


@pytest.mark.parametrize("learn", [True, False])
def test_statistics_of_batch_norm_learn_if_the_tuning_says_so(learn):
    torch.manual_seed(2)
    trunk = create_trunk("face24-w0.25-r32").eval()
    tuning = TrunkTuning(name="tuned", first="conv4", statistics=learn)
    tuned = RunTrunk(trunk, ("conv19",), tuning)
    tuned.learn(torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8))
    tuned.follow(0.5)
    before, after = trunk.state_dict(), tuned.average.state_dict()
    moved = {key for key, value in before.items() if "running_mean" in key and not torch.equal(value, after[key])}
    learnt = {key for key in before if "running_mean" in key and not key.startswith(("layers.conv1.", "layers.conv2."))}
    assert moved == (learnt if learn else set())


def test_statistics_settle_before_the_first_step_alone(views, tmp_path):
    torch.manual_seed(1)
    fresh = create_trunk("mobilenet-w0.25-r32").eval()
    heads = (replace(recipe(), spec=replace(recipe().spec, depths=("conv_14",))),)
    tuning = TrunkTuning(name="together", hold=0.0, statistics=True, keeps_best=True)
    options = replace(OPTIONS, trunk=tuning)
    setup = JointSetup(recipes=heads, trunk=fresh, views=views, options=options)
    run = JointRun(setup, tmp_path)
    assert not torch.equal(run.trunk.layers["conv_14"][1].running_mean, fresh.layers["conv_14"][1].running_mean)
    run.run(until=2)
    before = {key: value.clone() for key, value in run.trunk.state_dict().items()}
    run.state.standardise(setup, run.state.tasks)
    assert all(torch.equal(value, before[key]) for key, value in run.trunk.state_dict().items())
