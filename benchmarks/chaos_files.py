"""Generated archives for ``chaos.py``: portraits of one person, and videos long enough that many workers share one."""

from __future__ import annotations

import io
import random
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from PIL import Image, ImageEnhance

from worker.cli.demo import build_archive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av.video.stream import VideoStream

FILM_SECONDS = 44  # with UNIT_SECONDS 22 units, more than four workers hold at a time
FILM_RATE = 25
UNIT_SECONDS = 2
SHOT_SECONDS = 11
SIDE = 320  # pixels of a video's frame


@dataclass(frozen=True, slots=True)
class BatchSize:
    """Counts of files in a batch, without an archive and damaged files."""

    stills: int
    films: int


def portraits() -> list[Image.Image]:
    """Return the portraits of the demonstration's archive."""
    with TemporaryDirectory() as folder:
        build_archive(Path(folder))
        paths = sorted(Path(folder).glob("portraits/*.jpg"))
        return [Image.open(path).convert("RGB") for path in paths]


def make_batch(folder: Path, seed: int, pictures: Sequence[Image.Image], size: BatchSize) -> None:
    """Write a batch of files; the same seed gives the same images."""
    chance = random.Random(seed)
    folder.mkdir(parents=True)
    for still in range(size.stills):
        name, options = chance.choice((("JPEG", {"quality": 88}), ("PNG", {}), ("WEBP", {"quality": 90})))
        _variant(chance.choice(pictures), chance).save(folder / f"still-{still:03}.{name.lower()}", name, **options)
    for clip in range(size.films):
        (folder / f"film-{clip:02}.mp4").write_bytes(_film(chance.choice(pictures), chance))
    whole = min(folder.glob("still-*")).read_bytes()
    (folder / "half.jpeg").write_bytes(whole[: len(whole) // 2])
    (folder / "note.txt").write_text("An archive holds such things too.")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        for still in range(5):
            content = io.BytesIO()
            _variant(chance.choice(pictures), chance).save(content, "JPEG")
            archive.writestr(f"inside-{still}.jpg", content.getvalue())


def _variant(picture: Image.Image, chance: random.Random) -> Image.Image:
    """Return the same person under another camera: cropped, turned, relit."""
    width, height = picture.size
    side = chance.uniform(0.75, 1.0)
    left, top = (chance.uniform(0, 1 - side) * length for length in (width, height))
    box = (left, top, left + side * width, top + side * height)
    small = picture.rotate(chance.uniform(-12, 12), Image.Resampling.BICUBIC).resize((400, 400), box=box)
    return ImageEnhance.Brightness(small).enhance(chance.uniform(0.7, 1.3))


def _film(picture: Image.Image, chance: random.Random) -> bytes:
    """Return a video whose camera glides over an image, with a cut to another view every few seconds."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = cast("VideoStream", container.add_stream("libx264", rate=FILM_RATE, options={"preset": "ultrafast"}))
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.gop_size = "yuv420p", FILM_RATE * UNIT_SECONDS
        views = [_variant(picture, chance) for _ in range(FILM_SECONDS // SHOT_SECONDS)]
        for number in range(FILM_RATE * FILM_SECONDS):
            shot, place = divmod(number, FILM_RATE * SHOT_SECONDS)
            shift = place // 8
            view = views[shot].crop((shift, shift, 340 + shift, 340 + shift)).resize((SIDE, SIDE))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(view), "rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()
