"""Converts images of more than eight bits whose values use a part of the scale, such as 12 bits stored in 16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from worker.decode import opened
from worker.decode.child.readers.image.samples import Samples, to_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

WIDE_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})  # one channel, more than eight bits
DEEP_FORMATS = frozenset({"PNG", "PPM", "JPEG2000"})  # Pillow reduces their colours to eight bits
DARKEST_TOP = 64  # brightest value, of 255, up to which the image may lie in the lower bits: 14 bits in 16
PNG_DEPTH = 24  # offset of the bit depth in a PNG file


def deep_image(image: Image.Image, location: str) -> Image.Image | None:
    """Return an eight-bit image from the deep samples of a file; None where Pillow's conversion is right."""
    if image.mode in WIDE_MODES:
        return to_image(_from_grey(image, location))
    if image.format not in DEEP_FORMATS or image.mode not in {"RGB", "RGBA", "LA"} or getattr(image, "n_frames", 1) > 1:
        return None
    colours = image.convert("RGB") if image.mode != "RGB" else image
    if max(high for _, high in colours.getextrema()) > DARKEST_TOP:  # type: ignore[misc]
        return None
    deep = _deep_colours(location)
    return None if deep is None else to_image(deep)


def _from_grey(image: Image.Image, location: str) -> Samples:
    values = np.asarray(image)[..., None]
    if image.mode != "F" and values.min(initial=0) >= 0 and values.max(initial=0) < 1 << 16:
        return Samples(values=values.astype(np.uint16), bits=16, colour="grey", top=_significant_top(location))
    return Samples(values=values, bits=32, colour="grey")


def _significant_top(location: str) -> int | None:
    """Return the largest value of the original samples of a PNG (sBIT); None where it is not stated."""
    head = opened.head(location, 4096)
    if not head.startswith(b"\x89PNG") or head[PNG_DEPTH] != 16:
        return None
    place = head.find(b"sBIT", 0, head.find(b"IDAT") + 1 or None)
    bits = head[place + 4] if 0 < place < len(head) - 4 else 16
    return 2**bits - 1 if 8 <= bits < 16 else None


def _deep_colours(location: str) -> Samples | None:
    """Read the colours with all bits; None where the file has no more than eight."""
    head = opened.head(location, PNG_DEPTH + 1)
    if head.startswith(b"\x89PNG") and head[PNG_DEPTH] != 16:
        return None
    with opened.independent_reader(location) as file:
        packed = np.frombuffer(file.read(), np.uint8)
    try:
        values: NDArray[Any] | None = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED)
    except cv2.error as err:
        if err.code == cv2.Error.StsNoMem:
            raise MemoryError(str(err)) from err
        return None
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[2] not in {3, 4}:
        return None
    has_alpha = values.shape[2] == 4
    channels = [2, 1, 0, 3] if has_alpha else [2, 1, 0]
    return Samples(
        values=values[..., channels],
        bits=16,
        colour="rgb",
        alpha="straight" if has_alpha else "none",
        top=_significant_top(location),
    )
