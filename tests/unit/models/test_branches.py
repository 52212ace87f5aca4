from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.branches import Branch, BranchSpec, averaged
from models.trunks.dlib29 import DLIB29
from models.trunks.sface import MAP_SHAPES, SFACE, SFace

EMOTION = BranchSpec(task="emotion", kind="softmax", labels=("a", "b", "c"), depths=("conv_12",), pool=2, hidden=7)
AGE = BranchSpec(task="age", kind="age", labels=tuple(str(year) for year in range(117)), depths=("conv_14",), hidden=5)
SPECS = {
    "one map": EMOTION,
    "linear only": replace(EMOTION, hidden=0),
    "two maps": replace(EMOTION, depths=("conv_7", "conv_13"), pool=3),
    "a whole map": replace(EMOTION, depths=("conv_14",), pool=7),
    "embedding": replace(EMOTION, depths=("embedding",)),
    "map and embedding": replace(EMOTION, depths=("conv_10", "embedding")),
    "own layers": replace(EMOTION, depths=("conv_11",), stages=((512, 1), (64, 2)), pool=1),
    "relearnt layers": replace(EMOTION, depths=("conv_13",), relearnt_to="conv_14"),
    "relearnt layers, a map and the embedding": replace(
        EMOTION, depths=("conv_12", "conv_14", "embedding"), relearnt_to="conv_14", pool=3
    ),
    "own layers, a map and the embedding": replace(
        EMOTION, depths=("conv_12", "conv_14", "embedding"), stages=((24, 2),), pool=3
    ),
}


def maps(count: int) -> dict[str, torch.Tensor]:
    found = {depth: torch.rand(count, *shape) for depth, shape in MAP_SHAPES.items()}
    return found | {"embedding": torch.nn.functional.normalize(torch.rand(count, 128))}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_branches_of_every_shape_return_logits(spec):
    branch = Branch(spec)
    assert branch.features(maps(5)).shape == (5, spec.feature_count(SFACE)) == (5, branch.feature_count)
    assert branch(maps(5)).shape == (5, 3)
    assert branch(maps(0)).shape == (0, 3)


def test_features_are_the_mean_of_each_cell():
    found = maps(3)
    features = Branch(EMOTION).features(found)
    corner = found["conv_12"][:, :, :7, 7:].mean((2, 3))  # row 0, column 1 of 2 x 2
    assert torch.allclose(features.view(3, 512, 2, 2)[:, :, 0, 1], corner, atol=1e-5)


def test_own_layers_take_the_weights_of_the_trunk():
    trunk, branch = SFace(), Branch(replace(EMOTION, depths=("conv_12",), stages=((1024, 2), (1024, 1)), pool=7))
    for stage, name in zip(branch.stages, ("conv_13", "conv_14"), strict=True):
        stage.load_state_dict(trunk.layers[name].state_dict())
    crops = torch.randint(0, 256, (2, 3, 112, 112), dtype=torch.uint8)
    with torch.no_grad():
        found = trunk.forward_intermediates(crops, ("conv_12", "conv_14"))
        assert torch.allclose(branch.features(found), found["conv_14"].flatten(1), atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": ()},
        {"depths": ()},
        {"depths": ("conv_3", "conv_3")},
        {"pool": 0},
        {"temperature": 0.0},
        {"thresholds": (0.5,)},
        {"kind": "age"},
    ],
)
def test_impossible_branches_are_refused(wrong):
    with pytest.raises(ValueError, match=r"branch|depth"):
        replace(EMOTION, **wrong)


@pytest.mark.parametrize("depths", [("conv_15",), ("conv_12", "layer1"), ("embedding",), ("embedding", "conv_14")])
def test_a_trunk_that_lacks_a_depth_of_a_branch_is_refused(depths):
    spec = replace(EMOTION, depths=depths, stages=((8, 1),))
    with pytest.raises(ValueError, match=r"depth 'conv_15'|depth 'layer1'|'embedding' has none"):
        Branch(spec)


def test_own_layers_stand_before_pooled_maps():
    spec = SPECS["own layers, a map and the embedding"]
    branch, found = Branch(spec), maps(2)
    features = branch.features(found)
    own = torch.nn.functional.adaptive_avg_pool2d(branch.stages(found["conv_12"]), 3)
    pooled = torch.nn.functional.adaptive_avg_pool2d(found["conv_14"], 3)
    expected = torch.cat([own.flatten(1), pooled.flatten(1), found["embedding"]], 1)
    assert torch.allclose(features, expected)


def test_maps_may_be_averaged_before():
    spec = SPECS["own layers, a map and the embedding"]
    branch, found = Branch(spec), maps(2)
    assert torch.equal(branch(found | {"conv_14": averaged(found["conv_14"], spec.pool)}), branch(found))


@pytest.mark.parametrize("name", SPECS)
def test_a_branch_in_bfloat16_stays_close(name):
    torch.manual_seed(11)
    branch, found = Branch(SPECS[name]).eval(), maps(4)
    with torch.no_grad():
        expected = branch(found)
        branch.set_trunk_precision(torch.bfloat16)
        logits = branch({depth: x if depth == "embedding" else x.bfloat16() for depth, x in found.items()})
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.02
    stays = branch.spec.hidden == 0 or branch.spec.depths == ("embedding",)
    assert branch.dtype == (torch.float32 if stays else torch.bfloat16)


def test_a_branch_reads_any_trunk():
    spec = replace(EMOTION, depths=("conv_21", "conv_29"), stages=((24, 2),), pool=2)
    found = {depth: torch.rand(3, *DLIB29.maps[depth]) for depth in spec.depths}
    assert Branch(spec, DLIB29).features(found).shape == (3, (24 + 256) * 4)


def test_ages_are_years_one_apart():
    with pytest.raises(ValueError, match="years one apart"):
        replace(AGE, labels=("0", "10", "20"))
