"""Several images of a HEIC file as pages: first the primary one, then those that are not versions of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from worker.decode.child.readers.image.album import Album
from worker.decode.child.readers.image.colour import to_rgb
from worker.decode.child.readers.image.guarded import guarded
from worker.decode.child.readers.image.image_tags import read_image_tags
from worker.errors import MediaRejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.types import DecodeLimits

VERSION_THUMBNAIL = (16, 16)
# Mean difference of thumbnails, of 255, up to which two images of one size count as versions of one image.
MAX_VERSION_DIFFERENCE = 10.0


@dataclass(slots=True)
class _Primary:
    """The primary image as a thumbnail."""

    size: tuple[int, int]
    thumbnail: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class HeifPage:
    """One image of a HEIC file."""

    image: Image.Image
    number: int
    size: tuple[int, int]
    primary: _Primary
    is_primary: bool

    def pixels(self) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB, upright.

        Raises:
            MediaRejected: it is damaged, or a version of the primary image.
        """
        guarded(partial(self.image.seek, self.number))
        image = guarded(lambda: to_rgb(self.image))
        thumbnail = np.asarray(image.resize(VERSION_THUMBNAIL, Image.Resampling.BOX), np.float32)
        if self.is_primary:
            self.primary.thumbnail = thumbnail
        elif self._is_version(thumbnail):
            raise MediaRejected("same_picture", "another version of the primary image")
        return np.ascontiguousarray(image)

    def _is_version(self, thumbnail: NDArray[np.float32]) -> bool:
        other = self.primary.thumbnail
        if other is None or self.size != self.primary.size:
            return False
        return bool(np.abs(thumbnail - other).mean() <= MAX_VERSION_DIFFERENCE)


def open_heif_album(image: Image.Image, limits: DecodeLimits, file: BinaryIO) -> Album:
    """Return the album of an open file with more than one image."""
    first, count = image.tell(), int(getattr(image, "n_frames", 1))
    primary = _Primary(image.size)
    pages = []
    for number in [first, *(number for number in range(count) if number != first)]:
        guarded(partial(image.seek, number))
        pages.append(HeifPage(image, number, image.size, primary, is_primary=number == first))
    guarded(partial(image.seek, first))
    return Album("heic", pages, limits, [], (image, file), read_image_tags(image))
