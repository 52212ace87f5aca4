"""Which files --include and --exclude take, and that neither opens the others."""

from __future__ import annotations

import pytest

from worker.ingest import FoundFile, IngestOptions, discover
from worker.ingest.selection import FileSelection
from worker.ingest.survey import survey

JPEG = b"\xff\xd8\xff\xe0" + bytes(64)
MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(64)
ZIP = b"PK\x05\x06" + bytes(18)


@pytest.mark.parametrize(
    ("include", "exclude", "path", "taken"),
    [
        ((), (), "a/b.jpg", True),
        (("*.jpg",), (), "a/B.JPG", True),
        (("*.jpg",), (), "a/b.png", False),
        (("a",), (), "a/deep/b.png", True),
        (("a/*.png",), (), "a/b.png", True),
        (("a/*.png",), (), "c/a/b.png", False),
        ((), ("thumbs",), "a/thumbs/b.jpg", False),
        ((), ("thumbs/",), "a/thumbs/b.jpg", False),
        ((), ("a/thumbs",), "a/thumbs/b.jpg", False),
        ((), ("a/thumbs",), "b/thumbs/b.jpg", True),
        (("*.jpg",), ("b*",), "a/b.jpg", False),
        (("*.jpg", "*.png"), (), "b.png", True),
    ],
)
def test_patterns_fit_names_and_paths_of_files_and_folders(include, exclude, path, taken):
    chosen = FileSelection(include, exclude)
    assert chosen.takes(path) is taken
    assert chosen.left_out == (not taken)


@pytest.fixture
def folder(tmp_path):
    for name, content in {
        "a.jpg": JPEG, "deep/b.jpg": JPEG, "deep/film.mp4": MP4, "box.zip": ZIP, "notes.txt": b"text",
        "deep/.DS_Store": b"\0\0\0\x01Bud1", "deep/secret.jpg": JPEG,
    }.items():  # fmt: skip
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    return tmp_path / "in"


def test_only_selected_files_are_read(folder, tmp_path):
    options = IngestOptions(selection=FileSelection(("*.jpg",), ("secret*",)))
    found = list(discover([str(folder)], options, tmp_path / "staging"))
    assert [item.uri.removeprefix(f"{folder}/") for item in found] == ["a.jpg", "deep/b.jpg"]
    assert all(isinstance(item, FoundFile) for item in found)
    assert options.selection.left_out == 5


def test_a_file_that_is_named_itself_is_selected_by_its_name(folder, tmp_path):
    options = IngestOptions(selection=FileSelection(exclude=("*.txt",)))
    assert list(discover([str(folder / "notes.txt")], options, tmp_path / "staging")) == []


def test_a_survey_counts_by_content_and_reads_no_file_to_its_end(folder):
    (folder / "deep" / "link.jpg").symlink_to(folder / "a.jpg")
    options = IngestOptions(selection=FileSelection(exclude=("secret*",)))
    found = survey([str(folder)], options)
    assert (found.images, found.archives, found.sidecars, found.others) == (2, 1, 1, 2)
    assert found.videos == [str(folder / "deep" / "film.mp4")]
    assert found.byte_size == 2 * len(JPEG) + len(MP4) + len(ZIP)
