"""Any number of made photos of two people, and labels for them, for tests of training where no data set is.

Each is cut from a public-domain portrait of an installed package (sources in `worker/cli/demo.py`) in another frame and
light, so no two have the same bytes, and one number gives the same photo each time.
"""

from __future__ import annotations

import csv
import io
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PORTRAITS = {
    "collins": ("skimage.data", "astronaut.png"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
"""Package and file."""
HEADS = {"collins": (150, 30, 300, 200), "hopper": (180, 60, 350, 300)}
"""x1, y1, x2, y2 of the head in its portrait."""
NAMES = {"collins": "Eileen Collins", "hopper": "Grace Hopper"}
AGES = {"collins": 35, "hopper": 80}
"""Labels near what the shipped release says, so that a branch that learns them stays within the limits of the gate."""
SPLITS = {"train": range(1000, 1150), "val": range(1150, 1180), "test": range(1180, 1210)}
"""Numbers of labelled photos: enough to train for seconds, and for a verdict."""
SIDE = 160
"""Pixels of a photo."""
RACE_WHITE = 0
GENDER_FEMALE = 1
COLUMNS = ("file", "age", "gender", "race", "split", "dup")


@cache
def _portrait(name: str) -> Image.Image:
    package, file = PORTRAITS[name]
    return Image.open(io.BytesIO(files(package).joinpath(file).read_bytes())).convert("RGB")


def person(number: int) -> str:
    """Return whose photo a number is: two of three are the first person's."""
    return "hopper" if number % 3 == 2 else "collins"


def photo(number: int) -> Image.Image:
    """Return the photo of a number."""
    random = np.random.default_rng(number)
    x1, y1, x2, y2 = HEADS[person(number)]
    side = (y2 - y1) * random.uniform(1.15, 1.5)
    left = (x1 + x2 - side) / 2 + random.uniform(-0.08, 0.08) * side
    top = (y1 + y2 - side) / 2 + random.uniform(-0.08, 0.08) * side
    made = _portrait(person(number)).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC, box=_within(left, top, side, _portrait(person(number)).size)
    )
    made = ImageEnhance.Brightness(made).enhance(random.uniform(0.8, 1.2))
    return ImageEnhance.Contrast(made).enhance(random.uniform(0.85, 1.15))


def _within(left: float, top: float, side: float, size: tuple[int, int]) -> tuple[float, float, float, float]:
    left, top = min(max(left, 0.0), size[0] - side), min(max(top, 0.0), size[1] - side)
    return left, top, left + side, top + side


def write_photos(folder: Path, numbers: range) -> list[Path]:
    """Write photos as JPEG files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{number:04}-{person(number)}.jpg" for number in numbers]
    for number, path in zip(numbers, written, strict=True):
        photo(number).save(path, quality=92)
    return written


def write_labelled(data: Path, splits: Mapping[str, range], ages: Mapping[str, int]) -> None:
    """Write photos with labels in the layout of UTKFace: files by split, and the age of each person."""
    root = data / "utkface"
    root.mkdir(parents=True)
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for split, numbers in splits.items():
            for number, path in zip(numbers, write_photos(root / "images", numbers), strict=True):
                writer.writerow((path.name, ages[person(number)], GENDER_FEMALE, RACE_WHITE, split, ""))
