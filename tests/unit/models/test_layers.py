"""Every field of a release that changes stored rows belongs to one layer, and changes that layer and those on it."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from models.branches import BranchSpec
from models.detection.detector import DetectionPolicy
from models.errors import ReleaseError
from models.layers import layers_of, way_of
from models.manifest import (
    DETECTOR_FILE,
    TRUNK_FILE,
    Alignment,
    Manifest,
    TrainingRun,
    Verdict,
    branch_file,
    read_manifest,
)
from models.quality import QualityPolicy
from models.release import DEFAULT
from models.trunks.regions import RegionSpec

MOOD = BranchSpec(
    task="mood",
    kind="softmax",
    labels=("x", "y"),
    depths=("conv_9", "conv_11"),
    stages=((24, 2),),
    pool=2,
    hidden=3,
    temperature=0.7,
    abstain=0.6,
    thresholds=(0.4, 0.5),
)
AGE = BranchSpec(task="age", kind="age", labels=("20", "21", "22"), depths=("embedding",))
FILES = {
    DETECTOR_FILE: "a" * 64,
    TRUNK_FILE: "b" * 64,
    branch_file("mood"): "c" * 64,
    branch_file("age"): "d" * 64,
}
BASE = Manifest(name="base", branches=(MOOD, AGE), files=FILES, metrics={"mood": 1}, licences={"trunk": "MIT"})

NONE: frozenset[str] = frozenset()
MOOD_READING = frozenset({"reading of mood"})
MOOD_HEAD = MOOD_READING | {"head of mood"}
ALL_ON_TRUNK = MOOD_HEAD | {"trunk", "head of age", "reading of age"}
ALL = ALL_ON_TRUNK | {"finder"}

OF_MANIFEST = {
    "name": ("other", NONE),
    "format": (2, NONE),
    "detector": ("retinaface-resnet", ALL),
    "trunk": ("sface-other", ALL_ON_TRUNK),
    "metrics": ({}, NONE),
    "verdict": (Verdict(base="b", base_fingerprint="f", judged=1, worse=(), data=(), made_at="2026-01-01"), NONE),
    "training": ((TrainingRun(recipe="r", start="s", learnt={"a": ("mood",)}, seconds=1.0, device="cpu"),), NONE),
    "data": ({"utkface": {}}, NONE),
    "licences": ({}, NONE),
}
OF_BRANCH = {
    "kind": ("multilabel", MOOD_HEAD),
    "labels": (("y", "x"), MOOD_HEAD),
    "depths": (("conv_9", "conv_10"), MOOD_HEAD),
    "stages": ((), MOOD_HEAD),
    "pool": (3, MOOD_HEAD),
    "hidden": (0, MOOD_HEAD),
    "temperature": (0.8, MOOD_READING),
    "abstain": (None, MOOD_READING),
    "thresholds": ((0.4, 0.6), MOOD_READING),
}
OF_FILES = {
    DETECTOR_FILE: ALL,
    TRUNK_FILE: ALL_ON_TRUNK,
    branch_file("mood"): MOOD_HEAD,
    branch_file("age"): frozenset({"head of age", "reading of age"}),
}


def named(manifest: Manifest, version: int = 3) -> dict[str, str]:
    """Return the fingerprint of each layer by its name."""
    return {
        entry.kind if entry.task is None else f"{entry.kind} of {entry.task}": entry.fingerprint
        for entry in layers_of(manifest, version).entries
    }


def changed(other: Manifest, version: int = 3) -> frozenset[str]:
    before, after = named(BASE), named(other, version)
    assert before.keys() == after.keys()
    return frozenset(name for name, fingerprint in after.items() if before[name] != fingerprint)


def with_mood(**changes: object) -> Manifest:
    return replace(BASE, branches=(replace(MOOD, **changes), AGE))


def test_each_field_is_tried():
    parts = {"detection", "alignment", "quality", "branches", "files"}
    assert {field.name for field in fields(Manifest)} == OF_MANIFEST.keys() | parts
    elsewhere = {"task", "relearnt_to", "regions", "shared", "leak", "experts", "routing"}
    assert {field.name for field in fields(BranchSpec)} == OF_BRANCH.keys() | elsewhere
    assert BASE.files.keys() == OF_FILES.keys()


@pytest.mark.parametrize("name", OF_MANIFEST)
def test_fields_of_the_manifest(name):
    value, expected = OF_MANIFEST[name]
    assert getattr(BASE, name) != value
    assert changed(replace(BASE, **{name: value})) == expected


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (part, field.name)
        for part, policy in (("detection", DetectionPolicy), ("quality", QualityPolicy), ("alignment", Alignment))
        for field in fields(policy)
    ],
)
def test_every_limit_belongs_to_the_finder(part, name):
    policy = getattr(BASE, part)
    value = getattr(policy, name)
    other = value[::-1] if isinstance(value, tuple) else value + 1
    assert changed(replace(BASE, **{part: replace(policy, **{name: other})})) == ALL


def test_relearnt_layers_change_the_head_and_its_reading():
    plain, own = (with_mood(stages=(), relearnt_to=last) for last in (None, "conv_14"))
    before, after = named(plain), named(own)
    assert {name for name in before if before[name] != after[name]} == MOOD_HEAD


def test_the_shape_of_regions_is_part_of_the_head():
    plain = replace(BASE, branches=(replace(MOOD, kind="multilabel", stages=(), regions=RegionSpec(width=8)), AGE))
    other = replace(BASE, branches=(replace(MOOD, kind="multilabel", stages=(), regions=RegionSpec(width=9)), AGE))
    before, after = named(plain), named(other)
    assert {name for name in before if before[name] != after[name]} == MOOD_HEAD


@pytest.mark.parametrize("name", OF_BRANCH)
def test_fields_of_a_branch_change_its_layers_alone(name):
    value, expected = OF_BRANCH[name]
    assert getattr(MOOD, name) != value
    assert changed(with_mood(**{name: value})) == expected


@pytest.mark.parametrize("name", OF_FILES)
def test_bytes_of_a_file(name):
    assert changed(BASE.with_files(BASE.files | {name: "e" * 64})) == OF_FILES[name]


def test_the_version_of_the_pipeline_belongs_to_the_finder():
    assert changed(BASE, version=4) == ALL


def test_a_task_is_part_of_its_head():
    files = BASE.files | {branch_file("temper"): BASE.files[branch_file("mood")]}
    renamed = named(with_mood(task="temper").with_files(files))
    assert renamed["head of temper"] != named(BASE)["head of mood"]
    assert renamed["reading of temper"] != named(BASE)["reading of mood"]
    assert renamed["head of age"] == named(BASE)["head of age"]


def test_the_order_of_branches_changes_nothing():
    assert changed(replace(BASE, branches=(AGE, MOOD))) == NONE


def test_whole_numbers_and_fractions_are_one_release():
    whole = replace(BASE, quality=replace(BASE.quality, min_side=16))
    assert isinstance(whole.quality.min_side, int)
    assert changed(whole) == NONE


def test_layers_of_all_kinds_and_tasks_differ():
    assert len(set(named(BASE).values())) == len(named(BASE)) == 6


def test_each_layer_names_its_parent_which_comes_first():
    layers = layers_of(BASE, 3)
    seen: set[str | None] = {None}
    for entry in layers.entries:
        assert entry.parent in seen
        seen.add(entry.fingerprint)
    assert layers.heads["mood"].parent == layers.heads["age"].parent == layers.trunk.fingerprint
    assert layers.readings["age"].parent == layers.heads["age"].fingerprint


def test_a_layer_describes_itself():
    layers = layers_of(BASE, 3)
    assert layers.finder.spec["pipeline_version"] == 3
    assert layers.finder.spec["quality"]["min_side"] == 16.0
    assert layers.trunk.spec == {"name": "sface-2021dec", "sha256": "b" * 64}
    assert layers.heads["mood"].labels == ("x", "y")
    assert layers.heads["mood"].spec["depths"] == ["conv_9", "conv_11"]
    reading = {"kind": "softmax", "temperature": 0.7, "abstain": 0.6, "thresholds": [0.4, 0.5]}
    assert layers.readings["mood"].spec == reading
    assert layers.readings["mood"].labels is None
    for entry in layers.entries:
        assert json.loads(json.dumps(entry.spec, allow_nan=False)) == entry.spec


def test_fingerprints_stay_from_version_to_version():
    """A change here has every archive computed again; so has a new field of a policy, whatever its default."""
    assert [entry.fingerprint[:12] for entry in layers_of(BASE, 3).entries] == [
        "531fc1ba244a",
        "ff03c52c05da",
        "faed04522c0d",
        "236fb051627e",
        "45bd69ea68c8",
        "244c2705b70e",
    ]


def test_the_shipped_release_has_its_layers():
    manifest = read_manifest(DEFAULT)
    layers = layers_of(manifest, 3)
    assert tuple(layers.heads) == tuple(layers.readings) == tuple(spec.task for spec in manifest.branches)
    assert layers.heads["age"].labels == tuple(str(year) for year in range(117))


@pytest.mark.parametrize("name", OF_FILES)
def test_a_release_without_hashes_has_no_layers(name):
    with pytest.raises(ReleaseError, match=f"no hash of {name}"):
        layers_of(BASE.with_files({file: sha for file, sha in FILES.items() if file != name}), 3)


def ways(new: Manifest, version: int = 3) -> tuple[str, str, dict[str, str]]:
    found = way_of(layers_of(BASE, 3), layers_of(new, version))
    return found.finder, found.trunk, dict(found.tasks)


def test_a_release_with_the_same_layers_needs_nothing():
    assert ways(replace(BASE, name="other")) == ("nothing", "nothing", {"mood": "nothing", "age": "nothing"})


def test_each_task_comes_from_its_cheapest_source():
    other_age = BASE.with_files(BASE.files | {branch_file("age"): "e" * 64})
    assert ways(other_age) == ("nothing", "nothing", {"mood": "nothing", "age": "embedding"})
    assert ways(with_mood(temperature=2.0)) == ("nothing", "nothing", {"mood": "reading", "age": "nothing"})
    assert ways(with_mood(hidden=5)) == ("nothing", "nothing", {"mood": "crops", "age": "nothing"})
    both = replace(AGE, depths=("embedding", "conv_14"))
    assert ways(replace(BASE, branches=(both,))) == ("nothing", "nothing", {"age": "crops"})


def test_a_task_that_the_old_release_lacks_is_computed():
    deeper, shallow = replace(MOOD, task="smile"), replace(AGE, task="years")
    files = BASE.files | {branch_file("smile"): "1" * 64, branch_file("years"): "2" * 64}
    new = replace(BASE, branches=(MOOD, deeper, shallow)).with_files(files)
    assert ways(new) == ("nothing", "nothing", {"mood": "nothing", "smile": "crops", "years": "embedding"})


def test_a_new_trunk_needs_crops_and_a_new_finder_needs_the_media():
    assert ways(replace(BASE, trunk="sface-other")) == ("nothing", "crops", {"mood": "crops", "age": "crops"})
    assert ways(BASE, version=4) == ("media", "crops", {"mood": "crops", "age": "crops"})
