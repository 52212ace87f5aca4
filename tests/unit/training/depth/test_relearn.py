"""The depth search with relearnt layers: real branches, trained for each fold on the maps of a small trunk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.cost import measure_cost
from models.trunks.registry import create_trunk
from training.depth.folds import Folds
from training.depth.grid import Grid, GridProgress, Relearning, SearchOptions, Settings, winner_table, winning
from training.depth.relearn import check_relearning, recipe_at, relearn_set
from training.errors import RecipeError
from training.fit.features import Features, ready, run_trunk
from training.recipes.recipe import find

NAME, COUNT, SIDE = "face24-w0.25-r32", 160, 32
RELEARNING = Relearning(depths=("conv19", "bn320", "embedding"), last="bn320", epochs=40, patience=40)


class Context:
    """A trunk with random weights, and faces whose brightness is their gender and their age."""

    def __init__(self, faces):
        torch.manual_seed(0)
        self.trunk = ready(create_trunk(NAME), torch.device("cpu"))
        noise = np.random.default_rng(0).integers(0, 40, (len(faces), 3, SIDE, SIDE))
        self.pixels = (noise + 150 * faces.gender[:, None, None, None]).astype(np.uint8)
        self.asked = []

    def features(self, faces, taps, *, mirror=True):
        assert len(faces) == len(self.pixels)
        self.asked.append(tuple(tap.depth for tap in taps))
        plain, mirrored = (
            {tap: found.permute(0, 2, 3, 1).numpy().astype(np.float16) for tap, found in maps.items()}
            for maps in (run_trunk(self.trunk, crops, taps) for crops in self._both())
        )
        return {tap: Features(plain=plain[tap], mirrored=mirrored[tap]) for tap in taps}

    def _both(self):
        crops = torch.from_numpy(self.pixels)
        return crops, crops.flip(3)


def search(faces, context, path):
    options = SearchOptions(tasks=("gender", "age"), folds=2, faces=COUNT, relearning=RELEARNING)
    progress = GridProgress(path, Settings(NAME, context.trunk.layout.depths, options))
    relearn_set(context, [Folds.of(task, faces, options) for task in options.tasks], faces, progress)
    return Grid(progress.settings, tuple(progress.cells))


def test_layers_behind_each_depth_learn_and_are_scored_on_other_faces(random_people, tmp_path):
    faces = random_people(train=COUNT, val=0)
    context = Context(faces)
    grid = search(faces, context, tmp_path / "cells.jsonl")
    assert [(cell.task, cell.depth, len(cell.scores)) for cell in grid.cells] == [
        (task, depth, 2) for depth in RELEARNING.depths for task in ("gender", "age")
    ]
    assert grid.of("gender")[0].mean > 0.9, "brightness is seen behind conv19"
    for cell in grid.of("gender"):
        spec = recipe_at("gender", cell.depth, RELEARNING, context.trunk.layout).spec
        assert cell.features == measure_cost(NAME, (spec,)).branches["gender"].weights
    assert grid.searched == ("conv19", "bn320", "embedding")
    assert "| weights |" in winner_table(grid)
    asked = len(context.asked)
    assert search(faces, context, tmp_path / "cells.jsonl") == grid
    assert len(context.asked) == asked, "finished cells are not searched again"


def test_layers_are_relearnt_only_where_some_lie_behind_the_depth():
    layout = create_trunk(NAME).layout
    specs = {depth: recipe_at("age", depth, RELEARNING, layout).spec for depth in RELEARNING.depths}
    assert {depth: spec.relearnt_to for depth, spec in specs.items()} == {
        "conv19": "bn320",
        "bn320": None,
        "embedding": None,
    }
    for spec in specs.values():
        spec.check_fits(layout)


def test_the_winners_of_relearnt_layers_make_a_recipe_that_relearns(random_people, tmp_path):
    faces = random_people(train=COUNT, val=0)
    grid = search(faces, Context(faces), tmp_path / "cells.jsonl")
    spec = winning(find("frozen"), grid).head("gender").spec
    winner = grid.winner("gender")
    assert spec.depths == (winner.depth,)
    assert spec.relearnt_to == ("bn320" if winner.depth == "conv19" else None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": ("conv_14",)}, "no depth 'conv_14' in this trunk, expected one of conv1, "),
        ({"last": "embedding"}, "up to a map"),
    ],
)
def test_depths_that_a_trunk_lacks_are_refused(wrong, message):
    with pytest.raises(RecipeError, match=message):
        check_relearning(replace(RELEARNING, **wrong), create_trunk(NAME).layout)
