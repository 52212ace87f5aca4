r"""Letters on drawn images, in the first typeface that has them.

A character without a glyph in any of them is written as an escape such as ``\u0939``: a question mark or an empty box
would make two names look alike.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from worker.pictures.fonts.typefaces import (
    LINE,
    Typeface,
    Typefaces,
    in_reading_order,
    installed_typefaces,
    is_right_to_left,
)
from worker.visible import escaped, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL import ImageDraw

    Colour = tuple[int, int, int]

ELLIPSIS = "..."
MAX_LINE_CHARACTERS = 500  # of one line; longer text is cut before it is measured
JOINERS = "\u200c\u200d"  # they change the letters beside them, and have no glyph


class Lettering:
    """Draws single lines of text of one height.

    Args:
        height: of the letters in pixels.
        typefaces: to draw in; those of this machine by default.
    """

    def __init__(self, height: int, typefaces: Typefaces | None = None) -> None:
        self._height = height
        self._typefaces = typefaces or installed_typefaces()
        self._mask = lru_cache(maxsize=256)(self._render)

    def width(self, text: str) -> int:
        """Return the width of a text in pixels."""
        return int(self._mask(drawable(text, self._typefaces)).shape[1])

    def fit(self, text: str, width: int) -> str:
        """Return a text on one line, shortened with an ellipsis where it is wider than a width in pixels."""
        text = drawable(text, self._typefaces)
        if self.width(text) <= width:
            return text
        fits, cut = 0, len(text)
        while cut - fits > 1:
            middle = (fits + cut) // 2
            fits, cut = (middle, cut) if self.width(text[:middle] + ELLIPSIS) <= width else (fits, middle)
        return text[:fits].rstrip() + ELLIPSIS

    def draw(self, pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, colour: Colour) -> None:
        """Draw a text whose top left corner is given."""
        mask = self._mask(drawable(text, self._typefaces))
        if mask.shape[1]:
            pen.bitmap(corner, Image.fromarray(mask), fill=colour)

    def _render(self, text: str) -> NDArray[np.uint8]:
        """Return the (H, W) uint8 coverage of a text."""
        runs = list(_runs(text, self._typefaces))
        if len(runs) > 1 and any(map(is_right_to_left, text.split(" "))):
            # One typeface turns the whole line round; of several, each draws words.
            words = in_reading_order(text).replace(" ", "\0 \0").split("\0")
            runs = [run for word in words for run in _runs(word, self._typefaces)]
        empty = np.zeros((round(self._height * LINE), 0), np.uint8)
        return np.concatenate([empty, *(face.render(part, self._height) for face, part in runs)], axis=1)


def drawable(text: str, typefaces: Typefaces | None = None) -> str:
    """Return a text on one line, with invisible characters and those without a glyph as escapes.

    Letters with accents are composed, as macOS stores them apart.
    """
    known = typefaces or installed_typefaces()
    line = unicodedata.normalize("NFC", visible(text[:MAX_LINE_CHARACTERS]))
    return "".join(one if one in JOINERS or known.of(one) else escaped(one) for one in line)


def _runs(text: str, typefaces: Typefaces) -> Iterator[tuple[Typeface, str]]:
    """Yield parts of a text that one typeface draws; spaces, joiners and marks stay with what is before them."""
    face: Typeface = typefaces.first
    part = ""
    for character in text:
        stays = character.isspace() or character in JOINERS or (_is_mark(character) and face.has(character))
        own = face if stays and part else typefaces.of(character) or typefaces.first
        if own is not face and part:
            yield face, part
            part = ""
        face, part = own, part + character
    if part:
        yield face, part


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")
