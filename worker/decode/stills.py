"""Pictures: what a still file holds, upright and in RGB."""

from __future__ import annotations

import struct
import warnings
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np
import pillow_heif
from PIL import Image, UnidentifiedImageError

from worker.decode import opened
from worker.decode.colour import to_rgb
from worker.decode.orientation import UPRIGHT, swaps_sides, upright
from worker.decode.sampling import Sampled, Sampler
from worker.errors import MediaRejected
from worker.values import MediaInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from worker.values import DecodeLimits, DecodeRequest

T = TypeVar("T")

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF", "PSD", "ICO", "PPM", "JPEG2000")
"""Pillow's names; formats that need another program (EPS) or have no signature (TGA) stay out."""
ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
"""Whose further images are later moments, not other pictures."""
BROKEN = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    struct.error,
)
"""What broken files make Pillow's plug-ins raise: met when bytes of good files were changed at random,
or of the same kind. Want of memory is not among them."""
ORIENTATION_TAG = 0x0112
SIGNATURE_BYTES = 16
"""What Pillow shows its plug-ins."""
SHORTEST_SECONDS = 0.011
DEFAULT_SECONDS = 0.1
"""Animations that ask for 10 ms or less a frame are shown at 100 ms by the browsers, and were made for that."""


def prepare() -> None:
    """Load every codec now: they must be bound before other libraries with the same symbols arrive."""
    pillow_heif.register_heif_opener(thumbnails=False)
    Image.init()
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


class Still:
    """An opened picture file: its description, then its frames."""

    def __init__(self, location: str, limits: DecodeLimits) -> None:
        Image.MAX_IMAGE_PIXELS = limits.pixels_per_frame
        self._limits = limits
        self._file = opened.reader(location)
        try:
            self._image = _open(self._file, location)
            self.info = self._describe()
        except BaseException:
            self._file.close()
            raise

    def _describe(self) -> MediaInfo:
        self._orientation = _orientation(self._image)
        width, height = self._image.size
        most = self._limits.pixels_per_frame
        if width * height > most:
            self._image.close()
            raise MediaRejected("too_many_pixels", f"{width} x {height} pixels, at most {most} allowed")
        if swaps_sides(self._orientation):
            width, height = height, width
        return MediaInfo(kind="image", format=_format(self._image), width=width, height=height)

    @property
    def engine(self) -> str:
        """Which library reads it."""
        return "pillow"

    @property
    def damaged(self) -> int:
        """A still is whole or refused."""
        return 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Parts of the file that are not read."""
        return ()

    def close(self) -> None:
        """Release the file."""
        self._image.close()
        self._file.close()

    def frames(self, request: DecodeRequest) -> Iterator[Sampled]:
        """Yield the frames that the request samples."""
        sampler = Sampler(request.frames_per_second)
        at_seconds = 0.0
        for index in range(self._frame_count()):
            if index:
                _guarded(partial(self._image.seek, index))
            taken = sampler.takes(at_seconds)
            if taken or self._image.format == "WEBP":  # whose durations are known only when decoded
                _guarded(self._image.load)
            if taken:
                yield Sampled(index, at_seconds, self._pixels())
            at_seconds += _guarded(partial(_duration, self._image))

    def _frame_count(self) -> int:
        if self._image.format not in ANIMATED:
            return 1
        count = int(_guarded(lambda: getattr(self._image, "n_frames", 1)))
        if count > self._limits.frames_per_file:
            raise MediaRejected("too_many_frames", f"{count} frames, at most {self._limits.frames_per_file} allowed")
        return max(count, 1)

    def _pixels(self) -> NDArray[np.uint8]:
        return upright(np.asarray(_guarded(lambda: to_rgb(self._image))), self._orientation)


def _open(file: BinaryIO, location: str) -> Image.Image:
    if not opened.status(location).st_size:
        raise MediaRejected("empty", "the file has no bytes")
    try:
        return _guarded(partial(Image.open, file, formats=FORMATS))
    except UnidentifiedImageError as err:
        if _has_known_signature(location):
            raise MediaRejected("corrupt", "begins like a picture, but its header cannot be read") from err
        raise MediaRejected("unsupported_format", "no picture format that is read here") from err


def _has_known_signature(location: str) -> bool:
    head = opened.head(location, SIGNATURE_BYTES)
    accepts = (Image.OPEN[name][1] for name in FORMATS)
    return any(accept(head) is True for accept in accepts if accept)


def _guarded(step: Callable[[], T]) -> T:
    """Run one step of Pillow and say what its errors mean."""
    try:
        return step()
    except (UnidentifiedImageError, FileNotFoundError, PermissionError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise MediaRejected("too_many_pixels", f"more than the {Image.MAX_IMAGE_PIXELS} pixels allowed") from err
    except BROKEN as err:
        text = " ".join(str(err).split())
        if "memory" in text.lower():  # libheif's word for it
            raise MemoryError(text) from err
        raise MediaRejected("truncated" if "truncated" in text else "corrupt", text) from err


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return UPRIGHT  # Pillow turns these itself
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except BROKEN:
        return UPRIGHT  # broken EXIF says nothing
    return value if value in range(1, 9) else UPRIGHT


def _format(image: Image.Image) -> str:
    return {"MPO": "jpeg", "HEIF": "heic"}.get(str(image.format), str(image.format).lower())


def _duration(image: Image.Image) -> float:
    seconds = float(image.info.get("duration") or 0) / 1000
    return seconds if seconds >= SHORTEST_SECONDS else DEFAULT_SECONDS
