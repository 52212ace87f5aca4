"""Boxes are turned as pixels are, under all orientations, and regions of other programs are matched with faces."""

from __future__ import annotations

import numpy as np
import pytest

from worker.decode.child.readers.orientation import upright
from worker.pictures.regions.boxes import RegionBox, match_boxes, overlap, to_shown, to_stored

STORED = RegionBox(0.25, 0.125, 0.125, 0.5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_turned_as_the_pixels_are(orientation):
    pixels = np.zeros((80, 40, 3), np.uint8)
    pixels[10:50, 10:15] = 255  # STORED, in an image of 40 x 80 pixels
    shown = upright(pixels, orientation)
    height, width, _ = shown.shape
    rows, columns = np.nonzero(shown[..., 0])
    found = RegionBox(
        columns.min() / width, rows.min() / height, (np.ptp(columns) + 1) / width, (np.ptp(rows) + 1) / height
    )
    turned = to_shown(STORED, orientation)
    assert [turned.left, turned.top, turned.width, turned.height] == pytest.approx(
        [found.left, found.top, found.width, found.height]
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_comes_back(orientation):
    back = to_stored(to_shown(STORED, orientation), orientation)
    assert [back.left, back.top, back.width, back.height] == pytest.approx([0.25, 0.125, 0.125, 0.5])


def test_overlap_is_intersection_over_union():
    one = RegionBox(0, 0, 0.4, 0.2)
    assert overlap(one, RegionBox(0.2, 0, 0.4, 0.2)) == pytest.approx(1 / 3)
    assert overlap(one, RegionBox(0.5, 0, 0.4, 0.2)) == 0


def test_a_region_goes_to_the_face_that_it_overlaps_most():
    faces = [RegionBox(0.1, 0.1, 0.2, 0.2), RegionBox(0.2, 0.1, 0.2, 0.2)]
    regions = [RegionBox(0.19, 0.1, 0.2, 0.2), RegionBox(0.11, 0.1, 0.2, 0.2), RegionBox(0.7, 0.7, 0.1, 0.1)]
    assert match_boxes(regions, faces) == {0: 1, 1: 0}


def test_a_large_region_goes_to_the_only_face_in_it():
    face, region = RegionBox(0.4, 0.4, 0.1, 0.1), RegionBox(0.33, 0.3, 0.25, 0.25)
    assert overlap(region, face) < 0.3
    assert match_boxes([region], [face]) == {0: 0}
    assert match_boxes([region], [face, RegionBox(0.44, 0.45, 0.1, 0.1)]) == {}
    assert match_boxes([region, RegionBox(0.32, 0.31, 0.25, 0.25)], [face]) == {}
    assert match_boxes([RegionBox(0, 0, 1, 1)], [face]) == {}


def test_a_region_beside_a_face_is_none_of_it():
    assert match_boxes([RegionBox(0.5, 0.4, 0.1, 0.1)], [RegionBox(0.4, 0.4, 0.1, 0.1)]) == {}
    assert match_boxes([], [RegionBox(0.4, 0.4, 0.1, 0.1)]) == match_boxes([RegionBox(0, 0, 0.1, 0.1)], []) == {}
