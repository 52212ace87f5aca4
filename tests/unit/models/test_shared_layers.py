"""Branches with several hidden layers, and with layers that they share: computed once, counted once, read as before."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from models import manifest as manifests
from models.branches import Branch, BranchSpec, sharing
from models.cost import measure_cost
from models.layers import layers_of
from models.manifest import DETECTOR_FILE, FILE, TRUNK_FILE, branch_file, read_manifest
from models.multi_task import EmbeddingHeads, MultiTaskModel
from models.readings import encode
from models.release import DEFAULT, load_heads, load_model, write_release
from models.trunks.sface import SFace
from models.weights import read_weights
from training.releases.describe import describe_release
from training.releases.speed import SpeedOptions, measure_speed

CPU = torch.device("cpu")
MOOD = BranchSpec(
    task="mood", kind="softmax", labels=("x", "y"), depths=("conv_14",), pool=2, hidden=(11, 7, 5), shared=2, leak=0.1
)
YEARS = replace(MOOD, task="years", kind="age", labels=tuple(map(str, range(13))), hidden=(11, 7, 3))
ALONE = replace(MOOD, task="alone", shared=0)
CROPS = torch.randint(0, 256, (5, 3, 112, 112), generator=torch.Generator().manual_seed(5)).to(torch.uint8)


def branches(*specs: BranchSpec) -> list[Branch]:
    """Return branches whose shared layers have equal weights, each in a copy of its own."""
    torch.manual_seed(3)
    found = [Branch(spec) for spec in specs]
    for branch in found[1:]:
        if branch.spec.shared:
            branch.shared_layers.load_state_dict(found[0].shared_layers.state_dict())
    return found


def write(folder, made: list[Branch]) -> None:
    base = read_manifest(DEFAULT)
    kept = {name: read_weights(DEFAULT / name, base.files[name]) for name in (DETECTOR_FILE, TRUNK_FILE)}
    weights = {branch_file(branch.spec.task): branch.state_dict() for branch in made}
    write_release(folder, replace(base, name="made", branches=tuple(b.spec for b in made)), kept | weights)


def test_several_hidden_layers_are_linear_layers_with_rectifiers():
    branch = Branch(MOOD)
    assert [tuple(layer.weight.shape) for layer in branch.head if isinstance(layer, torch.nn.Linear)] == [
        (11, 1024 * 4),
        (7, 11),
        (5, 7),
        (2, 5),
    ]
    assert [layer.negative_slope for layer in branch.head if isinstance(layer, torch.nn.LeakyReLU)] == [0.1] * 3
    learnt = Branch(replace(MOOD, leak=None))
    assert [layer.num_parameters for layer in learnt.head if isinstance(layer, torch.nn.PReLU)] == [11, 7, 5]


def test_one_width_has_one_form():
    assert replace(MOOD, hidden=(9,), shared=0) == replace(MOOD, hidden=9, shared=0)
    assert replace(MOOD, hidden=(), shared=0).hidden == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"shared": 4},
        {"shared": -1},
        {"hidden": (4, 0)},
        {"hidden": -3, "shared": 0},
        {"stages": ((8, 1),)},
        {"depths": ("conv_13",), "relearnt_to": "conv_14"},
    ],
)
def test_impossible_layers_are_refused(wrong):
    with pytest.raises(ValueError, match="branch 'mood'"):
        replace(MOOD, **wrong)


def test_shared_layers_run_once_and_give_what_each_branch_gives_alone():
    made = branches(MOOD, YEARS, ALONE)
    alone = {b.spec.task: MultiTaskModel(SFace(), [copy.deepcopy(b)], CPU) for b in made}
    trunk = SFace()
    for model in alone.values():
        model._trunk.load_state_dict(trunk.state_dict())
    together = MultiTaskModel(trunk, made, CPU)
    runs = []
    for first in {id(branch.head[0]): branch.head[0] for branch in made}.values():
        first.register_forward_hook(lambda layer, *_: runs.append(id(layer)))
    found = together.infer(CROPS)
    assert len(runs) == len(set(runs)) == 2  # one shared layer, one of the branch that shares none
    for task, model in alone.items():
        assert (found.heads[task].codes - model.infer(CROPS).heads[task].codes).abs().max() <= 1


def test_layers_of_other_weights_are_not_taken_for_each_other():
    made = branches(MOOD, YEARS)
    with torch.no_grad():
        made[1].head[2].bias[0] += 1
    assert {task: first.spec.task for task, first in sharing(made).items()} == {"mood": "mood", "years": "years"}
    expected = [encode(branch.spec.kind, branch(random_maps())) for branch in made]
    model = MultiTaskModel(SFace(), made, CPU)
    found = model._heads(random_maps())
    assert all((one - other).abs().max() <= 1 for one, other in zip(expected, found, strict=True))


def random_maps() -> dict[str, torch.Tensor]:
    return {"conv_14": torch.rand(4, 1024, 7, 7, generator=torch.Generator().manual_seed(2))}


def test_branches_on_stored_embeddings_share_layers(tmp_path):
    at = {"depths": ("embedding",), "pool": 1}
    made = branches(replace(MOOD, **at), replace(YEARS, **at))
    embeddings = torch.nn.functional.normalize(torch.randn(6, 128))
    expected = {b.spec.task: encode(b.spec.kind, b({"embedding": embeddings.half().float()})) for b in made}
    runs = []
    for branch in made:
        branch.head[0].register_forward_hook(lambda layer, *_: runs.append(id(layer)))
    write(tmp_path, made)
    found = EmbeddingHeads(made, CPU).infer(embeddings)
    assert len(runs) == 1
    stored = load_heads(tmp_path, frozenset({"years"}), device="cpu").infer(embeddings)
    assert list(stored) == ["years"]
    for task, codes in expected.items():
        assert (found[task].codes - codes).abs().max() <= 1
    assert (stored["years"].codes - expected["years"]).abs().max() <= 1


def test_a_head_that_shares_works_without_the_others(tmp_path, float32):
    write(tmp_path, branches(MOOD, YEARS))
    whole = load_model(tmp_path, device="cpu").infer(CROPS).heads["years"]
    alone = load_model(tmp_path, device="cpu", heads=frozenset({"years"})).infer(CROPS).heads
    assert list(alone) == ["years"]
    assert (alone["years"].codes - whole.codes).abs().max() <= 1


def test_shared_layers_are_counted_once(tmp_path):
    inputs = 1024 * 4
    cost = measure_cost("sface", (MOOD, YEARS, ALONE))
    shared = inputs * 11 + 11 * 7
    assert cost.shared[("mood", "years")].macs == shared
    assert cost.shared[("mood", "years")].weights == shared + 11 + 7
    assert cost.branches["mood"].macs == 7 * 5 + 5 * 2
    assert cost.branches["years"].macs == 7 * 3 + 3 * 13
    assert cost.branches["alone"].macs == shared + 7 * 5 + 5 * 2
    deepest = cost.depths["conv_14"]
    assert cost.macs(("mood",), identity=False) == deepest + shared + cost.branches["mood"].macs
    both = cost.branches["mood"].macs + cost.branches["years"].macs
    assert cost.macs(("mood", "years"), identity=False) == deepest + shared + both
    assert cost.macs(("alone",), identity=False) == deepest + cost.branches["alone"].macs
    write(tmp_path, branches(MOOD, YEARS))
    found = describe_release(tmp_path)
    assert "| shared by mood, years | conv_14 |" in found.table()
    assert found.plain()["shared"][0]["macs"] == shared


def test_layers_of_one_shape_and_other_weights_are_counted_apart(tmp_path):
    made = branches(MOOD, YEARS)
    with torch.no_grad():
        made[1].head[0].bias[0] += 1  # as in a release with branches of several others
    write(tmp_path, made)
    found = describe_release(tmp_path)
    assert [entry["tasks"] for entry in found.plain()["shared"]] == [("mood",), ("years",)]
    one = 1024 * 4 * 11 + 11 * 7
    both = sum(found.cost.branches[task].macs for task in ("mood", "years"))
    assert found.cost.macs(identity=False) == found.cost.depths["conv_14"] + 2 * one + both
    assert measure_speed(tmp_path, SpeedOptions(batch=1, rounds=1, device="cpu")).all_macs == found.cost.macs()


def test_stored_manifests_with_one_width_are_read_and_keep_their_fingerprints(tmp_path):
    manifest = read_manifest(DEFAULT)
    assert {type(entry["hidden"]) for entry in manifest.plain()["branches"]} == {int}
    assert not any({"shared", "leak"} & entry.keys() for entry in manifest.plain()["branches"])
    content = json.loads((DEFAULT / FILE).read_text())
    del content["manifest_sha256"]
    assert manifest.fingerprint == manifests.fingerprint_of(content)


def test_several_widths_are_written_and_read_back(tmp_path):
    made = branches(MOOD, YEARS)
    write(tmp_path, made)
    found = read_manifest(tmp_path)
    assert found.branches == (MOOD, YEARS)
    assert found.plain()["branches"][0]["hidden"] == [11, 7, 5]


@pytest.mark.parametrize("change", [{"hidden": (11, 7, 6)}, {"shared": 1}, {"leak": 0.2}, {"leak": None}])
def test_each_part_of_the_layers_belongs_to_the_head(change):
    base = replace(read_manifest(DEFAULT), branches=(MOOD,))
    files = {**base.files, branch_file("mood"): "c" * 64}
    one, other = (
        layers_of(replace(base, files=files, branches=(spec,)), 1) for spec in (MOOD, replace(MOOD, **change))
    )
    assert one.trunk == other.trunk
    assert one.heads["mood"].fingerprint != other.heads["mood"].fingerprint
