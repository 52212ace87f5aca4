"""Contact sheets hold every face, of any size and with captions of any length."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from worker.pictures.sheets import SheetStyle, Tile, contact_sheet, contact_sheets, write_image, write_pages

GREEN = (10, 200, 60)


def tile(group="", captions=(), shape=(112, 112), colour=GREEN):
    return Tile(pixels=np.full((*shape, 3), colour, np.uint8), captions=captions, group=group)


def blocks(sheet, colour=GREEN):
    """How many pixels of the sheet have the colour."""
    return int((sheet == np.array(colour, np.uint8)).all(axis=2).sum())


def test_every_tile_is_drawn():
    side = SheetStyle().face - 12
    assert blocks(contact_sheet([tile() for _ in range(11)], "eleven", columns=4)) == 11 * side * side


def test_rows_follow_from_columns():
    heights = [contact_sheet([tile() for _ in range(count)], "t", columns=4).shape[0] for count in (1, 4, 5, 9)]
    assert heights[0] == heights[1] < heights[2] < heights[3]
    assert heights[3] - heights[2] == heights[2] - heights[1]


def test_small_groups_share_a_row_and_are_not_torn_apart():
    one_row = contact_sheet([tile("a"), tile("a"), tile("b"), tile("b")], "t", columns=4)
    two_rows = contact_sheet([tile("a"), tile("a"), tile("a"), tile("b"), tile("b")], "t", columns=4)
    assert two_rows.shape[0] > one_row.shape[0]
    assert two_rows.shape[1] == one_row.shape[1]


def test_a_long_group_runs_over_rows():
    assert contact_sheet([tile("a")] * 9, "t", columns=4).shape[0] > contact_sheet([tile("a")] * 8, "t", 4).shape[0]


@pytest.mark.parametrize("shape", [(1, 1), (300, 20), (20, 300), (112, 112), (7, 5)])
def test_any_shape_fits_its_square(shape):
    sheet = contact_sheet([tile(shape=shape)], "t", columns=1)
    side = SheetStyle().face - 12
    height, width = (max(1, round(length * side / max(shape))) for length in shape)
    assert blocks(sheet) == height * width


def test_long_text_is_cut_to_its_room():
    short = contact_sheet([tile("person 1", ("happiness 0.91",))], "t", columns=1)
    long = contact_sheet([tile("person 1" * 40, ("happiness 0.91 " * 40,))], "title " * 90, columns=1)
    assert short.shape == long.shape
    assert np.array_equal(short[:, -20:], long[:, -20:])  # nothing runs into the margin


def test_text_of_any_script_and_line_breaks_is_drawn():
    sheet = contact_sheet([tile("Zoë\nÅström 愛", ("a\tb",))], "Ünïcode \N{GRINNING FACE}", columns=2)
    assert sheet.dtype == np.uint8


def test_a_sheet_without_faces_says_so():
    sheet = contact_sheet([], "nobody", columns=3)
    assert sheet.ndim == 3
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 2


def test_no_column_is_refused():
    with pytest.raises(ValueError, match="got 0 columns"):
        contact_sheet([tile()], "t", columns=0)


def test_png_holds_the_same_pixels(tmp_path):
    sheet = contact_sheet([tile("a", ("female 0.98, 34 y",))], "t", columns=2)
    write_image(sheet, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert np.array_equal(np.asarray(image), sheet)


def test_pages_are_bounded_and_hold_every_tile_once():
    style = SheetStyle(page=700)
    tiles = [tile("a", (f"t{number}",)) for number in range(7)] + [tile("b")] * 2 + [tile("c")]
    pages = list(contact_sheets(tiles, "title", columns=2, style=style))
    assert len(pages) > 1
    assert all(page.shape[0] <= 700 for page in pages)
    assert sum(map(blocks, pages)) == blocks(contact_sheet(tiles, "title", columns=2, style=style))
    (whole,) = contact_sheets(tiles, "title", columns=2)
    assert np.array_equal(whole, contact_sheet(tiles, "title", columns=2))


def test_a_page_has_one_row_at_least_and_repeats_the_heading_of_its_group():
    style = SheetStyle(page=1)
    pages = list(contact_sheets([tile("a")] * 4, "", columns=2, style=style))
    assert len(pages) == 2
    assert [blocks(page) for page in pages] == [blocks(contact_sheet([tile("a")] * 2, "", columns=2))] * 2
    assert pages[0].shape == pages[1].shape  # with room for a heading
    top = style.margin + 2 * style.title
    assert np.array_equal(pages[0][top : top + 30], pages[1][top : top + 30])
    assert (pages[1][top : top + 30] == style.accent).all(axis=2).any()


def test_no_tile_is_one_page():
    assert len(list(contact_sheets([], "nobody"))) == 1


@pytest.mark.parametrize(
    ("suffix", "form"), [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("JPG", "JPEG"), ("webp", "WEBP")]
)
def test_the_ending_names_the_format(tmp_path, suffix, form):
    sheet = contact_sheet([tile("a")], "t", columns=2)
    write_image(sheet, tmp_path / f"sheet.{suffix}")
    with Image.open(tmp_path / f"sheet.{suffix}") as read:
        assert read.format == form
        assert read.size == (sheet.shape[1], sheet.shape[0])


def test_further_pages_lie_beside_the_first(tmp_path):
    pages = list(contact_sheets([tile("a")] * 3, "t", columns=1, style=SheetStyle(page=1)))
    written = write_pages(pages, tmp_path / "faces.jpg")
    assert [path.name for path in written] == ["faces.jpg", "faces-2.jpg", "faces-3.jpg"]
    assert sorted(tmp_path.iterdir()) == sorted(written)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_pages_of_a_longer_run_before_go_and_files_of_others_stay(tmp_path, ending):
    pages = list(contact_sheets([tile("a")] * 4, "t", columns=1, style=SheetStyle(page=1)))
    first = tmp_path / f"faces{ending}"
    Image.new("RGB", (8, 8)).save(tmp_path / f"faces-5{ending}")
    assert len(write_pages(pages, first)) == 4
    write_pages(pages[:2], first)
    kept = {f"faces{ending}", f"faces-2{ending}", f"faces-5{ending}"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    Image.new("RGB", (8, 8)).save(tmp_path / f"faces-2{ending}")
    write_pages(pages[:1], first)
    assert {path.name for path in tmp_path.iterdir()} == kept
