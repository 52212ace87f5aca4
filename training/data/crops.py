"""Aligned crops of labelled faces, found by the detector and cut by the aligner that users get, cached on disk.

The images of data sets are cut tightly or small, and no detector was trained for that. So each set has a ladder of
views: the image is resized and framed in black, and images in which no face is found go on to the next view. A face
that no view shows is cut at the median landmarks of the images of its set in which a face was found, and is counted.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from models.geometry import align
from models.trunks.sface import SFACE
from training.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from models.detection.detector import FaceDetector
    from models.trunks.base import TrunkLayout
    from models.types import Detections
    from training.data.face_sets import FaceSet

_log = logging.getLogger(__name__)

DETECT_BATCH = 64  # images per detector call; small images of one size
# Loss of score per image width between the centres of face and image: these sets label the face in the middle.
OFF_CENTRE_PENALTY = 1.0
# In ``found_by``: no view showed a face.
NOT_FOUND = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Size and margin of an image for the detector."""

    side: int
    """Pixels of the longer side after resizing."""
    margin: int
    """Pixels of black on each side, added after resizing."""


# Views of each set in the order in which they are tried: of the first four sets by recall on 400 images of each, of the
# others by the sizes of their images.
LADDERS: dict[str, tuple[View, ...]] = {
    "utkface": (View(side=128, margin=0), View(side=128, margin=32), View(side=256, margin=64)),
    "fer2013": (View(side=144, margin=48), View(side=96, margin=48), View(side=192, margin=64)),
    "celeba10k": (View(side=109, margin=0), View(side=218, margin=0), View(side=218, margin=40)),
    "lfw": (View(side=128, margin=0), View(side=256, margin=0), View(side=256, margin=64)),
    "fairface": (View(side=224, margin=0), View(side=224, margin=56), View(side=448, margin=0)),
    "adience": (View(side=256, margin=0), View(side=256, margin=64), View(side=480, margin=0)),
    "imdb_crop": (View(side=256, margin=0), View(side=256, margin=64), View(side=480, margin=0)),
    "celeba": (View(side=109, margin=0), View(side=218, margin=0), View(side=218, margin=40)),
    "lfwa": (View(side=128, margin=0), View(side=256, margin=0), View(side=256, margin=64)),
    "sfew": (View(side=256, margin=0), View(side=256, margin=64), View(side=480, margin=0)),
    "emotiw": (View(side=256, margin=0), View(side=256, margin=64), View(side=480, margin=0)),
    "rafdb": (View(side=112, margin=0), View(side=112, margin=32), View(side=224, margin=64)),
    "ckplus": (View(side=144, margin=48), View(side=256, margin=0), View(side=256, margin=64)),
    "film_faces": (View(side=128, margin=0), View(side=192, margin=64), View(side=256, margin=0)),
    "wiki_crop": (View(side=256, margin=0), View(side=256, margin=64), View(side=480, margin=0)),
}


@dataclass(frozen=True, slots=True)
class Crops:
    """Aligned faces of one data set, in its order."""

    pixels: NDArray[np.uint8]
    """(N, 3, S, S) RGB; S is the side of the trunk's crops."""
    found_by: NDArray[np.uint8]
    """(N,) number of the view that showed the face, or NOT_FOUND."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def missed(self) -> int:
        """Number of images in which no view showed a face."""
        return int(np.sum(self.found_by == NOT_FOUND))


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) RGB.

    Raises:
        DataError: it is missing or not an image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(f"{path} cannot be read as an image; restore the data set")
    return np.asarray(image, dtype=np.uint8)


def apply_view(image: NDArray[np.uint8], view: View) -> tuple[NDArray[np.uint8], float]:
    """Resize and frame an (H, W, 3) image; return it with the scale, in pixels of the view per pixel of the image."""
    height, width = image.shape[:2]
    scale = view.side / max(height, width)
    size = (round(width * scale), round(height * scale))
    resized = image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    margin = view.margin
    framed = cv2.copyMakeBorder(resized, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return np.asarray(framed, dtype=np.uint8), scale


def find_landmarks(
    images: list[NDArray[np.uint8]], detector: FaceDetector, views: tuple[View, ...]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Find the labelled face of each image, by score and distance from the middle.

    Returns:
        (N, 5, 2) landmarks in pixels of the image (NaN where none was found), and (N,) the number of the view that
        showed them.
    """
    landmarks = np.full((len(images), 5, 2), np.nan, dtype=np.float32)
    found_by = np.full(len(images), NOT_FOUND, dtype=np.uint8)
    for place, view in enumerate(views):
        for rows in _batches(images, np.flatnonzero(found_by == NOT_FOUND)):
            shown = [apply_view(images[row], view) for row in rows]
            frames = torch.from_numpy(np.stack([frame for frame, _ in shown])).permute(0, 3, 1, 2).contiguous()
            for number, points in _middle_faces(detector.detect(frames), frames.shape[2:]).items():
                landmarks[rows[number]] = (points - view.margin) / shown[number][1]
                found_by[rows[number]] = place
    return landmarks, found_by


def _batches(images: list[NDArray[np.uint8]], rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Group rows into batches of images of one size."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for row in rows.tolist():
        by_size.setdefault(images[row].shape, []).append(row)
    for same in by_size.values():
        for start in range(0, len(same), DETECT_BATCH):
            yield np.array(same[start : start + DETECT_BATCH])


def _middle_faces(faces: Detections, size: torch.Size) -> dict[int, NDArray[np.float32]]:
    """Return the landmarks of the best face of each frame that has one."""
    middle = torch.tensor([size[1] / 2, size[0] / 2])
    centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]).cpu() / 2
    merit = faces.scores.cpu() - OFF_CENTRE_PENALTY * (centres - middle).norm(dim=1) / size[1]
    best: dict[int, int] = {}
    for number in torch.argsort(merit, stable=True).tolist():
        best[int(faces.frame[number])] = number
    return {frame: faces.landmarks[number].cpu().numpy() for frame, number in best.items()}


def fill_missing(landmarks: NDArray[np.float32], sizes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill in faces that were not found with the median landmarks of the others, relative to (N, 2) width and height.

    Raises:
        DataError: no face was found at all.
    """
    missing = np.isnan(landmarks).any(axis=(1, 2))
    if not missing.any():
        return landmarks
    if missing.all():
        raise DataError(f"no face was found in any of {len(landmarks)} images; expected images of faces")
    typical = np.median(landmarks[~missing] / sizes[~missing, None], axis=0)
    filled = landmarks.copy()
    filled[missing] = typical * sizes[missing, None]
    return filled


def cut(
    images: list[NDArray[np.uint8]], landmarks: NDArray[np.float32], layout: TrunkLayout = SFACE
) -> NDArray[np.uint8]:
    """Cut (N, 3, S, S) crops, aligned for a trunk, from N (H, W, 3) images at (N, 5, 2) landmarks."""
    crops = no_crops(len(images), layout)
    template = torch.tensor(layout.template)
    for rows in _batches(images, np.arange(len(images))):
        frames = torch.from_numpy(np.stack([images[row] for row in rows])).permute(0, 3, 1, 2).contiguous()
        points = torch.from_numpy(landmarks[rows])
        crops[rows] = align(frames, torch.arange(len(rows)), points, template, layout.side).numpy()
    return crops


def no_crops(count: int, layout: TrunkLayout) -> NDArray[np.uint8]:
    """Return (count, 3, S, S) black crops."""
    return np.zeros((count, 3, layout.side, layout.side), dtype=np.uint8)


def crop_faces(faces: FaceSet, detector: FaceDetector, cache: Path | None = None, layout: TrunkLayout = SFACE) -> Crops:
    """Cut the faces of a data set, aligned for a trunk, or read them from the cache folder if they were cut before.

    Raises:
        DataError: an image cannot be read, or none shows a face.
    """
    if len(faces) == 0:
        return Crops(no_crops(0, layout), np.zeros(0, dtype=np.uint8))
    path = cache and cache / f"{faces.name}-{_crops_key(faces, detector, layout)}"
    if path and path.with_suffix(".found.npy").is_file():
        return Crops(np.load(path.with_suffix(".pixels.npy"), mmap_mode="r"), np.load(path.with_suffix(".found.npy")))
    images = [read_image(name) for name in faces.paths()]
    landmarks, found_by = find_landmarks(images, detector, LADDERS[faces.name])
    sizes = np.array([image.shape[1::-1] for image in images], dtype=np.float32)
    crops = Crops(cut(images, fill_missing(landmarks, sizes), layout), found_by)
    facts = {"action": "crops_cut", "set": faces.name, "faces": len(crops), "missed": crops.missed}
    _log.info("cut the faces of a data set", extra=facts)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path.with_suffix(".pixels.npy"), crops.pixels)
        np.save(path.with_suffix(".found.npy"), crops.found_by)  # last: if it is there, both are complete
    return crops


def _crops_key(faces: FaceSet, detector: FaceDetector, layout: TrunkLayout) -> str:
    """Return a hash of everything that the crops depend on, except for the pixels."""
    facts: dict[str, object] = {
        "files": hashlib.sha256("\n".join(faces.files.tolist()).encode()).hexdigest(),
        "root": str(faces.root.resolve()),
        "views": [asdict(view) for view in LADDERS[faces.name]],
        "detector": repr(detector.policy),
    }
    if layout.template != SFACE.template:
        facts["alignment"] = [layout.side, layout.template]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
