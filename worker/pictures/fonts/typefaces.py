"""Typefaces in which text is drawn, and which of them has a character.

The first that has it is taken: the shipped one (Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew, Arabic), that of
OpenCV (Han, kana, Hangul), then the fonts that the system has. The shipped one is a part of DejaVu Sans:

    python -m fontTools.subset DejaVuSans.ttf --output-file=DejaVuSans-subset.ttf --layout-features='*' --no-hinting
    --name-IDs='*' --unicodes=0020-007E,00A0-024F,02B0-036F,0370-03FF,0400-052F,0531-058F,0591-05F4,0606-06FF,10D0-10FF,
    1E00-1EFF,1F00-1FFF,200C-200D,2010-2027,2030-203A,20A0-20C0,2116,2122,2190-2193,FB00-FB06,FB1D-FB4F,FE70-FEFC
"""

from __future__ import annotations

import math
import unicodedata
from functools import cache, cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Coverage = NDArray[np.uint8]

SHIPPED_FONT = Path(__file__).with_name("DejaVuSans-subset.ttf")
SYSTEM_FOLDERS = (
    Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path("~/.local/share/fonts"), Path("~/.fonts"),
    Path("/System/Library/Fonts"), Path("/Library/Fonts"), Path("~/Library/Fonts"), Path("C:/Windows/Fonts"),
)  # fmt: skip
FONT_SUFFIXES = {".ttf", ".otf", ".ttc"}
STYLES = ("bold", "italic", "oblique", "light", "mono", "condensed")  # in file names; regular fonts come first
ASCENT, LINE = 1.1, 1.5  # of the height of the letters: baseline and room of a line that keeps accents and tails
_PROBE = 24  # pixels; the height at which glyphs are compared
_NO_CHARACTER = "\U0010fffe"  # never assigned, so that each font draws its sign for a missing glyph
_WEIGHT = 400  # regular
_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")


class Typeface(Protocol):
    """Draws the characters that it has."""

    def has(self, character: str) -> bool:
        """Return whether it has a glyph for a character."""

    def render(self, text: str, height: int) -> Coverage:
        """Return the (H, W) coverage of a text; the baseline is where ``ASCENT`` says."""


class FontFile:
    """A font in a file.

    Letters are joined and placed by Raqm. Where that is absent (it needs FriBidi), words from right to left are turned
    round here, and their letters stand unjoined.
    """

    def __init__(self, path: Path, *, shapes: bool | None = None) -> None:
        """Take the file; ``shapes`` says whether Raqm is used, by default where it is there."""
        self._path = path
        self._shapes = features.check_feature("raqm") if shapes is None else shapes
        self._at = lru_cache(maxsize=8)(self._load)

    @cached_property
    def _probe(self) -> ImageFont.FreeTypeFont | None:
        """Return the font at the height at which glyphs are compared; None where it has no outlines or is damaged."""
        try:
            return ImageFont.truetype(str(self._path), _PROBE, layout_engine=ImageFont.Layout.BASIC)
        except OSError:
            return None

    @cached_property
    def _missing(self) -> bytes:
        return self._glyph(_NO_CHARACTER)

    def _glyph(self, character: str) -> bytes:
        return b"" if self._probe is None else bytes(self._probe.getmask(character))

    def has(self, character: str) -> bool:
        """Return whether a character looks different from a missing one; spaces count as there."""
        return character.isspace() or self._glyph(character) not in {b"", self._missing}

    def render(self, text: str, height: int) -> Coverage:
        """Return the (H, W) coverage of a text."""
        font = self._at(height)
        line = text if self._shapes else turned(text)
        left, _, right, _ = font.getbbox(line, anchor="ls")
        start = max(0, math.ceil(-left))
        width = start + max(math.ceil(right), round(font.getlength(line)))
        image = Image.new("L", (width, round(height * LINE)))
        ImageDraw.Draw(image).text((start, round(height * ASCENT)), line, fill=255, font=font, anchor="ls")
        return np.asarray(image)

    def _load(self, height: int) -> ImageFont.FreeTypeFont:
        layout = ImageFont.Layout.RAQM if self._shapes else ImageFont.Layout.BASIC
        return ImageFont.truetype(str(self._path), height, layout_engine=layout)


class OpenCvFont:
    """The font in OpenCV, which has East Asian text."""

    def has(self, character: str) -> bool:
        """Return whether a character is drawn as anything but a question mark."""
        return not np.array_equal(_opencv_glyph(character), _opencv_glyph("?"))

    def render(self, text: str, height: int) -> Coverage:
        """Return the (H, W) coverage of a text."""
        mask = np.zeros((round(height * LINE), (len(text) + 2) * height * 2), np.uint8)
        end, _ = cv2.putText(mask, text, (0, round(height * ASCENT)), (255,), _opencv_font(), height, _WEIGHT)
        return mask[:, : end[0]]


class Typefaces:
    """All typefaces, in the order in which they are asked for a character.

    Args:
        folders: of the system's fonts, with the folders in them.
    """

    def __init__(self, folders: Sequence[Path] = SYSTEM_FOLDERS) -> None:
        self._folders = folders
        self.first = FontFile(SHIPPED_FONT)
        self._own: tuple[Typeface, ...] = (self.first, OpenCvFont())
        self._used: list[Typeface] = []
        self.of = lru_cache(maxsize=4096)(self._find)

    def _find(self, character: str) -> Typeface | None:
        """Return the first typeface that has a character; None where there is none."""
        asked = (*self._own, *self._used)
        found = next((face for face in asked if face.has(character)), None)
        if found is None:
            found = next((face for face in self._of_system if face.has(character)), None)
            self._used += [found] if found else []
        return found

    @cached_property
    def _of_system(self) -> tuple[FontFile, ...]:
        files = (path for folder in self._folders for path in folder.expanduser().rglob("*"))
        fonts = (path for path in files if path.suffix.lower() in FONT_SUFFIXES)
        return tuple(map(FontFile, sorted(fonts, key=_plain_first)))


def _plain_first(path: Path) -> tuple[bool, str]:
    return any(style in path.stem.lower() for style in STYLES), str(path)


@cache
def installed_typefaces() -> Typefaces:
    """Return the typefaces of this machine."""
    return Typefaces()


def in_reading_order(text: str) -> str:
    """Return a text with neighbouring right-to-left words exchanged, for a font that turns letters within words."""
    runs = groupby(text.split(" "), key=is_right_to_left)
    return " ".join(" ".join(reversed(list(words)) if turned else words) for turned, words in runs)


def turned(text: str) -> str:
    """Return a text as it is seen from left to right, for a font that turns nothing round."""
    words = in_reading_order(text).split(" ")
    return " ".join(_reversed(word) if is_right_to_left(word) else word for word in words)


def is_right_to_left(text: str) -> bool:
    """Return whether the first letter is written from right to left."""
    strong = (kind for kind in map(unicodedata.bidirectional, text) if kind in {"L", "R", "AL"})
    return next(strong, "L") != "L"


def _reversed(word: str) -> str:
    """Return the letters of a word from the last to the first, each with the marks on it."""
    letters = list[str]()
    for character in word:
        if letters and unicodedata.combining(character):
            letters[-1] += character
        else:
            letters.append(character)
    return "".join(reversed(letters)).translate(_MIRRORED)


@cache
def _opencv_font() -> cv2.FontFace:
    return cv2.FontFace("sans")


@lru_cache(maxsize=8)
def _opencv_glyph(character: str) -> Coverage:
    mask = np.zeros((48, 96), np.uint8)
    cv2.putText(mask, character, (8, 36), (255,), _opencv_font(), _PROBE, _WEIGHT)
    return mask
