"""The merged image of a Photoshop file as the one page of an album."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from worker.decode.child.readers.image import psd
from worker.decode.child.readers.image.guarded import guarded
from worker.decode.child.readers.image.samples import to_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PsdPage:
    """The merged image; its layers are not read on their own."""

    file: BinaryIO
    header: psd.Header

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.header.width, self.header.height

    def pixels(self) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB.

        Raises:
            MediaRejected: it is damaged.
        """
        return np.ascontiguousarray(guarded(lambda: to_pixels(psd.read_merged_image(self.file, self.header))))
