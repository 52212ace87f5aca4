"""Draws contact sheets: faces with captions, grouped by person, in one image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count, groupby
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageDraw

from worker.pictures.lettering import Lettering

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


WRITER = "Facet"  # in the metadata of an image
SHEET_QUALITY = 90  # of JPEG and WebP: no visible loss, a quarter of the bytes of PNG


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One face on a sheet."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB: an aligned crop or a piece of a frame, of any size."""
    captions: tuple[str, ...] = ()
    """Lines below the face, such as 'female 0.98, 34 y'; the first stands out."""
    group: str = ""
    """Heading above this tile, such as 'person 3'; neighbours with the same heading share it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetStyle:
    """Measures in pixels and colours in RGB."""

    face: int = 144
    margin: int = 32
    gap: int = 14
    text: int = 13
    heading: int = 16
    title: int = 26
    page: int = 5000
    """Largest height of a page; a page has one row at least."""
    paper: tuple[int, int, int] = (247, 246, 243)
    card: tuple[int, int, int] = (255, 255, 255)
    edge: tuple[int, int, int] = (224, 221, 214)
    ink: tuple[int, int, int] = (33, 37, 41)
    faint: tuple[int, int, int] = (110, 115, 120)
    accent: tuple[int, int, int] = (36, 91, 128)


def contact_sheet(
    tiles: Sequence[Tile], title: str, columns: int = 8, *, style: SheetStyle | None = None
) -> NDArray[np.uint8]:
    """Draw tiles in rows under a title; groups are kept together and small ones share a row.

    Args:
        tiles: in order, those of a group next to each other.
        title: one line.
        columns: faces in a row.
        style: measures and colours.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: fewer than one column.
    """
    return _Sheet(tiles, columns, style or SheetStyle()).draw_whole(title)


def contact_sheets(
    tiles: Sequence[Tile], title: str, columns: int = 8, *, style: SheetStyle | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Draw tiles as `contact_sheet` does, on as many pages as the height of a page demands; at least one.

    A group that goes on on another page has its heading there again.

    Raises:
        ValueError: fewer than one column.
    """
    return _Sheet(tiles, columns, style or SheetStyle()).draw_pages(title)


def write_image(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write an (H, W, 3) RGB image in the format that the extension names: .png, .jpg, .jpeg or .webp.

    Raises:
        OSError: the folder is missing, full or not writable.
        ValueError: Pillow has no format of this extension.
    """
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = WRITER
    Image.fromarray(pixels).save(path, optimize=True, quality=SHEET_QUALITY, exif=exif)


def write_pages(pages: Iterable[NDArray[np.uint8]], path: Path) -> list[Path]:
    """Write pages: the first to the path, further ones beside it as ``NAME-2.png``; returns their paths.

    Further pages that an earlier run left there are deleted; images of other programs are not.

    Raises:
        OSError: as for `write_image`.
        ValueError: as for `write_image`.
    """
    written = []
    for number, page in enumerate(pages, 1):
        place = _page_path(path, number)
        write_image(page, place)
        written.append(place)
    for number in count(len(written) + 1):
        place = _page_path(path, number)
        if not _is_ours(place):
            break
        place.unlink()
    return written


def _page_path(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _is_ours(path: Path) -> bool:
    """Whether an image is there that ``write_image`` wrote."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(ExifTags.Base.Software) == WRITER
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class _Run:
    """Tiles of one group next to each other in one row."""

    heading: str
    tiles: tuple[Tile, ...]
    row: int
    column: int


class _Sheet:
    """Measures and draws one sheet."""

    def __init__(self, tiles: Sequence[Tile], columns: int, style: SheetStyle) -> None:
        if columns < 1:
            raise ValueError(f"got {columns} columns, expected at least 1")
        self._style = style
        self._columns = columns
        self._runs = list(_place_runs(tiles, columns))
        self._letters = {size: Lettering(size) for size in (style.text, style.heading, style.title)}
        lines = max((len(tile.captions) for tile in tiles), default=0)
        self._line_height = round(style.text * 1.4)
        self._card_height = style.face + lines * self._line_height + (style.gap // 2 if lines else 0)

    def draw_whole(self, title: str) -> NDArray[np.uint8]:
        """Draw all rows in one image."""
        return self._draw(title, self._runs)

    def draw_pages(self, title: str) -> Iterator[NDArray[np.uint8]]:
        """Draw as many rows a page as its height has room for."""
        pages = list(self._pages())
        for number, runs in enumerate(pages, 1):
            yield self._draw(f"{title}, page {number} of {len(pages)}" if len(pages) > 1 else title, runs)

    def _pages(self) -> Iterator[list[_Run]]:
        """Yield the runs of each page, with their rows on it."""
        page, first = list[_Run](), 0
        for _, runs in groupby(self._runs, key=lambda run: run.row):
            row = list(runs)
            tried = [*page, *(replace(run, row=run.row - first) for run in row)]
            if page and self._tops(tried)[-1] + self._style.margin > self._style.page:
                yield page
                first = row[0].row
                tried = [replace(run, row=0, heading=run.heading or run.tiles[0].group) for run in row]
            page = tried
        yield page

    def _draw(self, title: str, runs: Sequence[_Run]) -> NDArray[np.uint8]:
        style = self._style
        width = 2 * style.margin + self._columns * (style.face + style.gap) - style.gap
        *tops, bottom = self._tops(runs)
        image = Image.new("RGB", (width, bottom + style.margin), style.paper)
        pen = ImageDraw.Draw(image)
        letters = self._letters[style.title]
        letters.draw(pen, (style.margin, style.margin - 6), letters.fit(title, width - 2 * style.margin), style.ink)
        for run in runs:
            self._draw_run(image, pen, run, tops[run.row])
        if not runs:
            self._letters[style.heading].draw(pen, (style.margin, tops[0]), "no faces", style.faint)
        return np.array(image)

    def _tops(self, runs: Sequence[_Run]) -> list[int]:
        """Return the top of each row, and the bottom of the last one; a row with a heading has room for it."""
        gap = self._style.gap
        headed = {run.row for run in runs if run.heading}
        top, tops = self._style.margin + self._style.title * 2, []
        for row in range(1 + max((run.row for run in runs), default=0)):
            top += (self._style.heading * 2 + gap * (row > 0)) * (row in headed)
            tops.append(top)
            top += self._card_height + gap
        return [*tops, top - gap]

    def _draw_run(self, image: Image.Image, pen: ImageDraw.ImageDraw, run: _Run, top: int) -> None:
        style = self._style
        step = style.face + style.gap
        left = style.margin + run.column * step
        right = left + len(run.tiles) * step - style.gap
        if run.heading:
            letters = self._letters[style.heading]
            above = top - 2 * style.heading
            letters.draw(pen, (left, above), letters.fit(run.heading, right - left), style.accent)
            line = above + round(style.heading * 1.5)
            pen.line((left, line, right - 1, line), style.edge, 1)
        for place, tile in enumerate(run.tiles):
            self._draw_tile(image, pen, tile, (left + place * step, top))

    def _draw_tile(self, image: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int]) -> None:
        style = self._style
        left, top = corner
        box = (left, top, left + style.face - 1, top + self._card_height - 1)
        pen.rounded_rectangle(box, radius=8, fill=style.card, outline=style.edge)
        inner = style.face - 12
        image.paste(_square(tile.pixels, inner, style.card), (left + 6, top + 6))
        letters = self._letters[style.text]
        for line, caption in enumerate(tile.captions):
            place = (left + 8, top + style.face + line * self._line_height)
            letters.draw(pen, place, letters.fit(caption, inner - 4), style.faint if line else style.ink)


def _place_runs(tiles: Sequence[Tile], columns: int) -> Iterator[_Run]:
    """Place each group in a row, or in rows of its own where it is longer than one."""
    row, column = 0, 0
    for heading, members in groupby(tiles, key=lambda tile: tile.group):
        group = tuple(members)
        # Tiles without a heading flow; a group with a heading stays together.
        if heading and column and column + len(group) > columns:
            row, column = row + 1, 0
        for start in range(0, len(group), columns):
            run = group[start : start + columns]
            yield _Run(heading if not start else "", run, row, column)
            column += len(run)
            # After a group of several rows a new row begins: beside its last tiles, a tile would seem to be part of it.
            if column >= columns or (start and heading):
                row, column = row + 1, 0


def _square(pixels: NDArray[np.uint8], side: int, paper: tuple[int, int, int]) -> Image.Image:
    """Return the whole image in the middle of a square."""
    face = Image.fromarray(pixels)
    scale = side / max(face.size)
    size = (max(1, round(face.width * scale)), max(1, round(face.height * scale)))
    square = Image.new("RGB", (side, side), paper)
    square.paste(face.resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square
