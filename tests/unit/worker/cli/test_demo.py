"""The demonstration's archive holds what its readers are promised, and equal bytes each time."""

from __future__ import annotations

import hashlib
import itertools
import zipfile
from typing import TYPE_CHECKING

import av
import pytest
from PIL import Image

from worker.cli import demo
from worker.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "archive"
    demo.build_archive(folder)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_second_build_gives_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    demo.build_archive(tmp_path)
    assert digests(tmp_path) == digests(archive)


def test_the_clip_cuts_between_two_women_twice(archive: Path) -> None:
    with av.open(archive / "films/two-pioneers.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(frames) == sum(round(shot.seconds * demo.CLIP_FRAMES_PER_SECOND) for shot in demo.CLIP) == 192
    assert frames[0].shape == (360, 640, 3)
    changes = [abs(b - a).mean() for a, b in itertools.pairwise(frames)]
    cuts = [index + 1 for index, change in enumerate(changes) if change > 40]
    assert cuts == [72, 132]


def test_the_gif_moves(archive: Path) -> None:
    with Image.open(archive / "films/admiral.gif") as gif:
        assert gif.n_frames == 12
        assert gif.size == demo.GIF_SIZE


def test_the_damaged_image_cannot_be_read(archive: Path) -> None:
    with (
        pytest.raises(OSError, match="truncated"),
        Image.open(archive / "damaged/half-a-picture.jpg") as image,
    ):
        image.load()


def test_the_zip_holds_a_duplicate_by_content(archive: Path) -> None:
    with zipfile.ZipFile(archive / "more.zip") as box:
        assert box.read("again/eileen-collins-copy.jpg") == (archive / "portraits/eileen-collins.jpg").read_bytes()
        assert "README.txt" in box.namelist()


def test_there_are_ten_photos_and_a_clip(tmp_path: Path) -> None:
    demo.build_photos(tmp_path / "first")
    demo.build_photos(tmp_path / "second")
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    suffixes = [path.suffix for path in (tmp_path / "first").iterdir()]
    assert len(suffixes) == 11
    assert suffixes.count(".mp4") == 1
    with Image.open(tmp_path / "first" / "both.jpg") as both:
        assert both.size == (1024, 512)
    with pytest.raises(OSError, match="truncated"), Image.open(tmp_path / "first" / "hopper-half.jpg") as half:
        half.load()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo.SAMPLE_IMAGES, "coffee", ("no_such_package", "coffee.png"))
    with pytest.raises(UsageError, match="no_such_package: pip install"):
        demo.build_archive(tmp_path)
