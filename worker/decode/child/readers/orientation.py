"""The eight EXIF orientations, and how the display matrix of a video maps to them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av import VideoFrame
    from numpy.typing import NDArray

UPRIGHT = 1
# By orientation: the axes to flip, after 5 to 8 have been transposed.
_FLIPS = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
# Signs of a, b, c, d in ``x' = a x + c y, y' = b x + d y``, y downwards.
_BY_MATRIX = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


def swaps_sides(orientation: int) -> bool:
    """Return whether width and height are exchanged."""
    return orientation >= 5


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn (H, W, 3) pixels upright from EXIF orientation 1..8; the result is contiguous."""
    if swaps_sides(orientation):
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(np.flip(pixels, _FLIPS.get(orientation, ())))


def from_display_matrix(raw: bytes) -> int:
    """Return the EXIF orientation of FFmpeg's display matrix; oblique angles are rounded to right angles.

    Args:
        raw: nine little-endian int32, row by row.
    """
    a, b, _, c, d, *_ = struct.unpack("<9i", raw[:36])
    scale = max(abs(a), abs(b), abs(c), abs(d), 1)
    signs = tuple(int(np.sign(value)) if abs(value) * 2 > scale else 0 for value in (a, b, c, d))
    return _BY_MATRIX.get(signs, UPRIGHT)  # type: ignore[arg-type]


def of_frame(frame: VideoFrame) -> int:
    """Return the EXIF orientation of a frame's display matrix.

    Do not call it for every frame: reading side data makes a frame refer to itself, so that it stays until the next
    garbage collection. PyAV refuses to list side data of unknown kinds, such as those of spatial videos; then only the
    angle is known, and a mirrored image stays mirrored.
    """
    try:
        known: Any = frame.side_data  # its published type knows fewer kinds than it holds
        return from_display_matrix(bytes(known["DISPLAYMATRIX"])) if "DISPLAYMATRIX" in known else UPRIGHT
    except ValueError:
        return from_rotation(frame.rotation)


def from_rotation(degrees: int) -> int:
    """Return the EXIF orientation of an image that has to be rotated counterclockwise by this angle."""
    return (UPRIGHT, 8, 3, 6)[round(degrees / 90) % 4]
