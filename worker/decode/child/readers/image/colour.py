"""Converts Pillow images of any mode to eight-bit RGB."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

BACKGROUND = (255, 255, 255)  # transparent images are shown on white, as most viewers do


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in mode RGB: CMYK by its profile, transparency on white."""
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode == "LAB":
        return _transformed(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if image.has_transparency_data:
        return _on_background(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    try:
        return _transformed(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError):
        # a damaged profile does not describe the inks; the plain conversion has the right hues
        return image.convert("RGB")


def _transformed(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    transformed = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    assert transformed is not None  # noqa: S101  # None only where the image is changed in place
    return transformed


def _on_background(image: Image.Image) -> Image.Image:
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = Image.new("RGB", image.size, BACKGROUND)
    canvas.paste(layer, mask=layer)
    return canvas
