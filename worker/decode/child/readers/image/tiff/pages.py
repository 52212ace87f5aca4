"""Reads pages of TIFF files: with Pillow where it reads them correctly, else from the stored samples."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from worker.decode import opened
from worker.decode.child.readers.image.album import Album
from worker.decode.child.readers.image.colour import to_rgb
from worker.decode.child.readers.image.guarded import guarded
from worker.decode.child.readers.image.image_tags import read_image_tags
from worker.decode.child.readers.image.samples import to_pixels
from worker.decode.child.readers.image.tiff import tiff
from worker.decode.child.readers.image.tiff.raw import is_raw
from worker.decode.child.readers.image.tiff.stored_samples import Layout, breaks_off, read_samples
from worker.decode.child.readers.orientation import UPRIGHT, swaps_sides, upright
from worker.errors import RAW_ADVICE, MediaRejected
from worker.types import MediaTags

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.decode.child.readers.image.tiff.tiff import Directory, Field
    from worker.types import DecodeLimits

PILLOW_BITS, PILLOW_COLOURS = frozenset({1, 2, 4, 8}), frozenset({0, 1, 2, 3, 5, 6, 8})
CCITT_AND_JPEG = frozenset({2, 3, 4, 6, 7, 32771})  # compressions that Pillow alone reads
OLD_JPEG = 6  # its data lie outside of strips
MAX_CLASSIC_BYTES = 1 << 32


@dataclass(frozen=True, slots=True)
class TiffPage:
    """A page of a TIFF file."""

    file: BinaryIO
    pillow: Image.Image | None
    """The file opened by Pillow; None where it refuses the first directory."""
    directory: Directory

    @property
    def orientation(self) -> int:
        """EXIF orientation."""
        value = self.directory.value(tiff.ORIENTATION, UPRIGHT)
        return value if value in range(1, 9) else UPRIGHT

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        width, height = self.directory.size
        return (height, width) if swaps_sides(self.orientation) else (width, height)

    def pixels(self) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB, upright.

        Raises:
            MediaRejected: it is damaged, or of a kind that is not read.
        """
        compression = self.directory.value(tiff.COMPRESSION, 1)
        if is_plain(self.directory):
            try:
                image = guarded(self._seek)
                return np.ascontiguousarray(guarded(lambda: to_rgb(_loaded(image))))
            except UnidentifiedImageError:
                if compression in CCITT_AND_JPEG:
                    raise MediaRejected(
                        "unsupported_format", f"a TIFF image packed by method {compression}: save it with another"
                    ) from None
            except MediaRejected as err:
                if err.code == "corrupt" and breaks_off(self.file, self.directory):
                    raise MediaRejected("truncated", f"the file ends inside of the TIFF image ({err})") from err
                raise
        pixels = guarded(lambda: to_pixels(read_samples(self.file, self.directory)))
        return upright(pixels, self.orientation)

    def _seek(self) -> Image.Image:
        """Return this page, opened by Pillow."""
        if self.pillow is None or self.directory.number < 0:
            return Image.open(classic_copy(self.file, self.directory), formats=("TIFF",))
        try:
            self.pillow.seek(self.directory.number)
        except SyntaxError as err:  # raised by Pillow for an unknown kind of image
            raise UnidentifiedImageError(str(err)) from err
        return self.pillow


def _loaded(image: Image.Image) -> Image.Image:
    image.load()  # rotates it, too
    return image


def is_plain(page: Directory) -> bool:
    """Return whether Pillow reads a page correctly, if it reads it at all."""
    bits = page.values(tiff.BITS) or (1,)
    kinds = page.values(tiff.SAMPLE_FORMAT) or (1,)
    return (
        set(bits) <= PILLOW_BITS
        and set(kinds) <= {1, 4}
        and page.value(tiff.PHOTOMETRIC, 0) in PILLOW_COLOURS
        and (page.value(tiff.COMPRESSION, 1) in CCITT_AND_JPEG or _is_own_kind(page))
    )


def _is_own_kind(page: Directory) -> bool:
    """Return whether compression and layout are among those of ``stored_samples``."""
    try:
        Layout.of(page)
    except MediaRejected:
        return False
    return True


def open_tiff_album(file: BinaryIO, location: str, limits: DecodeLimits) -> Album:
    """Return the album of a TIFF file.

    Raises:
        MediaRejected: it is a raw camera file, or damaged.
    """
    structure = guarded(partial(tiff.read_structure, file))
    if is_raw(structure):
        raise MediaRejected("unsupported_format", RAW_ADVICE)
    directories = tiff.pages(structure)
    if not all(directories[0].size):
        raise MediaRejected("corrupt", "a TIFF file whose first image has no size")
    notes = [] if structure.is_whole else [f"the list of pages breaks off after {len(structure.chain)}"]
    hidden = tiff.hidden_pictures(structure, directories)
    if hidden:
        notes.append(f"images inside other pages were not analysed: {hidden}")
    pillow, own = (None, None) if structure.is_big and structure.order == ">" else _opened(location)
    pages = [TiffPage(file, pillow, one) for one in directories]
    tags = MediaTags() if pillow is None else read_image_tags(pillow)
    opened_files = (file, *(one for one in (pillow, own) if one))
    return Album("tiff", pages, limits, notes, opened_files, tags, pages[0].orientation)


def _opened(location: str) -> tuple[Image.Image, BinaryIO] | tuple[None, None]:
    """Return the file opened by Pillow; None where it refuses the first image. Pixels are counted page by page."""
    file = opened.reader(location)
    try:
        return guarded(partial(Image.open, file, formats=("TIFF",))), file
    except (UnidentifiedImageError, MediaRejected):
        file.close()
        return None, None


def classic_copy(file: BinaryIO, page: Directory) -> io.BytesIO:
    """Return one page as a classic TIFF file, which every reader knows.

    Raises:
        MediaRejected: its data lie outside of strips and tiles.
    """
    tiled = tiff.TILE_OFFSETS in page.fields
    place, length = (tiff.TILE_OFFSETS, tiff.TILE_BYTES) if tiled else (tiff.STRIP_OFFSETS, tiff.STRIP_BYTES)
    offsets, lengths = page.values(place), page.values(length)
    if (
        page.value(tiff.COMPRESSION, 1) == OLD_JPEG
        or len(offsets) != len(lengths)
        or sum(lengths) >= MAX_CLASSIC_BYTES // 2
    ):
        raise MediaRejected("unsupported_format", "a TIFF image whose data lie in an unusual place: save it again")
    kept = {tag: one for tag, one in sorted(page.fields.items()) if tag not in {tiff.SUB_DIRECTORIES, place, length}}
    order = page.order
    values = {tag: _narrow(one, order) for tag, one in kept.items()}
    values[length] = (4, len(lengths), struct.pack(f"{order}{len(lengths)}I", *lengths))
    outside = 8 + 2 + 12 * (len(values) + 1) + 4
    data_at = outside + sum(len(raw) for _, _, raw in values.values() if len(raw) > 4) + 4 * len(offsets)
    starts = data_at + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    values[place] = (4, len(offsets), starts.astype(f"{order}u4").tobytes())
    head = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(values))
    tail = b""
    for tag, (kind, count, raw) in sorted(values.items()):
        word = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "I", outside + len(tail))
        tail += raw if len(raw) > 4 else b""
        head += struct.pack(order + "HHI", tag, kind, count) + word
    copy = io.BytesIO()
    copy.write(head + bytes(4) + tail)
    copy.seek(data_at)
    for offset, count in zip(offsets, lengths, strict=True):
        file.seek(offset)
        copy.write(file.read(count).ljust(count, b"\0"))
    copy.seek(0)
    return copy


def _narrow(one: Field, order: str) -> tuple[int, int, bytes]:
    """Return a field with the types of a classic file."""
    if one.type not in {16, 17, 18}:
        return one.type, one.count, one.raw
    numbers = struct.unpack(f"{order}{one.count}Q", one.raw)
    return 4, one.count, struct.pack(f"{order}{one.count}I", *(number & 0xFFFFFFFF for number in numbers))
