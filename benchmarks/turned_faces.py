"""Answers to faces that are turned in the plane of the image.

    .venv/bin/python benchmarks/turned_faces.py DATA [--release FOLDER ...]

Images of LFW's test people (DATA/lfw, folds 9 and 10 of View 2), one a person, are turned in steps of 15 degrees and
searched as images and as frames of a video. The reference is the same image upright. Prints the table of
docs/measured/detection.md for each release: how many turned images give the same person, another one, or nobody.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.nn import functional

from models.detection.finding import Search
from models.release import DEFAULT, Release, load_release
from training.data.face_sets import read_lfw_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

SAME = 0.363  # cosine from which on two faces are the same person's: the published threshold of SFace
STEP = 15  # degrees
BATCH = 4
MAX_OFF_CENTRE = 0.2  # of the side; LFW shows its person in the middle


@dataclass(frozen=True, slots=True)
class Way:
    """How images are searched."""

    name: str
    side: int
    portraits: int
    search: Search


WAYS = (
    Way("as images, 512 pixels", 512, 120, Search(thorough=True, max_tiles=64)),
    Way("as videos, 512 pixels", 512, 120, Search()),
    Way("as images, 128 pixels", 128, 60, Search(thorough=True, max_tiles=64)),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Turned images by what they gave."""

    same: int
    other: int
    dropped: int


def portraits(data: Path, count: int, seed: int) -> list[Path]:
    """Return one image each of so many test people, drawn by the seed."""
    images = read_lfw_images(data)
    paths = [path for path in images[images.rows("test")].paths() if path.name.endswith("_0001.jpg")]
    chosen = np.random.default_rng(seed).permutation(len(paths))[:count]
    return [paths[row] for row in chosen]


def turned(path: Path, side: int, angle: int) -> NDArray[np.uint8]:
    """Return an (S, S, 3) RGB image, turned about its middle; what comes into view is black."""
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path} is no image")
    image = cv2.resize(image[:, :, ::-1], (side, side), interpolation=cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), -angle, 1)
    return np.asarray(cv2.warpAffine(image, turn, (side, side)) if angle else image, dtype=np.uint8)


def embeddings(release: Release, way: Way, paths: Sequence[Path], angle: int) -> Iterator[Tensor]:
    """Yield for each image the (F, D) embeddings of unit length of the kept faces in its middle."""
    for start in range(0, len(paths), BATCH):
        frames = np.stack([turned(path, way.side, angle) for path in paths[start : start + BATCH]])
        with torch.inference_mode():
            faces = release.find(torch.from_numpy(frames).permute(0, 3, 1, 2), way.search)
            vectors = functional.normalize(release.infer(faces.crops).embeddings.float(), dim=1)
        boxes = faces.detections.boxes
        off = ((boxes[:, :2] + boxes[:, 2:]) / 2 - way.side / 2).norm(dim=1)
        kept = torch.tensor([reason is None for reason in faces.quality.dropped], dtype=torch.bool)
        kept &= off < way.side * MAX_OFF_CENTRE
        for row in range(len(frames)):
            yield vectors[kept & (faces.detections.frame == row)]


def measure(release: Release, way: Way, data: Path, seed: int) -> Counts:
    """Count what the turned images of a way give."""
    paths = portraits(data, way.portraits, seed)
    upright = list(embeddings(release, way, paths, 0))
    found = [row for row, vectors in enumerate(upright) if len(vectors)]
    same = other = dropped = 0
    for angle in range(STEP, 360, STEP):
        for row, vectors in zip(found, embeddings(release, way, [paths[row] for row in found], angle), strict=True):
            alike = float((vectors @ upright[row][0]).max()) if len(vectors) else None
            same += alike is not None and alike > SAME
            other += alike is not None and alike <= SAME
            dropped += alike is None
    return Counts(same, other, dropped)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--release", type=Path, action="append", help="folder; may be given again")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| release | searched | turned images | same person | another person | dropped |\n|---|---|---|---|---|---|")
    for folder in options.release or [DEFAULT]:
        release = load_release(folder, heads=frozenset())
        for way in WAYS:
            counts = measure(release, way, options.data, options.seed)
            total = counts.same + counts.other + counts.dropped
            print(
                f"| {folder.name} | {way.name} | {total:,} | {counts.same:,} | {counts.other:,} | {counts.dropped:,} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
