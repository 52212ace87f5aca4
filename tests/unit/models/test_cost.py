from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from models.branches import BranchSpec
from models.cost import measure_cost
from models.manifest import read_manifest
from models.release import DEFAULT
from models.trunks.registry import create_trunk, list_trunks

SPEC = BranchSpec(task="mood", kind="softmax", labels=("x", "y", "z"), depths=("conv_12",), pool=2, hidden=7)


@pytest.mark.parametrize(
    ("name", "weights", "macs"),
    [
        ("sface", 9_618_688, 574_138_880),
        ("dlib29", 5_607_488, 270_854_144),
        ("face24", 3_528_416, 727_154_688),
        ("resnet18", 11_166_912, 1_813_561_344),
        ("mobilenet", 3_185_088, 567_716_352),
        ("xception", 20_752_424, 4_592_888_384),
    ],
)
def test_trunks_have_their_published_cost(name, weights, macs):
    cost = measure_cost(name)
    assert (cost.trunk.weights, cost.trunk.macs) == (weights, macs)


def test_mobilenet_costs_what_its_paper_prints():
    cost = measure_cost("mobilenet")
    averaging = 7 * 7 * 1024  # counted in the table of layers, whose sum is 567.76 million without the classifier
    assert cost.trunk.macs + averaging == pytest.approx(567.76e6, abs=1e4)
    assert cost.standard / cost.trunk.macs == pytest.approx(8.6, abs=0.05)
    assert measure_cost("resnet18").standard == measure_cost("resnet18").trunk.macs


@pytest.mark.parametrize(("channels", "depth"), [(64, "conv_2"), (512, "conv_9"), (1024, "conv_14")])
def test_a_separable_layer_costs_a_share_that_follows_from_kernel_and_channels(channels, depth):
    trunk = create_trunk("mobilenet")
    layer = nn.Sequential(*trunk.layers[depth].children())
    depthwise, pointwise = (found for found in layer if isinstance(found, nn.Conv2d))
    cells = trunk.layout.maps[depth][1] ** 2
    separated = cells * (depthwise.weight.numel() + pointwise.weight.numel())
    standard = cells * 9 * depthwise.in_channels * channels
    assert separated / standard == pytest.approx(1 / channels + 1 / 9)


def test_xception_has_the_published_count_of_numbers():
    cost = measure_cost("xception").trunk
    assert cost.weights + cost.others + 2048 * 1000 + 1000 == 22_855_952


@pytest.mark.parametrize("name", list_trunks())
def test_deeper_costs_more(name):
    depths = list(measure_cost(name).depths.values())
    assert depths == sorted(depths)
    assert depths[0] > 0


def test_a_branch_costs_its_layers():
    own = BranchSpec(
        task="own", kind="softmax", labels=("x", "y"), depths=("conv_12", "conv_14"), stages=((24, 2),), pool=3
    )
    cost = measure_cost("sface", (SPEC, own))
    mood = cost.branches["mood"]
    assert mood.macs == 512 * 4 * 7 + 7 * 3
    assert mood.weights == mood.macs + 7 + 3
    assert mood.others == 7
    assert cost.branches["own"].macs == 49 * (512 * 9 + 512 * 24) + (24 + 1024) * 9 * 2


def test_heads_that_are_off_cost_nothing():
    cost = measure_cost("sface", (SPEC,))
    assert cost.macs(()) == cost.trunk.macs
    assert cost.macs((), identity=False) == 0
    assert cost.macs() == cost.trunk.macs + cost.branches["mood"].macs
    assert cost.macs(identity=False) == cost.depths["conv_12"] + cost.branches["mood"].macs


def test_the_shipped_release_is_one_pass_of_less_than_a_gmac():
    manifest = read_manifest(DEFAULT)
    assert measure_cost(manifest.trunk, manifest.branches).macs() <= 1_000_000_000


@pytest.mark.parametrize(
    ("depth", "classes", "expected"),
    [("conv22", 14, 889_230), ("bn320", 2, 642), ("bn320", 9, 2_889), ("conv19", 7, 1_312_967)],
)
def test_face24_relearns_the_parameters_of_the_paper(depth, classes, expected):
    assert measure_cost("face24", (relearnt(depth, classes),)).branches["relearnt"].weights == expected


def relearnt(depth, classes):
    """Return a branch as in the paper: the layers behind a depth up to bn320, and one fully connected layer."""
    last = "bn320" if depth != "bn320" else None
    labels = tuple(map(str, range(classes)))
    return BranchSpec(task="relearnt", kind="softmax", labels=labels, depths=(depth,), relearnt_to=last)


def test_face24_relearns_after_conv19_as_printed_but_for_conv21():
    found = measure_cost("face24", (relearnt("conv19", 7),)).branches["relearnt"]
    conv21 = 256 * 128 * 9
    assert found.weights - conv21 == 1_018_055


def test_relearnt_layers_cost_what_the_trunks_cost():
    cost = measure_cost("sface", (replace(SPEC, depths=("conv_12",), relearnt_to="conv_14"),))
    assert cost.branches["mood"].macs == cost.depths["conv_14"] - cost.depths["conv_12"] + 1024 * 4 * 7 + 7 * 3
    assert cost.macs(identity=False) == cost.depths["conv_12"] + cost.branches["mood"].macs
