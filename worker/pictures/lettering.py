r"""Letters on drawn images: OpenCV's fonts, which have Latin, Greek, Cyrillic, Hebrew, Arabic and East Asian text.

Pillow's built-in font lacks even accents. A character without a glyph here is written as an escape such as
``\u0939``: a question mark or an empty box would make two names look alike.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from worker.visible import escaped, visible

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import ImageDraw

    Colour = tuple[int, int, int]

ELLIPSIS = "..."
MAX_CHARACTERS = 500  # of one line; longer text is cut before it is measured
_WEIGHT = 400  # regular
_ASCENT, _LINE = 1.1, 1.5  # of the height of the letters: baseline and room of a line that keeps accents and tails


class Lettering:
    """Draws single lines of text of one height.

    Args:
        height: of the letters in pixels.
    """

    def __init__(self, height: int) -> None:
        self._height = height
        self._mask = lru_cache(maxsize=256)(self._render)

    def width(self, text: str) -> int:
        """Return the width of a text in pixels."""
        return int(self._mask(drawable(text)).shape[1])

    def fit(self, text: str, width: int) -> str:
        """Return a text on one line, shortened with an ellipsis where it is wider than a width in pixels."""
        text = drawable(text)
        if self.width(text) <= width:
            return text
        fits, cut = 0, len(text)
        while cut - fits > 1:
            middle = (fits + cut) // 2
            fits, cut = (middle, cut) if self.width(text[:middle] + ELLIPSIS) <= width else (fits, middle)
        return text[:fits].rstrip() + ELLIPSIS

    def draw(self, pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, colour: Colour) -> None:
        """Draw a text whose top left corner is given."""
        mask = self._mask(drawable(text))
        if mask.shape[1]:
            pen.bitmap(corner, Image.fromarray(mask), fill=colour)

    def _render(self, text: str) -> NDArray[np.uint8]:
        """Return the (H, W) uint8 coverage of a text."""
        size = self._height
        mask = np.zeros((round(size * _LINE), (len(text) + 2) * size * 2), np.uint8)
        end, _ = cv2.putText(mask, _in_reading_order(text), (0, round(size * _ASCENT)), (255,), _font(), size, _WEIGHT)
        return mask[:, : end[0]]


def drawable(text: str) -> str:
    """Return a text on one line, with invisible characters and those without a glyph as escapes."""
    line = visible(text[:MAX_CHARACTERS])
    return "".join(character if _is_known(character) else escaped(character) for character in line)


def _in_reading_order(text: str) -> str:
    """Return a text with neighbouring right-to-left words exchanged: OpenCV turns letters round within a word only."""
    runs = groupby(text.split(" "), key=_is_right_to_left)
    return " ".join(" ".join(reversed(list(words)) if turned else words) for turned, words in runs)


def _is_right_to_left(word: str) -> bool:
    strong = (kind for kind in map(unicodedata.bidirectional, word) if kind in {"L", "R", "AL"})
    return next(strong, "L") != "L"


@cache
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")


@lru_cache(maxsize=4096)
def _is_known(character: str) -> bool:
    """Return whether the fonts have a glyph: for any other character they draw a question mark."""
    return character.isascii() or not np.array_equal(_glyph(character), _glyph("?"))


@lru_cache(maxsize=8)
def _glyph(character: str) -> NDArray[np.uint8]:
    mask = np.zeros((48, 96), np.uint8)
    cv2.putText(mask, character, (8, 36), (255,), _font(), 24, _WEIGHT)
    return mask
