"""Typefaces: the shipped one has the scripts that it promises, others come from the system, and words are turned."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from worker.pictures.fonts.typefaces import SHIPPED_FONT, FontFile, OpenCvFont, Typefaces, turned

TIFINAGH = "\u2d30"  # in DejaVu Sans, not in the shipped part of it, nor in OpenCV's font


@pytest.fixture
def system(tmp_path):
    """A folder with a font of a script that is not shipped, and with files that are no fonts."""
    matplotlib = pytest.importorskip("matplotlib")
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    (tmp_path / "truetype").mkdir()
    for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"):
        shutil.copy(fonts / name, tmp_path / "truetype" / name)
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    (tmp_path / "fonts.dir").write_text("0")
    return tmp_path


def test_the_shipped_font_has_latin_greek_and_cyrillic():
    shipped = FontFile(SHIPPED_FONT)
    blocks = [
        (0x20, 0x7F),
        (0xA1, 0x180),
        (0x388, 0x38B),
        (0x391, 0x3A2),
        (0x3A3, 0x3CF),
        (0x400, 0x460),
        (0x1EA0, 0x1EFA),
    ]
    lacking = [chr(code) for first, last in blocks for code in range(first, last) if not shipped.has(chr(code))]
    assert lacking == []
    assert not shipped.has(TIFINAGH)
    assert not shipped.has("山")


def test_a_character_is_drawn_in_the_first_typeface_that_has_it(system):
    faces = Typefaces(folders=(system,))
    assert faces.of("ж") is faces.first
    assert isinstance(faces.of("山"), OpenCvFont)
    found = faces.of(TIFINAGH)
    assert isinstance(found, FontFile)
    assert found._path.name == "DejaVuSans.ttf"  # the regular one, not the bold one
    assert found.render(TIFINAGH, 20).any()
    assert faces.of("\u13e3") is None  # Cherokee


def test_without_fonts_of_a_system_only_the_own_ones_answer(tmp_path):
    assert Typefaces(folders=()).of(TIFINAGH) is None
    assert Typefaces(folders=(tmp_path / "missing",)).of(TIFINAGH) is None


def test_letters_of_hebrew_stand_from_right_to_left_with_and_without_raqm():
    plain = FontFile(SHIPPED_FONT, shapes=False)
    assert turned("יוחנן כהן") == "ןהכ ןנחוי"
    assert turned("Dr. כהן (שלום)") == "Dr. (םולש) ןהכ"
    first = plain.render("כ", 40)
    line = plain.render("כהן", 40)
    assert np.array_equal(line[:, -first.shape[1] + 2 :][:, :-2], first[:, 2:][:, :-2])
    assert abs(FontFile(SHIPPED_FONT).render("יוחנן כהן", 40).shape[1] - plain.render("יוחנן כהן", 40).shape[1]) <= 4


def test_marks_stay_on_their_letters_when_a_word_is_turned():
    assert turned("שָׁב") == "ב" + "שָׁ"
