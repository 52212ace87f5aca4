"""Rectangles of high response, and their mean over faces, by hand."""

from __future__ import annotations

import pytest
import torch

from models.trunks.receptive_fields import ReceptiveField
from training.errors import RecipeError
from training.joint.regions import average_regions, rectangles
from training.recipes.joint import RegionSearch

FIELD, SIDE = ReceptiveField(-15, 31, 8), 112


def responses(*places, cells=14):
    """Return a map with a response of 10 at some (row, column), and small ones elsewhere."""
    found = torch.rand(cells, cells, generator=torch.Generator().manual_seed(0))
    for row, column in places:
        found[row, column] = 10.0
    return found


def test_one_place_gives_the_rectangle_that_it_sees():
    found = rectangles(responses((5, 7))[None, None], FIELD, SIDE, 0.8)
    assert found.tolist() == [[list(map(float, FIELD.rectangle(5, 7, SIDE)))]]


def test_all_places_of_high_response_lie_in_the_rectangle():
    each = torch.stack([responses((5, 7), (9, 2)), responses((0, 13))])[None]
    found = rectangles(each, FIELD, SIDE, 0.8)
    left, right = FIELD.rectangle(9, 2, SIDE), FIELD.rectangle(5, 7, SIDE)
    assert found[0, 0].tolist() == [left[0], right[1], right[2], left[3]]
    assert found[0, 1].tolist() == list(FIELD.rectangle(0, 13, SIDE))


def test_a_lower_threshold_takes_more_places():
    found = responses((5, 7))
    found[2, 2] = 6.0
    high, low = (rectangles(found[None, None], FIELD, SIDE, threshold)[0, 0] for threshold in (0.8, 0.5))
    assert high.tolist() == list(FIELD.rectangle(5, 7, SIDE))
    assert low[:2].tolist() == list(FIELD.rectangle(2, 2, SIDE)[:2])
    assert low[2:].tolist() == high[2:].tolist()


def test_a_flat_map_belongs_whole_and_the_greatest_always():
    assert rectangles(torch.zeros(1, 1, 14, 14), FIELD, SIDE, 1.0)[0, 0].tolist() == [0, 0, SIDE, SIDE]
    found = responses((5, 7)) / 3
    assert rectangles(found[None, None], FIELD, SIDE, 1.0)[0, 0].tolist() == list(FIELD.rectangle(5, 7, SIDE))


def test_a_region_is_the_mean_of_the_faces_with_the_label():
    found = torch.tensor([[[0, 0, 10, 20]] * 3, [[4, 2, 13, 30]] * 3, [[9, 9, 99, 99]] * 3], dtype=torch.float32)
    targets = torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert average_regions(found, targets, SIDE).tolist() == [[2, 1, 12, 25], [0, 0, 10, 20], [0, 0, SIDE, SIDE]]


def test_a_search_without_steps_faces_or_threshold_is_refused():
    for options in ({"first_steps": 0}, {"first_steps": 5, "faces": 0}, {"first_steps": 5, "threshold": 1.2}):
        with pytest.raises(RecipeError, match="regions need"):
            RegionSearch(**options)
