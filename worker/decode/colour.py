"""Turns what Pillow decodes, in any of its modes, into eight-bit RGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

BACKGROUND = (255, 255, 255)
"""Transparent pictures are shown on white, as most viewers do."""
WIDE_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
"""One channel, more than eight bits."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the picture in mode RGB: profiles of CMYK honoured, deep grey scaled, transparency on white."""
    if image.mode in WIDE_MODES:
        return _from_wide_grey(image)
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode == "LAB":
        return _transformed(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if image.has_transparency_data:
        return _on_background(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_wide_grey(image: Image.Image) -> Image.Image:
    """Scale to eight bits by the range that the values show: 1, 255, 65535, else their own."""
    values = np.array(image, dtype=np.float32)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    else:
        ranges = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        top = next((top for top in ranges if low >= 0 and high <= top), None)
        low, high = (low, high) if top is None else (0.0, top)
    values -= low  # in place: these pictures are large
    values *= 255.0 / max(high - low, 1e-6)
    return Image.fromarray(np.rint(values, out=values).astype(np.uint8)).convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    try:
        return _transformed(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError):
        # a broken profile says nothing about the inks; the plain conversion is right in hue
        return image.convert("RGB")


def _transformed(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    transformed = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    assert transformed is not None  # noqa: S101  # None only where the picture is changed in place
    return transformed


def _on_background(image: Image.Image) -> Image.Image:
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = Image.new("RGB", image.size, BACKGROUND)
    canvas.paste(layer, mask=layer)
    return canvas
