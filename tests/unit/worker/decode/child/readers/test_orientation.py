import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from worker.decode.child.readers.orientation import from_display_matrix, of_frame, swaps_sides, upright

ONE = 1 << 16
PIXELS = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_turn_as_pillow_turns_them(orientation):
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    turned = upright(PIXELS, orientation)
    assert np.array_equal(turned, expected)
    assert turned.flags.c_contiguous
    assert (turned.shape[:2] == (5, 2)) == swaps_sides(orientation)


def shown(x, y, a, b, c, d):
    """Where FFmpeg's display matrix puts the image's point (x, y)."""
    return a * x + c * y, b * x + d * y


@pytest.mark.parametrize(
    "matrix",
    [(s * e, 0, 0, t * e) for e in (1, 3) for s in (1, -1) for t in (1, -1)]
    + [(0, s, t, 0) for s in (1, -1) for t in (1, -1)],
)
def test_a_display_matrix_moves_the_corners_to_where_it_says(matrix):
    a, b, c, d = matrix
    raw = struct.pack("<9i", a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)
    turned = upright(PIXELS, from_display_matrix(raw))
    corners = {(x, y): PIXELS[y * 1, x * 4, 0] for x in (0, 1) for y in (0, 1)}
    moved = {shown(x - 0.5, y - 0.5, a, b, c, d): value for (x, y), value in corners.items()}
    height, width, _ = turned.shape
    for (x, y), value in moved.items():
        assert turned[0 if y < 0 else height - 1, 0 if x < 0 else width - 1, 0] == value


def test_an_oblique_angle_goes_to_the_nearest_right_angle():
    raw = struct.pack("<9i", 5000, 60000, 0, -60000, 5000, 0, 0, 0, 1 << 30)
    assert from_display_matrix(raw) == 6
    assert from_display_matrix(bytes(36)) == 1


class Frame:
    """A frame of PyAV's with side data of its own."""

    def __init__(self, matrix, degrees, *, is_known=True):
        self._sides = {} if matrix is None else {"DISPLAYMATRIX": struct.pack("<9i", *matrix)}
        self._is_known = is_known
        self.rotation = degrees

    @property
    def side_data(self):
        if not self._is_known:
            raise ValueError("29 is not a valid Type")
        return self._sides


def matrix_of(a, b, c, d):
    return (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize(
    ("matrix", "degrees", "orientation"),
    [
        (None, 0, 1),
        (matrix_of(1, 0, 0, 1), 0, 1),
        (matrix_of(0, 1, -1, 0), -90, 6),
        (matrix_of(0, -1, 1, 0), 90, 8),
        (matrix_of(-1, 0, 0, -1), -180, 3),
        (matrix_of(-1, 0, 0, -1), 180, 3),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_side_data_of_an_unknown_kind_leaves_the_rotation(matrix, degrees, orientation, is_known):
    assert of_frame(Frame(matrix, degrees, is_known=is_known)) == orientation
