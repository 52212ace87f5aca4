"""Places are found on every trunk, or refused with a sentence."""

from __future__ import annotations

import pytest

from models.trunks.registry import layout_of, list_trunks
from training.errors import RecipeError
from training.recipes.places import FINER_MAP, FIRST_FINER_MAP, FIRST_MAP, LAST_MAP, largest_pool, resolve
from training.recipes.recipe import RECIPES

# By trunk: first map, last finer map, last map, and two layers before the last one.
PLACES = {
    "sface": ("conv_1", "conv_12", "conv_14", "conv_12"),
    "face24": ("conv1", "conv19", "conv23", "conv21"),
    "face24-r112": ("conv1", "conv19", "conv23", "conv21"),
    "dlib29": ("conv_1", "conv_27", "conv_29", "conv_25"),
    "resnet18": ("stem", "layer3", "layer4", "layer2"),
    "resnet50": ("stem", "layer3", "layer4", "layer2"),
    "mobilenet": ("conv_1", "conv_12", "conv_14", "conv_12"),
    "mobilenet_v2": ("features_0", "features_13", "features_18", "features_16"),
    "densenet121": ("stem", "denseblock3", "denseblock4", "denseblock3"),
    "vgg19_bn": ("block1", "block4", "block5", "block3"),
    "xception": ("stem", "block11", "exit", "block11"),
    "efficientnet_lite0": ("stem", "block10", "head", "block14"),
    "mobilenet_v3": ("features_0", "features_12", "features_16", "features_14"),
}


def test_every_trunk_is_among_these():
    assert set(list_trunks()) <= set(PLACES)


@pytest.mark.parametrize(("name", "expected"), PLACES.items())
def test_places_are_found_on_every_trunk(name, expected):
    places = (FIRST_MAP, FINER_MAP, LAST_MAP, f"2 before {LAST_MAP}")
    assert tuple(resolve(place, layout_of(name)) for place in places) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sface", "conv_7"),
        ("face24", "conv9"),
        ("dlib29", "conv_23"),
        ("resnet18", "layer3"),
        ("mobilenet_v3", "features_7"),
    ],
)
def test_the_first_finer_map_has_as_many_cells_as_the_last(name, expected):
    assert resolve(FIRST_FINER_MAP, layout_of(name)) == expected


def test_places_that_are_one_depth_are_read_once():
    head = RECIPES["regions"].heads[0]
    assert head.on(layout_of("sface")).spec.depths == ("conv_7", "conv_12", "conv_14")
    assert head.on(layout_of("resnet18")).spec.depths == ("layer3", "layer4")


def test_a_map_of_some_cells_and_a_name_are_places():
    assert resolve("last 14x14 map", layout_of("face24")) == "conv19"
    assert resolve("last 14x14 map", layout_of("sface")) == "conv_12"
    assert resolve("last 28x28 map", layout_of("sface")) == "conv_6"
    assert resolve("bn320", layout_of("face24")) == "bn320"
    assert resolve("embedding", layout_of("dlib29")) == "embedding"


@pytest.mark.parametrize(
    ("place", "trunk", "message"),
    [
        ("last 14x14 map", "dlib29", r"no depth 'last 14x14 map': its maps have 35x35, 17x17, 8x8, 4x4, 2x2 cells"),
        ("conv_14", "face24", r"no depth 'conv_14'.* its depths are conv1, .*fc, embedding; choose one of them"),
        ("9 before layer1", "resnet18", "no depth '9 before layer1'"),
        ("last 14x28 map", "sface", "no depth 'last 14x28 map'"),
    ],
)
def test_a_place_that_a_trunk_lacks_is_refused(place, trunk, message):
    with pytest.raises(RecipeError, match=message):
        resolve(place, layout_of(trunk))


def test_no_grid_is_finer_than_the_coarsest_map():
    layout = layout_of("dlib29")
    assert largest_pool(("conv_29", "conv_27"), layout, 4) == 2
    assert largest_pool(("conv_27",), layout, 3) == 3
    assert largest_pool(("embedding",), layout, 3) == 3


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", PLACES)
def test_every_recipe_fits_every_trunk(recipe, name):
    layout = layout_of(name)
    resolved = RECIPES[recipe].on(layout)
    assert resolved.on(layout) == resolved
    for head in resolved.heads:
        head.spec.check_fits(layout)
        maps = [head.spec.relearnt_to, *head.spec.depths[1:]] if head.spec.relearnt_to else head.spec.depths
        assert all(min(layout.maps[depth][1:]) >= head.spec.pool for depth in maps if depth != "embedding")


def test_the_shipped_recipe_leaves_sface_where_it_did():
    depths = {head.spec.task: head.spec.depths for head in RECIPES["default"].on(layout_of("sface")).heads}
    assert depths == {
        **dict.fromkeys(("gender", "age", "ethnicity"), ("conv_14",)),
        **dict.fromkeys(("emotion", "emotion7", "attributes"), ("conv_12", "conv_14")),
    }
