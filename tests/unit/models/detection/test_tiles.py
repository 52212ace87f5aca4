"""Tiles cover a large frame within a budget, and each face is reported by the tile that holds it whole."""

from __future__ import annotations

import itertools

import pytest
import torch

from models.detection.tiles import BORDER, COARSER, MAX_FACE, OVERLAP, Grid, plan
from models.types import Detections

SIDE = 1600


@pytest.mark.parametrize("budget", [3, 8, 30, 64])
@pytest.mark.parametrize("size", [(1700, 900), (900, 4000), (4000, 6000), (9000, 9000), (1, 7000), (3100, 3100)])
def test_tiles_cover_the_frame_and_overlap(size, budget):
    grids = plan(*size, SIDE, budget)
    assert sum(map(len, grids)) <= budget
    for grid in grids:
        for length, starts, span in zip(size, (grid.tops, grid.lefts), grid.size, strict=True):
            scaled = max(1, round(length * grid.scale))
            assert (starts[0], starts[-1] + span) == (0, scaled)
            assert span <= SIDE
            assert span % 64 == 0 or span == scaled
            assert all(one + span - other >= OVERLAP for one, other in itertools.pairwise(starts))
    assert all(coarse.scale == fine.scale / 4 for fine, coarse in itertools.pairwise(grids))


def test_a_frame_of_the_size_of_a_tile_has_none():
    assert plan(SIDE, SIDE, SIDE, 64) == ()
    assert [len(grid) for grid in plan(SIDE, SIDE + 1, SIDE, 64)] == [2]
    assert plan(SIDE, SIDE + 1, SIDE, 1) == ()


def test_tiles_are_as_fine_as_the_budget_allows():
    assert [(grid.scale, len(grid)) for grid in plan(4000, 6000, SIDE, 64)] == [(1.0, 15)]
    assert [(grid.scale, len(grid)) for grid in plan(4000, 9000, SIDE, 64)] == [(1.0, 21), (0.25, 2)]
    (grid,) = plan(4000, 6000, SIDE, 14)
    scales = [COARSER**n for n in range(100)]
    coarser = [scale for scale in scales if scale > grid.scale]
    assert len(grid) <= 14
    assert coarser
    assert all(len(plan(round(4000 * scale), round(6000 * scale), SIDE, 99)[0]) > 14 for scale in coarser)


def test_tiles_are_no_larger_than_they_must_be():
    (grid,) = plan(1000, 1700, SIDE, 9)
    assert (grid.tops, grid.lefts, grid.size) == ((0,), (0, 740), (1000, 960))
    (grid,) = plan(300, 4000, SIDE, 9)
    assert (grid.lefts, grid.size) == ((0, 1264, 2528), (300, 1472))


def test_a_tile_shows_its_part_of_the_frame():
    pixels = torch.arange(5 * 7).reshape(1, 1, 5, 7)
    tiles = Grid(1.0, (0, 2), (0, 1, 3), (3, 4)).cut(pixels)
    assert tiles.shape == (6, 1, 3, 4)
    assert torch.equal(tiles[5], pixels[0, :, 2:5, 3:7])
    assert torch.equal(tiles[1], pixels[0, :, 0:3, 1:5])


def merged(*faces, scale=1.0):
    """Merge boxes of tiles of 400 x 300 pixels, two rows and two columns; each face is a tile and a box."""
    grid = Grid(scale, (0, 100), (0, 200), (300, 400))
    boxes = torch.tensor([box for _, box in faces], dtype=torch.float32)
    landmarks = boxes[:, None, :2].repeat(1, 5, 1)
    found = Detections(torch.tensor([tile for tile, _ in faces]), boxes, landmarks, torch.ones(len(faces)))
    return grid.merge(found, (400, 600))


def test_faces_of_tiles_lie_in_the_frame():
    found = merged((0, (10, 20, 50, 60)), (3, (50, 40, 90, 80)), scale=0.5)
    assert found.frame.tolist() == [0, 0]
    assert found.boxes.tolist() == [[20, 40, 100, 120], [500, 280, 580, 360]]
    assert found.landmarks[:, 4].tolist() == [[20, 40], [500, 280]]


@pytest.mark.parametrize(
    ("tile", "box", "whole"),
    [
        (0, (0, 0, 40, 40), True),  # at the border of the frame
        (3, (360, 260, 400, 300), True),
        (1, (BORDER, 60, 60, 100), True),
        (1, (BORDER - 1, 60, 60, 100), False),  # may be cut on its left
        (2, (60, BORDER, 90, 70), True),
        (2, (60, BORDER - 1, 90, 70), False),
        (0, (300, 60, 400 - BORDER, 100), True),
        (0, (300, 60, 401 - BORDER, 100), False),
        (0, (60, 200, 100, 300 - BORDER), True),
        (0, (60, 200, 100, 301 - BORDER), False),
        (0, (20, 20, 20 + MAX_FACE, 60), True),
        (0, (20, 20, 60, 21 + MAX_FACE), False),  # the coarser grid finds it
    ],
)
def test_a_face_that_may_be_cut_or_is_large_is_left_to_another_tile(tile, box, whole):
    assert len(merged((tile, box))) == whole


def test_a_face_is_whole_in_a_tile_if_it_is_small():
    assert (OVERLAP, MAX_FACE, BORDER) == (192, 160, 8)
    assert MAX_FACE + 2 * BORDER < OVERLAP
