"""Regions of labels: warped maps, one pass with other branches, and a release that keeps them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.branches import Branch, BranchSpec
from models.cost import measure_cost
from models.errors import ReleaseError
from models.layers import layers_of
from models.manifest import DETECTOR_FILE, TRUNK_FILE, branch_file, read_manifest
from models.multi_task import MultiTaskModel
from models.release import DEFAULT, load_model, write_release
from models.trunks.regions import Regions, RegionSpec, first_answers
from models.trunks.registry import create_trunk, layout_of
from models.weights import read_weights
from training.releases.export import half

TRUNK = "sface-w0.25-r64"  # conv_7 has 128 channels of 8 x 8 cells, a place every 8 pixels
SHAPE = RegionSpec(channels=6, hidden=2, cells=4, width=3)
LABELS = ("bald", "hat", "smile", "male", "young")
SPEC = BranchSpec(
    task="attributes",
    kind="multilabel",
    labels=LABELS,
    depths=("conv_7", "conv_14"),
    regions=SHAPE,
    pool=2,
    hidden=7,
    thresholds=(0.5,) * 5,
)
GENDER = BranchSpec(task="gender", kind="softmax", labels=("male", "female"), depths=("conv_14",), pool=2)


@pytest.fixture
def regions():
    torch.manual_seed(0)
    return Regions(SHAPE, len(LABELS), layout_of(TRUNK), "conv_7").eval().requires_grad_(requires_grad=False)


def test_a_region_is_the_whole_crop_until_one_is_found(regions):
    assert regions.boxes.tolist() == [[0, 0, 64, 64]] * 5


def test_features_are_those_of_each_label_then_first_answers(regions):
    x = torch.randn(2, 128, 8, 8)
    found = regions(x)
    assert found.shape == (2, 5 * 3 + 5) == (2, SHAPE.feature_count(5))
    assert torch.equal(regions.first_of(found), first_answers(regions.responses(x)))


def test_a_first_answer_is_the_mean_of_greatest_and_average_response():
    responses = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]])
    assert first_answers(responses).item() == (5 + 2) / 2


def test_a_map_is_read_where_the_region_lies(regions):
    """A map whose places hold their own middle, in pixels, is warped to the middles of the region's cells."""
    centre, step = regions.field.centre, regions.field.step
    middles = centre + torch.arange(8.0) * step
    x = torch.stack([middles.expand(8, 8), middles[:, None].expand(8, 8)]).repeat(3, 1, 1)[None]  # x and y in turn
    regions.boxes.copy_(torch.tensor([[8, 16, 40, 56]] * 4 + [[24, 8, 56, 24]]))
    warped = regions.warped(x).reshape(5, 6, 4, 4)
    for label, (x0, y0, x1, y1) in ((0, (8, 16, 40, 56)), (4, (24, 8, 56, 24))):
        columns = torch.tensor([x0 + (x1 - x0) * (cell + 0.5) / 4 for cell in range(4)])
        rows = torch.tensor([y0 + (y1 - y0) * (cell + 0.5) / 4 for cell in range(4)])
        assert torch.allclose(warped[label, 0], columns.expand(4, 4), atol=1e-3)
        assert torch.allclose(warped[label, 1], rows[:, None].expand(4, 4), atol=1e-3)


def test_a_label_reads_nothing_outside_its_region(regions):
    regions.boxes.copy_(torch.tensor([[0, 0, 24, 24]] + [[40, 40, 64, 64]] * 4))
    x = torch.randn(1, 128, 8, 8)
    other = x.clone()
    other[:, :, 5:, 5:] += 3
    before, after = regions(x), regions(other)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:6], after[:, 3:6]).all()


def test_faces_of_a_batch_do_not_mix(regions):
    regions.boxes.copy_(torch.tensor([[8 * label, 0, 8 * label + 24, 32] for label in range(5)]))
    x = torch.randn(3, 128, 8, 8)
    alone = torch.cat([regions(x[face : face + 1]) for face in range(3)])
    assert torch.allclose(regions(x), alone, atol=1e-5)


def test_the_one_pass_runs_regions_beside_other_heads():
    torch.manual_seed(0)
    trunk = create_trunk(TRUNK)
    branches = [Branch(spec, trunk.layout).eval() for spec in (SPEC, GENDER)]
    branches[0].regions.boxes[2] = torch.tensor([8.0, 24, 56, 48])
    crops = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        maps = trunk.eval().forward_intermediates(crops, ("conv_7", "conv_14"))
        expected = branches[0](maps).sigmoid()
    found = MultiTaskModel(trunk, branches, torch.device("cpu")).infer(crops)
    assert list(found.heads) == ["attributes", "gender"]
    assert torch.as_tensor(found.heads["attributes"].probabilities) == pytest.approx(expected, abs=0.02)


def test_the_cost_counts_the_layers_of_regions():
    cost = measure_cost(TRUNK, (SPEC,)).branches["attributes"]
    places, warped = 8 * 8, 2 * 2  # of the map, and of a region behind the maximum
    narrow, respond = 128 * 6 * places, (6 * 10 + 10) * places
    refine = 5 * (6 * 3 * 9 + 3 * 3) * warped
    linear = (5 * 4 + 256 * 4) * 7 + 7 * 5
    assert cost.macs == narrow + respond + refine + linear


def test_a_release_keeps_regions_and_its_head_is_another_with_others(tmp_path):
    torch.manual_seed(0)
    trunk, branch = create_trunk(TRUNK), Branch(SPEC, layout_of(TRUNK))
    base = replace(read_manifest(DEFAULT).on_trunk(TRUNK), name="with-regions", branches=(SPEC,))
    files = {DETECTOR_FILE: read_weights(DEFAULT / DETECTOR_FILE), TRUNK_FILE: trunk.state_dict()}
    boxes, heads = ([8, 16, 41, 57], [8, 16, 42, 57]), []
    for number, box in enumerate(boxes):
        branch.regions.boxes[3] = torch.tensor(box, dtype=torch.float32)
        weights = files | {branch_file("attributes"): half(branch.state_dict())}
        write_release(tmp_path / str(number), base, weights)
        manifest = read_manifest(tmp_path / str(number))
        assert manifest.branches[0].regions == SHAPE
        heads.append(layers_of(manifest, 1).heads["attributes"].fingerprint)
        model = load_model(tmp_path / str(number), device="cpu")
        assert model._branches["attributes"].regions.boxes[3].tolist() == box
    assert heads[0] != heads[1]


def test_a_manifest_without_regions_is_as_it_was():
    manifest = replace(read_manifest(DEFAULT).on_trunk(TRUNK), branches=(GENDER,))
    assert "regions" not in manifest.plain()["branches"][0]
    with_regions = replace(manifest, branches=(SPEC,)).plain()["branches"][0]
    assert with_regions["regions"] == {"channels": 6, "hidden": 2, "cells": 4, "width": 3}


def test_regions_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="even number of cells"):
        RegionSpec(cells=5)
    with pytest.raises(ValueError, match="read one by one"):
        replace(GENDER, regions=SHAPE)
    with pytest.raises(ValueError, match="not several"):
        replace(SPEC, relearnt_to="conv_14")
    manifest = read_manifest(DEFAULT).on_trunk(TRUNK)
    with pytest.raises(ReleaseError, match="regions need a map, 'embedding' has none"):
        replace(manifest, branches=(replace(SPEC, depths=("embedding",)),)).check()
