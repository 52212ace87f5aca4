"""Files to write are refused before any work."""

from __future__ import annotations

import os

import pytest

from worker.cli.output.images import check_image
from worker.errors import UsageError


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
