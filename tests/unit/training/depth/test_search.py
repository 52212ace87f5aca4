"""Depth search: exact probes, folds that keep people together, winners, and a search that goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.depth import grid as depth_grid
from training.depth.folds import SCORES
from training.depth.grid import Cell, Grid, GridProgress, SearchOptions, Settings
from training.depth.probes import TEST, ProbeOptions, ProbeTarget, assign_folds, cross_validate, kernel, roles
from training.errors import RecipeError
from training.fit.losses import one_hot
from training.recipes.recipe import find

OPTIONS = SearchOptions(tasks=("gender", "age"), folds=3, faces=50)
SETTINGS = Settings("sface", ("conv_1", "conv_2", "embedding"), OPTIONS)


def cell(task, depth, pool, features, *scores):
    return Cell(task, depth, pool, features, scores)


GRID = Grid(
    SETTINGS,
    (
        cell("gender", "embedding", 1, 128, 0.80, 0.82, 0.84),
        cell("gender", "conv_2", 2, 256, 0.89, 0.90, 0.88),
        cell("gender", "conv_1", 3, 288, 0.70, 0.70, 0.70),
        cell("gender", "conv_2", 1, 64, 0.885, 0.895, 0.885),
        cell("age", "conv_1", 1, 32, -6.0, -6.1, -5.9),
        cell("age", "conv_2", 1, 64, -5.0, -5.0, -5.0),
        cell("age", "embedding", 1, 128, -7.0, -7.0, -7.0),
    ),
)


def test_people_stay_in_one_fold():
    people = np.array([3, 3, 5, 5, 5, 7, 8, 9, 9])
    fold = assign_folds(9, 3, 0, people)
    assert all(len(set(fold[people == person])) == 1 for person in people)
    assert set(fold.tolist()) == {0, 1, 2}


def test_every_row_is_scored_by_exactly_one_fold():
    found = roles(assign_folds(40, 4, 1), 4, 1)
    assert (found == TEST).sum(axis=0).tolist() == [1] * 40


@pytest.mark.parametrize("linear", [True, False])
def test_probes_find_a_signal_and_none_in_noise(linear):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    features = random.normal(size=(300, 1, 1, 16)).astype(np.float16)
    noise = features.copy()
    features[..., 0] += 3 * labels[:, None, None]
    options = ProbeOptions(linear=linear)
    soft, fold_roles = one_hot(torch.from_numpy(labels), 2), roles(assign_folds(300, 3, 0), 3, 0)
    wanted = ProbeTarget(soft, SCORES["softmax"])
    (found,), (nothing, again) = (
        cross_validate(kernel(x, options), each, fold_roles, options)
        for x, each in ((features, [wanted]), (noise, [wanted] * 2))
    )
    assert nothing == again
    assert min(found) > 0.85
    assert np.mean(nothing) == pytest.approx(0.5, abs=0.15)


def test_the_winner_is_the_simplest_within_one_standard_error():
    assert GRID.best("gender").features == 256
    assert GRID.winner("gender").features == 64
    assert GRID.winner("age").depth == "conv_2"
    assert GRID.best_at("gender", "conv_2").pool == 2


def test_tables_name_every_depth_and_the_winner():
    text = depth_grid.depth_table(GRID)
    assert "| conv_2 | **89.0 ± 1.0 % (2x2)** | **5.00 ± 0.00 (1x1)** |" in text
    assert "| gender | conv_2, 2x2 | 89.0 ± 1.0 % | conv_2, 1x1 | 88.8 ± 0.6 % | 64 |" in depth_grid.winner_table(GRID)
    assert depth_grid.to_csv(GRID).splitlines()[1] == "gender,conv_1,3,288,0.70000,0.00000,3"
    assert depth_grid.from_json(depth_grid.to_json(GRID)) == GRID
    with pytest.raises(RecipeError, match="no grid"):
        depth_grid.from_json("{}")


def test_the_winners_make_a_recipe():
    recipe = depth_grid.winning(find("frozen"), GRID)
    assert (recipe.head("gender").spec.depths, recipe.head("gender").spec.pool) == (("conv_2",), 1)
    assert recipe.head("emotion") == find("frozen").head("emotion")


def test_a_search_goes_on_where_it_was_cut_off(tmp_path):
    path = tmp_path / "cells.jsonl"
    progress = GridProgress(path, SETTINGS)
    for one in GRID.cells[:2]:
        progress.add(one)
    path.write_text(path.read_text()[:-20])
    again = GridProgress(path, SETTINGS)
    assert again.cells == list(GRID.cells[:1])
    again.add(GRID.cells[1])
    assert GridProgress(path, SETTINGS).cells == list(GRID.cells[:2])
    with pytest.raises(RecipeError, match="other settings"):
        GridProgress(path, replace(SETTINGS, trunk="dlib29"))


@pytest.mark.parametrize("wrong", [{"tasks": ("hair",)}, {"folds": 1}, {"faces": 3}])
def test_impossible_searches_are_refused(wrong):
    with pytest.raises(RecipeError, match=r"known are|folds"):
        SearchOptions(**wrong)
