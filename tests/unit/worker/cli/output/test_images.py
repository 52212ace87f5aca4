"""Files to write are refused before any work, and pages are named."""

from __future__ import annotations

import os

import numpy as np
import pytest

from worker.cli.output.images import check_image, write_sheets
from worker.errors import UsageError
from worker.pictures.sheets import Tile


@pytest.mark.parametrize("name", ["faces.png", "faces.JPG", "a b.jpeg", "faces.webp"])
def test_a_place_where_an_image_can_be_written(tmp_path, name):
    check_image(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("faces.gif", "ends in '.gif', expected one of .png"),
        ("faces", "ends in '', expected"),
        ("missing/faces.png", "missing is no folder"),
        ("folder.png", "is a folder, expected a file"),
        ("folder.png/../file/faces.png", "is no folder"),
    ],
)
def test_a_place_where_none_can_be_is_refused(tmp_path, name, found):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=found):
        check_image(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot be written; fix permissions"):
        check_image(tmp_path / "faces.png")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("count", "printed"),
    [
        (3, "3 faces drawn to {0}/a.png"),
        (30, "30 faces drawn to {0}/a.png and a-2.png"),
        (60, "60 faces drawn to {0}/a.png and 2 further pages, up to a-3.png"),
    ],
)
def test_the_pages_of_a_sheet_are_named(tmp_path, capsys, count, printed):
    tiles = [Tile(pixels=np.zeros((9, 9, 3), np.uint8), captions=("x",)) for _ in range(count)]
    write_sheets(tiles, "Faces", tmp_path / "a.png", columns=1)
    assert capsys.readouterr().out.replace("\n", "") == printed.format(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1 + count // 30
