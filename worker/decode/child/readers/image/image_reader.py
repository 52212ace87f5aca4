"""Reads image files: upright frames in RGB."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pillow_heif
from PIL import Image, UnidentifiedImageError

from worker.decode import opened
from worker.decode.child.readers.image import heif_pages, psd
from worker.decode.child.readers.image.album import Album, check_size
from worker.decode.child.readers.image.colour import to_rgb
from worker.decode.child.readers.image.guarded import DECODER_ERRORS, UNSUPPORTED_TEXT, guarded
from worker.decode.child.readers.image.image_tags import read_image_tags
from worker.decode.child.readers.image.psd_page import PsdPage
from worker.decode.child.readers.image.tiff import pages as tiff_pages
from worker.decode.child.readers.image.tiff import tiff
from worker.decode.child.readers.image.wide import deep_image
from worker.decode.child.readers.orientation import UPRIGHT, swaps_sides, upright
from worker.decode.child.readers.sampling import SampledFrame, Sampler
from worker.errors import MediaRejected
from worker.types import MediaInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from worker.types import DecodeLimits, DecodeRequest

# Pillow's names. Formats that need another program (EPS) or have no signature (TGA) are left out.
FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "HEIF", "AVIF", "ICO", "PPM", "JPEG2000", "PCX", "SGI", "QOI", "SUN", "ICNS",
)  # fmt: skip
ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})  # their further images are later moments, not other images
LATE_DURATIONS = frozenset({"WEBP", "AVIF"})  # durations are known only after a frame is decoded
ORIENTATION_TAG = 0x0112
# Of multi-picture JPEG (MPO): the tag with the list of images, and the type of smaller copies.
MP_ENTRIES, PREVIEW = 0xB002, "Large Thumbnail"
SIGNATURE_BYTES = 16  # that Pillow passes to its plug-ins
# Browsers show frames of 10 ms or less for 100 ms, and such animations were made for that.
MIN_FRAME_SECONDS, DEFAULT_SECONDS = 0.011, 0.1


def load_codecs() -> None:
    """Load every codec now, before other libraries with the same symbols are loaded."""
    pillow_heif.register_heif_opener(thumbnails=False)
    Image.init()
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def open_image(location: str, limits: DecodeLimits) -> ImageReader | Album:
    """Open an image file.

    Raises:
        MediaRejected: it is damaged, of a format that is not read, or over a limit.
    """
    Image.MAX_IMAGE_PIXELS = limits.pixels_per_frame
    head = opened.head(location, SIGNATURE_BYTES)
    if not head:
        raise MediaRejected("empty", "the file has no bytes")
    if tiff.is_tiff(head) or psd.is_psd(head):
        with ExitStack() as stack:
            file = stack.enter_context(opened.independent_reader(location))
            album = _open_album(file, head, location, limits)
            check_size(album.pages[0].size, limits)
            stack.pop_all()
            return album
    reader = ImageReader(location, limits)
    if reader.image.format == "HEIF" and getattr(reader.image, "n_frames", 1) > 1:
        return heif_pages.open_heif_album(reader.image, limits, reader.file)
    return reader


def _open_album(file: BinaryIO, head: bytes, location: str, limits: DecodeLimits) -> Album:
    if psd.is_psd(head):
        return Album("psd", [PsdPage(file, guarded(partial(psd.read_header, file)))], limits, [], (file,))
    return tiff_pages.open_tiff_album(file, location, limits)


class ImageReader:
    """An open image file: its description, then its frames."""

    def __init__(self, location: str, limits: DecodeLimits) -> None:
        self._limits = limits
        self._location = location
        self.file = opened.reader(location)
        try:
            self.image = _open(self.file, location)
            self._orientation = _orientation(self.image)
            self.info = self._describe()
        except BaseException:
            self.file.close()
            raise
        self._left_out = _left_out(self.image)

    def _describe(self) -> MediaInfo:
        width, height = self.image.size
        check_size((width, height), self._limits)
        if swaps_sides(self._orientation):
            width, height = height, width
        tags = read_image_tags(self.image)
        return MediaInfo(
            kind="image",
            format=_format(self.image),
            width=width,
            height=height,
            tags=tags,
            orientation=self._orientation,
        )

    @property
    def engine(self) -> str:
        """Name of the library that reads it."""
        return "pillow"

    @property
    def damaged(self) -> int:
        """Number of damaged frames: 0, since a damaged image is refused."""
        return 0

    def outline(self) -> MediaInfo:
        """Return the description: an image is not cut."""
        return self.info

    def scanned(self) -> None:
        """Do nothing: images need no scan."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Parts of the file that are not read."""
        return self._left_out

    def close(self) -> None:
        """Release the file."""
        self.image.close()
        self.file.close()

    def frames(self, request: DecodeRequest) -> Iterator[SampledFrame]:
        """Yield the frames that the request samples."""
        sampler = Sampler(request.frames_per_second)
        at_seconds = 0.0
        count = self._frame_count()
        waiting: SampledFrame | None = None
        for index in range(count):
            if index:
                guarded(partial(self.image.seek, index))
            if self.image.format in LATE_DURATIONS:
                guarded(self.image.load)
            until = at_seconds + (guarded(partial(_duration, self.image)) if count > 1 else 0.0)
            if sampler.takes(at_seconds, until):
                if waiting is not None:
                    yield replace(waiting, hold_seconds=at_seconds - waiting.at_seconds)
                    waiting = None  # frees its pixels for the next ones
                guarded(self.image.load)
                waiting = SampledFrame(index, at_seconds, self._pixels(), 0.0)
            at_seconds = until
        if waiting is not None:
            yield replace(waiting, hold_seconds=at_seconds - waiting.at_seconds)

    def _frame_count(self) -> int:
        if self.image.format not in ANIMATED:
            return 1
        count = int(guarded(lambda: getattr(self.image, "n_frames", 1)))
        if count > self._limits.frames_per_file:
            raise MediaRejected("too_many_frames", f"{count} frames, at most {self._limits.frames_per_file} allowed")
        return max(count, 1)

    def _pixels(self) -> NDArray[np.uint8]:
        image = guarded(lambda: to_rgb(deep_image(self.image, self._location) or self.image))
        return upright(np.asarray(image), self._orientation)


def _open(file: BinaryIO, location: str) -> Image.Image:
    try:
        return guarded(partial(Image.open, file, formats=FORMATS))
    except UnidentifiedImageError as err:
        refusal = _refusal(file, location)
        if refusal is None:
            raise MediaRejected("unsupported_format", "not an image format that is read here") from err
        if UNSUPPORTED_TEXT.search(refusal):
            raise MediaRejected("unsupported_format", f"{refusal}: convert it to PNG, TIFF or JPEG first") from err
        raise MediaRejected("corrupt", "begins like an image, but its header cannot be read") from err


def _refusal(file: BinaryIO, location: str) -> str | None:
    """Return why the format whose signature the file has refuses it; None if it has no known signature."""
    head = opened.head(location, SIGNATURE_BYTES)
    for name in FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts and accepts(head) is True:
            file.seek(0)
            try:
                factory(file, b"").close()
            except DECODER_ERRORS as err:
                return " ".join(str(err).split())
            return ""
    return None


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except DECODER_ERRORS:
        return UPRIGHT  # damaged EXIF is ignored
    return value if value in range(1, 9) else UPRIGHT


def _left_out(image: Image.Image) -> tuple[str, ...]:
    """Return notes on the unread images of a multi-picture JPEG, without previews, depth and brightness maps."""
    if image.format != "MPO":
        return ()
    try:
        types = [str(entry["Attribute"]["MPType"]) for entry in image.mpinfo[MP_ENTRIES]]  # type: ignore[attr-defined]
        views = sum(_is_view(image, number) for number, kind in enumerate(types) if number and PREVIEW not in kind)
        image.seek(0)
    except DECODER_ERRORS:
        return ("further images in the file were not analysed",)
    return (f"other views in the file were not analysed: {views}",) if views else ()


def _is_view(image: Image.Image, number: int) -> bool:
    primary = image.mode
    image.seek(number)
    is_view = image.mode == primary
    image.seek(0)
    return is_view


def _format(image: Image.Image) -> str:
    return {"MPO": "jpeg", "HEIF": "heic"}.get(str(image.format), str(image.format).lower())


def _duration(image: Image.Image) -> float:
    seconds = float(image.info.get("duration") or 0) / 1000
    return seconds if seconds >= MIN_FRAME_SECONDS else DEFAULT_SECONDS
