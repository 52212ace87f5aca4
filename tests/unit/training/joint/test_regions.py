"""Joint runs of a branch with regions: the response networks learn first, find the regions, then all learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.branches import BranchSpec
from models.trunks.regions import RegionSpec
from models.trunks.registry import create_trunk
from training.data.face_sets import CelebA
from training.errors import RecipeError
from training.fit.augment import AugmentOptions
from training.fit.fit import FitOptions
from training.joint.batches import FaceViews
from training.joint.regions import find_regions
from training.joint.run import JointRun
from training.joint.setup import JointSetup
from training.recipes.joint import JointOptions, RegionSearch
from training.recipes.recipe import HeadRecipe, Recipe

COUNT, TRAIN, SIDE = 96, 80, 64
LABELS = ("mark", "other", "third")
SPEC = BranchSpec(
    task="attributes",
    kind="multilabel",
    labels=LABELS,
    depths=("conv_7", "conv_14"),
    regions=RegionSpec(channels=8, hidden=2, cells=4, width=2),
    pool=1,
)
RECIPE = HeadRecipe(
    spec=SPEC,
    data="celeba10k",
    fit=FitOptions(loss="binary", held_out=0.2, average=0.9, learning_rate=3e-3, label_patience=50),
    dropout=0.1,
    regions=RegionSearch(first_steps=3, threshold=0.8),
)
NOTHING = AugmentOptions(
    mirror=0, rotation_degrees=0, scale=0, shift=0, brightness=0, contrast=0, grey=0, coarse=0, erase=0
)
OPTIONS = JointOptions(steps=6, batch={"celeba10k": 8}, searches=(None,), augment=NOTHING, evaluate_every=2)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    trunk = create_trunk(f"sface-w0.25-r{SIDE}").eval().requires_grad_(requires_grad=False)
    for layer in trunk.modules():
        if isinstance(layer, torch.nn.Conv2d):  # so that crops still differ in late maps
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    return trunk


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Return grey crops with noise; those of the first label have a bright mark to the upper left of (24, 24)."""
    random = np.random.default_rng(0)
    attributes = (random.random((COUNT, 3)) < 0.5).astype(np.float32)
    pixels = random.integers(90, 130, (COUNT, 3, SIDE, SIDE), dtype=np.uint8)
    pixels[attributes[:, 0] == 1, :, 8:24, 8:24] = 250
    faces = CelebA(
        name="celeba10k",
        root=tmp_path_factory.mktemp("celeba"),
        files=np.array([f"{number}.jpg" for number in range(COUNT)]),
        split=np.array(["train"] * TRAIN + ["val"] * (COUNT - TRAIN)),
        attributes=attributes,
        identity=np.arange(COUNT),
        names=LABELS,
    )
    return {"celeba10k": FaceViews(faces, (pixels,))}


def new_run(trunk, views, folder, **changes):
    recipe = replace(RECIPE, regions=replace(RECIPE.regions, first_steps=changes.pop("first_steps", 3)))
    options = replace(OPTIONS, **changes)
    return JointRun(JointSetup(recipes=(recipe,), trunk=trunk, views=views, options=options), folder)


def parts(run, names):
    """Return copies of the weights of a branch whose names begin so."""
    weights = run.state.tasks[0].branch.state_dict()
    return {key: value.clone() for key, value in weights.items() if key.startswith(names)}


def same(before, after):
    return all(torch.equal(before[key], after[key]) for key in before)


READ, HEAD = ("branch.regions.refine",), ("branch.head",)


def test_only_the_response_networks_learn_first(trunk, views, tmp_path):
    run = new_run(trunk, views, tmp_path)
    before = {names: parts(run, names) for names in (READ, HEAD, ("branch.regions.respond",))}
    run.run(until=3)
    unchanged = [same(found, parts(run, names)) for names, found in before.items()]
    assert unchanged == [True, True, False]
    assert run.state.tasks[0].branch.branch.regions.boxes.tolist() == [[0, 0, SIDE, SIDE]] * 3
    assert not run.state.tasks[0].is_done(10_000, waited=1)


def test_all_layers_learn_together_then(trunk, views, tmp_path):
    run = new_run(trunk, views, tmp_path)
    run.run(until=4)
    before = {
        names: parts(run, names) for names in (READ, HEAD, ("branch.regions.respond",), ("branch.regions.boxes",))
    }
    run.run()
    unchanged = [same(found, parts(run, names)) for names, found in before.items()]
    assert unchanged == [False, False, False, True]
    (task,) = run.state.tasks
    boxes = task.branch.branch.regions.boxes
    assert boxes.tolist() != [[0, 0, SIDE, SIDE]] * 3
    assert torch.equal(boxes, task.average.branch.regions.boxes)
    assert torch.equal(boxes, boxes.round())
    assert task.step > 3


def test_an_interrupted_run_finds_the_same_regions(trunk, views, tmp_path):
    (whole,) = new_run(trunk, views, tmp_path / "whole").run()
    for until in (2, 3, 5):
        new_run(trunk, views, tmp_path / "parts").run(until=until)
    (found,) = new_run(trunk, views, tmp_path / "parts").run()
    assert (found.score, found.step) == (whole.score, whole.step)
    assert same(whole.branch.state_dict(), found.branch.state_dict())


@pytest.mark.slow
def test_the_region_of_a_mark_lies_where_the_mark_is(trunk, views, tmp_path):
    run = new_run(trunk, views, tmp_path, first_steps=60, steps=61, batch={"celeba10k": 32}, evaluate_every=60)
    run.run(until=60)
    (task,) = run.state.tasks
    find_regions(run.state, task, run._setup)
    x0, y0, x1, y1 = task.branch.branch.regions.boxes[0].tolist()
    assert x0 < 24
    assert y0 < 24
    assert x1 < 56
    assert y1 < 56


def test_a_shipped_branch_answers_as_the_trained_one_did(trunk, views, tmp_path):
    (found,) = new_run(trunk, views, tmp_path).run()
    found.branch.only_first = False
    found.branch.eval()
    maps = {"conv_7": torch.randn(3, 128, 8, 8), "conv_14": torch.randn(3, 256, 4, 4)}
    with torch.no_grad():
        assert torch.allclose(found.branch.shipped()(maps), found.branch(maps), atol=1e-4)


def test_regions_need_a_search_and_steps_behind_it():
    with pytest.raises(RecipeError, match="no search"):
        replace(RECIPE, regions=None)
    for joint in (None, replace(OPTIONS, steps=3)):
        with pytest.raises(RecipeError, match="ends before"):
            Recipe(name="short", heads=(RECIPE,), summary="too short", joint=joint)
