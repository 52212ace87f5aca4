"""Figures by size of the face: images are shrunk to small faces in a frame of a video.

The data sets hold faces of one size. So each image is shrunk by SCALES and put into the middle of a plain frame of
640 x 360 pixels, which the detector searches as it is. A face counts under the shorter side of its box in that frame. A
face that is not found counts under the side that it had at the largest scale at which it was found, shrunk likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from training.data.crops import read_image
from training.data.face_sets import UNKNOWN
from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import measure_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.release import Release
    from models.types import HeadOutput
    from training.data.face_sets import People

FRAME = (360, 640)  # height and width in pixels of the frame into which shrunken images are put
LARGEST = 256  # pixels of an image's longer side at scale 1; larger images are shrunk to it first
# Each about three fifths of the one before: a face of 100 pixels becomes one of 60, 36, 22 and 13.
SCALES = (1.0, 0.6, 0.36, 0.22, 0.13)
# Pixels of the shorter side of a face: from the first, below the second.
SIZE_BINS = ((0, 12), (12, 16), (16, 24), (24, 32), (32, 48), (48, 64), (64, 10_000))
# Faces, each measured at every scale: enough for intervals of some percent, and a minute or two on two cores.
MAX_FACES = 400
GREY = 117
FRAME_BATCH = 16  # frames per detector call


@dataclass(frozen=True, slots=True)
class _ScaleResult:
    """Results for N faces at one scale."""

    sides: NDArray[np.float32]
    """(N,) shorter side of the box in pixels; not a number where no face was found."""
    rows: NDArray[np.int64]
    """(M,) numbers of the faces that were found."""
    heads: Mapping[str, HeadOutput]
    """Answers for the M faces."""


def bin_name(bounds: tuple[int, int]) -> str:
    """Name a range of sizes: '24-31 px'."""
    first, end = bounds
    return f"{first} px or more" if end >= SIZE_BINS[-1][1] else f"{first}-{end - 1} px"


def size_findings(release: Release, faces: People) -> Findings:
    """Measure the share of faces of each size that is found, and gender, ethnicity and age of these."""
    rows = np.random.default_rng(0).permutation(len(faces))[:MAX_FACES]
    faces = faces[np.sort(rows)]
    images = [_reduced(read_image(path), LARGEST) for path in faces.paths()]
    results = [_measure_scale(release, [_scaled(image, scale) for image in images]) for scale in SCALES]
    return Findings(rows=tuple(row for bounds in SIZE_BINS for row in _bin_rows(results, faces, bounds)))


def _bin_rows(scales: list[_ScaleResult], faces: People, bounds: tuple[int, int]) -> list[Row]:
    """Average the results in one range of sizes over all scales."""
    expected = expected_sides(np.stack([one.sides for one in scales]))
    group = bin_name(bounds)
    found: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    for one, sides in zip(scales, expected, strict=True):
        inside = (sides >= bounds[0]) & (sides < bounds[1])
        found.setdefault(("detection", "faces found"), []).append(~np.isnan(one.sides[inside]))
        for place, rows, values in _judged(one.heads, faces[one.rows]):
            found.setdefault(place, []).append(values[inside[one.rows[rows]]])
    figures = {place: measure_mean(np.concatenate(values)) for place, values in found.items()}
    return [Row(faces.name, f"{task}, by size", name, figure, group) for (task, name), figure in figures.items()]


def expected_sides(sides: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill in the sides of faces that were not found: (S, N) with NaN, one row for each of SCALES.

    Faces that were found at no scale stay NaN.
    """
    scales = np.array(SCALES, dtype=np.float32)[:, None]
    known = ~np.isnan(sides)
    first = known.argmax(axis=0)
    columns = np.arange(sides.shape[1])
    full = sides[first, columns] / scales[first, 0]
    return np.where(known, sides, full * scales).astype(np.float32)


def _judged(
    heads: Mapping[str, HeadOutput], faces: People
) -> list[tuple[tuple[str, str], NDArray[np.int64], NDArray[np.float32]]]:
    """Return task and measure, the rows that have a label, and the outcome of each."""
    judged = []
    for task, truth in (("gender", faces.gender), ("ethnicity", faces.ethnicity)):
        if task in heads:
            rows = np.flatnonzero(truth != UNKNOWN)
            predicted = heads[task].probabilities.numpy()[rows].argmax(axis=1)
            judged.append(((task, "accuracy"), rows, (predicted == truth[rows]).astype(np.float32)))
    if "age" in heads:
        rows = np.flatnonzero(np.isfinite(faces.age))
        value = np.asarray(heads["age"].value, dtype=np.float32)[rows]
        judged.append((("age", "mean absolute error"), rows, np.abs(value - faces.age[rows])))
    return judged


def _measure_scale(release: Release, images: list[NDArray[np.uint8]]) -> _ScaleResult:
    """Find, align and infer the best face of each image, put into a frame."""
    sides = np.full(len(images), np.nan, dtype=np.float32)
    crops = [torch.zeros(0, 3, release.layout.side, release.layout.side, dtype=torch.uint8)]
    rows: list[int] = []
    for start in range(0, len(images), FRAME_BATCH):
        frames = torch.from_numpy(np.stack([_framed(image) for image in images[start : start + FRAME_BATCH]]))
        frames = frames.permute(0, 3, 1, 2).contiguous()
        found = release.find(frames)
        best = {frame: place for place, frame in reversed(list(enumerate(found.detections.frame.tolist())))}
        places = torch.tensor(sorted(best.values()), dtype=torch.int64)
        chosen = found.detections[places]
        numbers = [start + frame for frame in chosen.frame.tolist()]
        sides[numbers] = (chosen.boxes[:, 2:] - chosen.boxes[:, :2]).amin(dim=1).numpy()
        crops.append(found.crops[places])
        rows += numbers
    return _ScaleResult(sides, np.array(rows, dtype=np.int64), release.infer(torch.cat(crops)).heads)


def _reduced(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    return _scaled(image, min(1.0, longest / max(image.shape[:2])))


def _scaled(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale == 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _framed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put an (h, w, 3) image into the middle of a plain frame."""
    frame = np.full((*FRAME, 3), GREY, dtype=np.uint8)
    top, left = (FRAME[0] - image.shape[0]) // 2, (FRAME[1] - image.shape[1]) // 2
    frame[top : top + image.shape[0], left : left + image.shape[1]] = image
    return frame
