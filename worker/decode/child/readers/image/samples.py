"""Converts samples of any bit depth to eight-bit images: finds the value of white and the meaning of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from worker.decode.child.readers.image.colour import to_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Colour = Literal["grey", "rgb", "cmyk", "lab", "palette"]
CHANNELS: dict[Colour, int] = {"grey": 1, "rgb": 3, "cmyk": 4, "lab": 3, "palette": 1}

BAND_VALUES = 1 << 22  # converted at a time, so that temporary arrays are small compared with the image
PROBED_VALUES = 1 << 20  # of a floating-point image, to find its range
# Full scales of 8, 10 and 12 bits: a 16-bit image that does not exceed one of them would look black.
NARROW_TOPS = (255, 1023, 4095)
TOP_14 = 16383
# Share of the 14-bit scale that the brightest value must reach: a dark 16-bit image seldom ends just there.
MIN_SHARE_OF_14 = 0.9
FROM_EIGHT = 257  # factor from 8-bit to 16-bit samples
LINEAR_PART = 0.0031308  # upper end of the linear part of the sRGB curve (IEC 61966-2-1)
# Floating-point images whose brightest values lie between 1 and this are scaled by them; above it, 255 is white.
MAX_HIGHLIGHT = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The stored samples of an image, not converted."""

    values: Array
    """(H, W, S) unsigned or signed integers or floating point."""
    bits: int
    """Of one sample, as stated by the file; 12-bit samples are held in 16-bit arrays."""
    colour: Colour
    inverted: bool = False
    """Whether the largest value is black, or no ink."""
    alpha: Literal["none", "straight", "premultiplied"] = "none"
    """Meaning of the channel behind the colours."""
    top: int | None = None
    """Value of white; None where the file does not state it."""
    linear: bool = False
    """Whether values are proportional to light and need the sRGB curve."""
    palette: Array | None = None
    """(K, 3) uint8."""
    profile: bytes | None = None
    """ICC."""


def to_pixels(samples: Samples) -> NDArray[np.uint8]:
    """Return (H, W, 3) RGB; opaque grey and RGB images, which may be large, are converted without Pillow."""
    if samples.colour not in {"grey", "rgb"} or samples.alpha != "none":
        return np.asarray(to_rgb(to_image(samples)))
    low, high = value_range(samples)
    narrow = to_eight_bits(samples.values[..., : CHANNELS[samples.colour]], low, high, linear=samples.linear)
    if samples.inverted:
        np.subtract(255, narrow, out=narrow)
    return narrow if samples.colour == "rgb" else np.repeat(narrow, 3, axis=2)


def to_image(samples: Samples) -> Image.Image:
    """Return an eight-bit Pillow image in the mode of the samples."""
    channels = CHANNELS[samples.colour] + (samples.alpha != "none")
    values = samples.values[..., :channels]
    if samples.colour == "palette":
        return _from_palette(samples, values)
    if samples.colour == "lab" and values.dtype.kind in "ui":
        narrow = (values >> np.array(samples.bits - 8, values.dtype)).astype(np.uint8)
    else:
        narrow = to_eight_bits(values, *value_range(samples), linear=samples.linear)
    if samples.inverted:
        colours = narrow[..., : CHANNELS[samples.colour]]
        np.subtract(255, colours, out=colours)
    image = _in_mode(narrow, samples)
    if samples.profile:
        image.info["icc_profile"] = samples.profile
    return image


def value_range(samples: Samples) -> tuple[float, float]:
    """Return the values of black and white; of white and black for an inverted image."""
    colours = samples.values[..., : CHANNELS[samples.colour]]
    if colours.dtype.kind == "f":
        return _float_range(colours)
    low, high = (int(colours.min()), int(colours.max())) if colours.size else (0, 0)
    if samples.top is not None and low >= 0 and high <= samples.top:
        return 0.0, float(samples.top)
    if low < 0:
        return float(low), float(high)
    if samples.bits == 16:
        return 0.0, float(_sixteen_bit_top(colours, high))
    if samples.bits < 24:
        return 0.0, float(2**samples.bits - 1)
    tops = (*NARROW_TOPS, 65535, 2**24 - 1)
    top = next((top for top in tops if high <= top), None)
    return 0.0, float(top or high)


def _sixteen_bit_top(values: Array, high: int) -> int:
    narrow = next((top for top in NARROW_TOPS if high <= top), None)
    if narrow is None and TOP_14 * MIN_SHARE_OF_14 <= high <= TOP_14:
        narrow = TOP_14
    signed = values.dtype.kind == "i"
    if narrow is None or _is_from_eight_bits(values):
        return 32767 if signed else 65535
    return narrow


def _is_from_eight_bits(values: Array) -> bool:
    """Return whether 16-bit values were scaled from eight bits: then a dark image is meant to be dark."""
    rows = max(1, BAND_VALUES // max(1, values[:1].size))
    return not any(np.any(values[start : start + rows] % FROM_EIGHT) for start in range(0, len(values), rows))


def _float_range(values: Array) -> tuple[float, float]:
    """Return the range from 0 to 1, 255 or 65535 that holds nearly all values, else the range of the values."""
    flat = values.reshape(-1)
    probed = flat[:: max(1, flat.size // PROBED_VALUES)].astype(np.float64)
    probed = probed[np.isfinite(probed)]
    if not probed.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(probed, (0.5, 99.5)))
    if low < -0.02 * max(high, 0.0):  # further below zero than resampling reaches
        return low, high
    if 1.0 < high <= MAX_HIGHLIGHT:
        return 0.0, high
    return 0.0, next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)


def to_eight_bits(values: Array, low: float, high: float, *, linear: bool = False) -> NDArray[np.uint8]:
    """Scale (H, W, S) values so that ``low`` becomes 0 and ``high`` 255; values beyond are clipped."""
    scale = _Scale(low, high, linear)
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:  # a table is ten times as fast
        table = scale(np.arange(1 << 8 * values.dtype.itemsize))
        return table[values]
    narrow = np.empty(values.shape, np.uint8)
    rows = max(1, BAND_VALUES // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        narrow[start : start + rows] = scale(values[start : start + rows])
    return narrow


@dataclass(frozen=True, slots=True)
class _Scale:
    """Converts values to eight bits, from those of black and white."""

    low: float
    high: float
    linear: bool

    def __call__(self, values: Array) -> NDArray[np.uint8]:
        band: NDArray[np.float64] = values.astype(np.float64)
        np.nan_to_num(band, copy=False, nan=0.0, posinf=self.high, neginf=self.low)
        band -= self.low
        band /= max(self.high - self.low, 1e-6)
        np.clip(band, 0.0, 1.0, out=band)
        if self.linear:
            band[:] = np.where(band <= LINEAR_PART, band * 12.92, 1.055 * band ** (1 / 2.4) - 0.055)
        band *= 255.0
        return np.rint(band, out=band).astype(np.uint8)


def _from_palette(samples: Samples, values: Array) -> Image.Image:
    table = np.zeros((256, 3), np.uint8)
    if samples.palette is not None:
        table[: len(samples.palette)] = samples.palette[:256]
    return Image.fromarray(table[values[..., 0].astype(np.uint8)])


def _in_mode(narrow: NDArray[np.uint8], samples: Samples) -> Image.Image:
    height, width, _ = narrow.shape
    if samples.colour == "lab":  # Pillow flips the signs of a and b when it reads them
        return Image.frombytes("LAB", (width, height), narrow[..., :3].tobytes(), "raw", "LAB")
    if samples.colour == "cmyk":
        return Image.frombytes("CMYK", (width, height), narrow[..., :4].tobytes())
    if samples.colour == "grey" and samples.alpha == "none":
        return Image.fromarray(np.ascontiguousarray(narrow[..., 0]))
    if samples.alpha == "none":
        return Image.fromarray(narrow)
    if samples.colour == "grey":
        narrow = np.concatenate([np.repeat(narrow[..., :1], 3, axis=2), narrow[..., 1:]], axis=2)
    mode = "RGBa" if samples.alpha == "premultiplied" else "RGBA"
    return Image.frombytes(mode, (width, height), narrow.tobytes())
