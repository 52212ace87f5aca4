"""Branches with layers for each label of a first decision: one distribution, in the one pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.branches import Branch, BranchSpec
from models.cost import measure_cost
from models.layers import layers_of
from models.manifest import DETECTOR_FILE, TRUNK_FILE, branch_file, read_manifest
from models.release import DEFAULT, load_model, write_release
from models.weights import read_weights

SPEC = BranchSpec(
    task="mood", kind="softmax", labels=("x", "y", "z"), depths=("conv_14",), pool=2, hidden=7, experts=("a", "b")
)
MAPS = {"conv_14": torch.rand(9, 1024, 7, 7, generator=torch.Generator().manual_seed(4)) * 9}


def branch_of(spec):
    torch.manual_seed(6)
    branch = Branch(spec).eval()
    for part in branch.head.parts:
        torch.nn.init.normal_(part[-1].weight, std=2)
    return branch


def parts_of(branch):
    """Return the (N, 2) decisions and the (N, 2, K) answers."""
    x = branch.features(MAPS)
    return branch.head.gate(x).softmax(1), torch.stack([part(x).softmax(1) for part in branch.head.answers], 1)


def test_weighted_answers_are_the_mean_by_probability():
    branch = branch_of(SPEC)
    with torch.no_grad():
        decided, answers = parts_of(branch)
        expected = (decided[:, :, None] * answers).sum(1)
        assert torch.allclose(branch(MAPS).exp(), expected, atol=1e-5)
    assert float((answers[:, 0] - answers[:, 1]).abs().max()) > 0.1


def test_hard_answers_are_those_of_the_likelier_label():
    branch = branch_of(replace(SPEC, routing="hard"))
    with torch.no_grad():
        branch.head.gate[-1].bias.sub_(branch.head.gate(branch.features(MAPS)).median(0).values)  # both are chosen
        decided, answers = parts_of(branch)
        chosen = decided.argmax(1)
        assert set(chosen.tolist()) == {0, 1}
        assert torch.allclose(branch(MAPS).exp(), answers[torch.arange(9), chosen], atol=1e-5)
        assert branch(MAPS)[:0].shape == (0, 3)


@pytest.mark.parametrize("routing", ["hard", "weighted"])
def test_experts_are_part_of_a_release_and_of_the_one_pass(tmp_path, float32, routing):
    branch = branch_of(replace(SPEC, routing=routing))
    base = read_manifest(DEFAULT)
    kept = {name: read_weights(DEFAULT / name, base.files[name]) for name in (DETECTOR_FILE, TRUNK_FILE)}
    manifest = replace(base, name="made", branches=(branch.spec,))
    write_release(tmp_path, manifest, kept | {branch_file("mood"): branch.state_dict()})
    assert read_manifest(tmp_path).branches == (branch.spec,)
    crops = torch.randint(0, 256, (3, 3, 112, 112), generator=torch.Generator().manual_seed(5)).to(torch.uint8)
    model = load_model(tmp_path, device="cpu")
    maps = model._intermediates(crops)
    with torch.no_grad():
        expected = branch({"conv_14": maps["conv_14"]}).softmax(1)
    found = torch.as_tensor(model.infer(crops).heads["mood"].probabilities)
    assert torch.allclose(found, expected, atol=2e-3)


def test_all_layers_of_experts_are_counted():
    cost = measure_cost("sface", (SPEC,)).branches["mood"]
    inputs = 1024 * 4
    assert cost.macs == 3 * inputs * 7 + 7 * 2 + 2 * 7 * 3
    assert cost.weights == cost.macs + 3 * 7 + 2 + 2 * 3
    assert cost.others == 3 * 7


@pytest.mark.parametrize(
    "wrong", [{"experts": ("a",)}, {"kind": "multilabel"}, {"shared": 1}], ids=["one", "multilabel", "shared"]
)
def test_impossible_experts_are_refused(wrong):
    with pytest.raises(ValueError, match=r"branch 'mood': experts"):
        replace(SPEC, **wrong)


def test_experts_and_routing_belong_to_the_head():
    base = replace(read_manifest(DEFAULT), branches=(SPEC,))
    files = {**base.files, branch_file("mood"): "c" * 64}
    plain = replace(SPEC, experts=())
    fingerprints = {
        layers_of(replace(base, files=files, branches=(spec,)), 1).heads["mood"].fingerprint
        for spec in (SPEC, replace(SPEC, routing="hard"), replace(SPEC, experts=("b", "a")), plain)
    }
    assert len(fingerprints) == 4
    assert not {"experts", "routing"} & replace(base, branches=(plain,)).plain()["branches"][0].keys()


def test_a_branch_with_experts_in_bfloat16_stays_close():
    branch = branch_of(SPEC)
    with torch.no_grad():
        expected = branch(MAPS)
        branch.set_trunk_precision(torch.bfloat16)
        found = branch({"conv_14": MAPS["conv_14"].bfloat16()})
    assert found.dtype == torch.float32
    assert {part[0].weight.dtype for part in branch.head.parts} == {torch.bfloat16}
    assert float((found.exp() - expected.exp()).abs().max()) < 0.1
