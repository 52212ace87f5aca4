"""Releases that training writes: number formats, and the data and runs that their parts come from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.branches import Branch
from models.manifest import FILE, TRUNK_PART, TrainingRun, read_manifest
from models.release import DEFAULT
from models.trunks.registry import create_trunk
from training.errors import RecipeError
from training.fit.progress import timed
from training.recipes.catalogue import AGE, EMOTION, GENDER
from training.recipes.recipe import RECIPES
from training.releases.export import TunedTrunk, branches_of, export, half
from training.releases.origin import RANDOM_LICENCE, Origin, run_here, start_of
from training.train import load_trunk


def test_statistics_of_batch_norm_stay_float32():
    norm = torch.nn.BatchNorm2d(3)
    norm.running_var.copy_(torch.tensor([70_000.0, 1e-9, 1.5]))
    norm.running_mean.fill_(0.1)
    found = half({f"layers.a.norm.{key}": value for key, value in norm.state_dict().items()})
    assert torch.equal(found["layers.a.norm.running_var"], norm.running_var)
    assert torch.equal(found["layers.a.norm.running_mean"], norm.running_mean)
    assert found["layers.a.norm.weight"].dtype == torch.float16
    assert found["layers.a.norm.num_batches_tracked"].dtype == torch.int64


def test_weights_beyond_fp16_are_refused():
    assert half({"w": torch.tensor([65_504.0])})["w"].tolist() == [65_504.0]
    with pytest.raises(RecipeError, match=r"bias has weights beyond 65504, where fp16 ends"):
        half({"w": torch.ones(2), "bias": torch.tensor([-65_600.0])})


def new_branch(head):
    return Branch(head.on(create_trunk("sface").layout).spec)


def run_of(name, *tasks):
    recipe = RECIPES[name].only(*tasks) if tasks else RECIPES[name]
    return run_here(name, "sface-2021dec", recipe.learnt, 12.34)


def test_a_recipe_names_the_sets_that_its_parts_learn_from():
    assert RECIPES["frozen"].learnt == {
        "utkface": ("gender", "age", "ethnicity"),
        "fer2013": ("emotion", "emotion7"),
        "ferplus": ("emotion",),
        "celeba10k": ("attributes",),
    }
    assert RECIPES["frozen"].only("emotion7").learnt == {"fer2013": ("emotion7",)}
    assert RECIPES["default"].learnt["celeba10k"] == ("attributes", TRUNK_PART)
    assert set(RECIPES["fairface"].learnt) == {"fairface"}


def test_a_release_names_the_sets_of_its_recipe_and_no_others(tmp_path):
    trunk = TunedTrunk("sface-mine", load_trunk(DEFAULT), ("fairface",))
    run = run_of("fairface", "gender")
    branch = new_branch(RECIPES["fairface"].head("gender"))
    manifest = export("mine", DEFAULT, [branch], tmp_path, trunk, Origin.of_run(run))
    assert set(manifest.data) == {"widerface", "orientation", "sface", "tuning", "fairface"}
    assert manifest.data["fairface"]["tasks"] == "gender"
    assert manifest.data["tuning"]["source"] == "fairface"
    assert manifest.training == read_manifest(tmp_path).training == (run,)
    assert run.device
    assert (run.recipe, run.start, run.seconds) == ("fairface", "sface-2021dec", 12.3)


def test_sets_of_the_bases_branches_stay_as_far_as_the_branches_do(tmp_path):
    run = run_of("frozen", "gender")
    first = export("first", DEFAULT, [new_branch(GENDER)], tmp_path / "first", origin=Origin.of_run(run))
    assert first.data["utkface"]["tasks"] == "age, ethnicity, gender"
    assert first.data["ferplus"] == read_manifest(DEFAULT).data["ferplus"]
    assert first.data["tuning"] == read_manifest(DEFAULT).data["tuning"]
    other = replace(run_of("frozen", "age", "emotion"), seconds=5.0)
    made = [new_branch(AGE), new_branch(EMOTION)]
    second = export("second", tmp_path / "first", made, tmp_path / "second", origin=Origin.of_run(other))
    assert second.training == (run, other)
    assert second.data["fer2013"]["tasks"] == "emotion (images), emotion"  # emotion7 is the base's still
    third = export("third", tmp_path / "second", [new_branch(AGE)], tmp_path / "third", origin=Origin.of_run(run))
    assert third.training == (run, other.only({"emotion"}))


def test_a_branch_that_is_taken_from_another_release_brings_its_run(tmp_path):
    runs = [replace(run_of("frozen", task), seconds=float(n)) for n, task in enumerate(("gender", "age"))]
    for run, head in zip(runs, (GENDER, AGE), strict=True):
        export(head.spec.task, DEFAULT, [new_branch(head)], tmp_path / head.spec.task, origin=Origin.of_run(run))
    taken = Origin.of_parts(read_manifest(tmp_path / "age"), {"age"})
    branches = branches_of(tmp_path / "age", ["age"])
    manifest = export("mixed", tmp_path / "gender", branches, tmp_path / "mixed", origin=taken)
    assert manifest.training == tuple(runs)
    assert [run.only({TRUNK_PART}) for run in runs] == [None, None]


def test_the_weights_of_a_base_are_random_published_or_of_a_release():
    base = read_manifest(DEFAULT)
    assert start_of(base) == "sface-multitask of default"
    plain = replace(base.on_trunk("resnet18-r112"), name="mine", data={})
    assert start_of(plain) == "resnet18-r112, published"
    assert start_of(replace(plain, licences={"trunk": RANDOM_LICENCE})) == "resnet18-r112, random"
    assert start_of(replace(plain, training=(run_of("frozen", "age"),))) == "resnet18-r112, published"
    assert start_of(replace(plain, training=(run_of("default"),))) == "resnet18-r112 of mine"


def test_a_release_without_runs_is_written_as_before():
    manifest = read_manifest(DEFAULT)
    assert "training" not in manifest.plain()
    assert manifest.to_json() == (DEFAULT / FILE).read_text()
    run = TrainingRun(recipe="r", start="s", learnt={"a": ("age",)}, seconds=1.0, device="cpu")
    assert replace(manifest, training=(run,)).fingerprint == manifest.fingerprint


def test_the_seconds_of_interrupted_attempts_count_where_a_run_goes_on(tmp_path):
    (tmp_path / "seconds").write_text("100.0\n")
    with pytest.raises(KeyboardInterrupt), timed(tmp_path, resumes=True):
        raise KeyboardInterrupt
    with timed(tmp_path, resumes=True) as seconds:
        assert 100 <= seconds() < 110
    with timed(tmp_path, resumes=False) as seconds:
        assert seconds() < 10
    assert float((tmp_path / "seconds").read_text()) < 10
