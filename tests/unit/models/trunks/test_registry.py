"""Every registered trunk keeps to its layout and its name."""

from __future__ import annotations

import functools

import pytest
import torch

from models.errors import ReleaseError
from models.trunks.base import EMBEDDING_DEPTH, Tail, Trunk, TrunkName, register_trunk
from models.trunks.face24 import Face24
from models.trunks.registry import create_trunk, layout_of, list_trunks

OWN = ("sface", "dlib29", "face24", "mobilenet")
AVERAGED = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3", "densenet121", "vgg19_bn", "xception")
LITE = "efficientnet_lite0"
# A member of each family; of those that classify images, with small crops.
MEMBERS = [*OWN[:3], *(f"{family}-r64" for family in ("mobilenet", *AVERAGED, LITE))]


def crops(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(7)).to(torch.uint8)


@functools.cache
def made(name: str) -> Trunk:
    """Return a trunk that tests read only: the weights of large ones take a second to draw."""
    torch.manual_seed(3)
    return create_trunk(name).eval()


def test_the_registry_names_its_trunks():
    assert set(list_trunks()) == {*OWN, *AVERAGED, LITE}
    assert {TrunkName.parse(name).family for name in MEMBERS} == set(list_trunks())


@pytest.mark.parametrize(
    "name",
    [
        *MEMBERS,
        *("sface-w0.5-r96", "dlib29-w0.75-r129", "face24-w0.25-r116", "mobilenet-w0.25-r112"),
        *(f"{family}-r112" for family in ("resnet18", "densenet121", "vgg19_bn", LITE)),
        *("resnet18", "mobilenet_v3"),
    ],
)
@torch.no_grad()
def test_the_maps_of_a_trunk_have_the_shapes_of_its_layout(name):
    trunk, layout = made(name), layout_of(name)
    found = trunk.forward_intermediates(crops(2, layout.side), layout.depths)
    assert {depth: tuple(x.shape[1:]) for depth, x in found.items()} == {
        **layout.maps,
        EMBEDDING_DEPTH: (layout.embedding_size,),
    }
    assert list(trunk.layers) == list(layout.maps)
    embeddings = trunk(crops(2, layout.side))
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.equal(trunk.embed(found[layout.last_map]), embeddings)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_trunk_stops_at_the_deepest_depth(name):
    trunk = made(name)
    names = list(trunk.layers)
    hook = trunk.layers[names[2]].register_forward_hook(lambda *_: pytest.fail("ran deeper than asked"))
    found = trunk.forward_intermediates(crops(1, trunk.layout.side), names[:2])
    hook.remove()
    assert list(found) == names[:2]
    assert trunk.forward_intermediates(crops(1, trunk.layout.side), ()) == {}


@pytest.mark.parametrize("name", MEMBERS)
def test_an_unknown_depth_is_refused(name):
    with pytest.raises(ValueError, match="unknown depth 'conv_99'"):
        made(name).forward_intermediates(crops(1, layout_of(name).side), ("conv_99",))


@pytest.mark.parametrize("name", MEMBERS)
def test_landmarks_lie_in_the_crop(name):
    layout = layout_of(name)
    assert len(layout.template) == 5
    assert all(0.2 * layout.side < value < 0.9 * layout.side for point in layout.template for value in point)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg16", "this program has densenet121, dlib29"),
        ("SFace!", "expected FAMILY"),
        ("sface-r100", "multiple of 16"),
        ("dlib29-r100", "at least 113"),
        ("face24-r111", "multiple of 4"),
        ("resnet18-w0.5", "no width multiplier, got 0.5"),
        ("xception-w2", "no width multiplier, got 2"),
        ("mobilenet_v3-r100", "multiple of 16 pixels, got 100"),
    ],
)
def test_an_impossible_trunk_is_refused(name, message):
    with pytest.raises(ReleaseError, match=message):
        layout_of(name)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="registered already"):
        register_trunk("sface")(Face24)


def test_names_hold_width_side_and_weights():
    assert TrunkName.parse("face24-w0.5-r112-run3") == TrunkName("face24", 0.5, 112, "run3")
    assert TrunkName.parse("sface-2021dec") == TrunkName("sface", weights="2021dec")
    assert TrunkName("x", 0.5).channels(320) == 160
    assert TrunkName("x", 0.3).channels(32) == 8
    assert TrunkName("x").channels(3) == 3


@pytest.mark.parametrize("name", [*MEMBERS, "face24-w0.25-r100", "sface-w0.5-r96"])
@torch.no_grad()
def test_copied_layers_behind_every_depth_give_the_last_map(name):
    trunk = made(name)
    layout = trunk.layout
    found = trunk.forward_intermediates(crops(1, layout.side), tuple(layout.maps))
    few = name.endswith("-r64") or layout.side == 224
    for depth in list(layout.maps)[-3:-1] if few else list(layout.maps)[:-1]:
        tail = Tail(layout, depth, layout.last_map).eval()
        tail.copy_from(trunk)
        read = [found[each] for each in layout.read_behind(depth)]
        assert torch.allclose(tail(read[0], read[-1]), found[layout.last_map], atol=1e-5), depth


def test_layers_of_the_same_shape_have_weights_of_their_own():
    trunk = made("face24-w0.25-r32")
    tail = Tail(trunk.layout, "conv22", "fc")
    assert list(tail.layers) == ["conv23", "bn320", "fc"]
    assert not torch.equal(tail.layers["fc"].weight, trunk.layers["fc"].weight)
    tail.copy_from(trunk)
    trunk.layers["fc"].weight.data.zero_()
    assert float(tail.layers["fc"].weight.detach().abs().sum()) > 0


@pytest.mark.parametrize(
    ("depth", "last", "message"),
    [
        ("fc", "fc", "no layer lies behind depth 'fc' up to 'fc'"),
        ("conv9", "conv8", "no layer lies behind"),
        ("embedding", "fc", "'embedding' has no map"),
        ("conv1", "conv_9", "'conv_9' has no map"),
    ],
)
def test_nothing_lies_behind_the_last_layer(depth, last, message):
    with pytest.raises(ValueError, match=message):
        Tail(layout_of("face24-w0.25-r100"), depth, last)
