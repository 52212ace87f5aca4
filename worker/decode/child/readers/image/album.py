"""Image files with pages: each page is a frame of its own, with its own size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

from worker.decode.child.readers.sampling import SampledFrame
from worker.errors import MediaRejected
from worker.types import MediaInfo, MediaTags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from worker.types import DecodeLimits, DecodeRequest

MAX_PAGES = 500  # pages of one file that are read; a note counts the rest
# Pages have no time stamps: each gets its own second, so that the people of two pages are never in view together.
SECONDS_PER_PAGE = 1.0


class Page(Protocol):
    """A page of a file."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        ...

    def pixels(self) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB, upright.

        Raises:
            MediaRejected: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Album:
    """An open file with one or more pages."""

    format: str
    pages: Sequence[Page]
    limits: DecodeLimits
    notes: list[str]
    """Parts of the file that are not read; grows while pages are read."""
    opened: Sequence[BinaryIO | Image] = field(default=(), repr=False)
    """Closed with the album."""
    tags: MediaTags = field(default_factory=MediaTags)
    orientation: int = 1
    """EXIF orientation of the first page."""

    @property
    def engine(self) -> str:
        """Name of the library that reads it."""
        return "pillow"

    @property
    def damaged(self) -> int:
        """Number of damaged frames: 0, since damaged pages are noted one by one."""
        return 0

    def outline(self) -> MediaInfo:
        """Return the description: an image is not cut."""
        return self.info

    def scanned(self) -> None:
        """Do nothing: pages need no scan."""

    def close(self) -> None:
        """Release the file."""
        for one in self.opened:
            one.close()

    @property
    def info(self) -> MediaInfo:
        """Description of the first page."""
        width, height = self.pages[0].size
        return MediaInfo(
            kind="image",
            format=self.format,
            width=width,
            height=height,
            tags=self.tags,
            orientation=self.orientation,
        )

    def frames(self, _request: DecodeRequest) -> Iterator[SampledFrame]:
        """Yield every page, whatever the sampling.

        Raises:
            MediaRejected: no page can be read; the reason is that of the first page.
        """
        first_error: MediaRejected | None = None
        any_read = False
        for index, page in enumerate(self.pages[:MAX_PAGES]):
            try:
                check_size(page.size, self.limits)
                pixels = page.pixels()
            except MediaRejected as err:
                first_error = first_error or err
                self.notes.append(f"page {index + 1} was not analysed: {err.reason}")
                continue
            any_read = True
            yield SampledFrame(index, index * SECONDS_PER_PAGE, pixels, starts_shot=index > 0)
        if not any_read and first_error is not None:
            raise first_error
        if len(self.pages) > MAX_PAGES:
            self.notes.insert(0, f"pages {MAX_PAGES + 1:,} to {len(self.pages):,} were not analysed: split the file")


def check_size(size: tuple[int, int], limits: DecodeLimits) -> None:
    """Check the pixels of an image before it is decoded.

    Raises:
        MediaRejected: they are too many.
    """
    width, height = size
    if width * height > limits.pixels_per_frame:
        raise MediaRejected("too_many_pixels", f"{width} x {height} pixels, at most {limits.pixels_per_frame} allowed")
