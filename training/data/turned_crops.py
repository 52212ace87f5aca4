"""Training data of the orientation model: upright faces, and what the detector makes of them in turned images.

Two things are kept of each face. A *patch* shows it on the template with its surroundings; crops at any angle are drawn
from it while training. *Crops* are cut by the detector out of the same image after it was turned by a random angle. The
true landmarks are turned along: they show whether those of the detector are right.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np
import torch
from torch.nn import functional

from models.detection.orientation import SIDE
from models.geometry import ARCFACE_SIDE, ARCFACE_TEMPLATE, align, similarity_transforms
from training.data.crops import read_image
from training.data.face_sets import UNKNOWN, read_celeba, read_lfw_images, read_utkface
from training.errors import unknown_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from models.detection.detector import FaceDetector
    from training.data.face_sets import FaceSet, Split

_log = logging.getLogger(__name__)

PATCH_SIDE = 160  # pixels
PATCH_FACE = 64  # pixels in the middle of a patch that an upright crop shows
ORIENTATION_SETS: dict[str, Callable[[Path], FaceSet]] = {
    "celeba10k": read_celeba,
    "lfw": read_lfw_images,
    "utkface": read_utkface,
}
TURNS = {"celeba10k": 2, "lfw": 2, "utkface": 1}  # turned images of each face

ENLARGED = (1.2, 3.2)  # longer sides of the images, as multiples of 128 pixels
MARGIN = 0.35  # on each side, as a share of the longer one
ZOOM = (0.85, 1.05)  # of a turned image
BORDERS = (cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT)

MIN_SCORE = 0.9  # of the face in the image as it is
MIN_CONFIRMED = 0.8  # the same in its own crop
MAX_OFF_CENTRE = 0.2  # of the frame's side; these sets show their face in the middle
MAX_ROLL = math.radians(25)  # up to which the landmarks of an image as it is are taken for the truth

UPRIGHT_ANGLE = math.radians(13)  # between true and found landmarks, up to which a crop counts as upright
UPRIGHT_MISFIT = 9.0  # crop pixels between true landmarks and template, likewise
TURNED_ANGLE = math.radians(25)  # from which on a crop counts as turned
TURNED_MISFIT = 22.0  # crop pixels, likewise: the face lies elsewhere or has another size


@dataclass(frozen=True, slots=True)
class TurnedCrops:
    """Grey patches of P faces, and M crops of turned images of these faces."""

    patches: NDArray[np.uint8]
    """(P, 160, 160): the face is upright, its crop covers the 64 pixels in the middle."""
    crops: NDArray[np.uint8]
    """(M, 56, 56), as the detector cut them."""
    upright: NDArray[np.bool_]
    """(M,) whether the crop shows an upright face; else it is turned, or misplaced."""

    def __post_init__(self) -> None:
        if len(self.crops) != len(self.upright):
            raise ValueError(f"got {len(self.crops)} crops and {len(self.upright)} labels, expected as many")

    @classmethod
    def cat(cls, parts: Iterable[Self]) -> Self:
        """Join parts; of none, nothing."""
        every = tuple(parts)
        patches = [np.zeros((0, PATCH_SIDE, PATCH_SIDE), dtype=np.uint8), *(part.patches for part in every)]
        crops = [np.zeros((0, SIDE, SIDE), dtype=np.uint8), *(part.crops for part in every)]
        upright = [np.zeros(0, dtype=np.bool_), *(part.upright for part in every)]
        return cls(np.concatenate(patches), np.concatenate(crops), np.concatenate(upright))


def draw_faces(data: Path, names: Sequence[str], split: Split, count: int, seed: int) -> list[FaceSet]:
    """Draw at most so many faces of a split from several sets together.

    Raises:
        DataError: a set is missing.
        RecipeError: a set is unknown.
    """
    if unknown := sorted(set(names) - set(ORIENTATION_SETS)):
        raise unknown_names("faces of", unknown, ORIENTATION_SETS)
    sets = [ORIENTATION_SETS[name](data) for name in names]
    sets = [faces[faces.rows(split)] for faces in sets]
    of_set = np.repeat(np.arange(len(sets)), [len(faces) for faces in sets])
    chosen = np.sort(np.random.default_rng(seed).permutation(len(of_set))[:count])
    starts = np.searchsorted(of_set, np.arange(len(sets)))
    return [faces[chosen[of_set[chosen] == n] - starts[n]] for n, faces in enumerate(sets)]


def cut_turned(faces: FaceSet, detector: FaceDetector, cache: Path, seed: int = 0) -> TurnedCrops:
    """Cut patches and crops of a data set, or read them from the cache folder if they were cut before.

    Raises:
        DataError: an image cannot be read.
    """
    path = cache / f"turned-{faces.name}-{_key(faces, detector, seed)}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return TurnedCrops(stored["patches"], stored["crops"], stored["upright"])
    paths, turns = faces.paths(), TURNS.get(faces.name, 1)
    parts = [
        cut_face(read_image(name), detector, turns, np.random.default_rng((seed, n))) for n, name in enumerate(paths)
    ]
    found = TurnedCrops.cat(parts)
    facts = {"action": "turned_cut", "set": faces.name, "faces": len(found.patches), "crops": len(found.crops)}
    _log.info("cut the faces of turned images", extra=facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, patches=found.patches, crops=found.crops, upright=found.upright)
    partial.replace(path)
    return found


def cut_face(image: NDArray[np.uint8], detector: FaceDetector, turns: int, random: np.random.Generator) -> TurnedCrops:
    """Cut the patch of the face in the middle of an image, and its crops in turned copies; nothing if none is sure.

    Args:
        image: (H, W, 3) RGB.
        detector: finds the face.
        turns: turned copies.
        random: draws size, border and angles.
    """
    border = int(random.choice(BORDERS))
    frame = enlarge(image, border, random)
    landmarks = find_upright(frame, detector)
    if landmarks is None:
        return TurnedCrops.cat([])
    parts = [_turned(frame, landmarks, detector, border, random) for _ in range(turns)]
    return TurnedCrops.cat([TurnedCrops.cat(parts), _patch(frame, landmarks)])


def enlarge(image: NDArray[np.uint8], border: int, random: np.random.Generator) -> Tensor:
    """Resize an (H, W, 3) image and pad it to a square: (1, 3, S, S) uint8."""
    scale = random.uniform(*ENLARGED) * 128 / max(image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)
    height, width = resized.shape[:2]
    side = max(height, width) + 2 * int(MARGIN * max(height, width))
    top, left = (side - height) // 2, (side - width) // 2
    grey = [float(random.integers(256))] * 3
    framed = cv2.copyMakeBorder(resized, top, side - height - top, left, side - width - left, border, value=grey)
    return _frames(framed)


def find_upright(frame: Tensor, detector: FaceDetector) -> Tensor | None:
    """Return the (5, 2) landmarks of the face in the middle of a (1, 3, S, S) frame, if it is surely upright there."""
    found = detector.detect(frame)
    if not len(found):
        return None
    side = frame.shape[-1]
    off = ((found.boxes[:, :2] + found.boxes[:, 2:]) / 2 - side / 2).norm(dim=1)
    face = found[off.argmin()[None]]
    near = bool(off.min() <= MAX_OFF_CENTRE * side) and bool(face.scores[0] >= MIN_SCORE)
    if not near or float(_angles(face.landmarks, ARCFACE_TEMPLATE)[0]) > MAX_ROLL:
        return None
    confirmed = detector.confirm(align(frame, face.frame, face.landmarks))
    return face.landmarks[0] if bool(confirmed[0] >= MIN_CONFIRMED) else None


def label_crops(true: Tensor, found: Tensor) -> Tensor:
    """Judge crops that are cut by found landmarks.

    Args:
        true: (5, 2) where the landmarks are.
        found: (N, 5, 2) where the detector places them.

    Returns:
        (N,) int64: 1 if the crop shows an upright face in its place, 0 if not, UNKNOWN between the two.
    """
    to_crop = similarity_transforms(found, ARCFACE_TEMPLATE)
    placed = true @ to_crop[:, :, :2].mT + to_crop[:, None, :, 2]
    misfit = (placed - ARCFACE_TEMPLATE).square().sum(2).mean(1).sqrt()
    angle = _angles(found, true)
    labels = torch.full((len(found),), UNKNOWN, dtype=torch.int64)
    labels[(angle <= UPRIGHT_ANGLE) & (misfit <= UPRIGHT_MISFIT)] = 1
    labels[(angle >= TURNED_ANGLE) | (misfit >= TURNED_MISFIT)] = 0
    return labels


def _turned(
    frame: Tensor, landmarks: Tensor, detector: FaceDetector, border: int, random: np.random.Generator
) -> TurnedCrops:
    """Turn a frame by a random angle and cut what the detector takes for its face."""
    side = frame.shape[-1]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), random.uniform(-180, 180), random.uniform(*ZOOM))
    pixels = frame[0].permute(1, 2, 0).numpy()
    turned = _frames(cv2.warpAffine(pixels, matrix, (side, side), borderMode=border))
    move = torch.from_numpy(matrix).float()
    true = landmarks @ move[:, :2].T + move[:, 2]
    found = detector.detect(turned)
    eyes = (true[0] - true[1]).norm()
    found = found[(found.landmarks.mean(1) - true.mean(0)).norm(dim=1) <= eyes]
    labels = label_crops(true, found.landmarks)
    found, labels = found[labels != UNKNOWN], labels[labels != UNKNOWN]
    crops = align(turned, found.frame, found.landmarks)
    grey = functional.avg_pool2d(crops.float().mean(1, keepdim=True), ARCFACE_SIDE // SIDE)[:, 0]
    nothing = np.zeros((0, PATCH_SIDE, PATCH_SIDE), dtype=np.uint8)
    return TurnedCrops(nothing, _bytes(grey), labels.numpy() == 1)


def _patch(frame: Tensor, landmarks: Tensor) -> TurnedCrops:
    template = ARCFACE_TEMPLATE * (PATCH_FACE / ARCFACE_SIDE) + (PATCH_SIDE - PATCH_FACE) / 2
    patch = align(frame, torch.zeros(1, dtype=torch.int64), landmarks[None], template, PATCH_SIDE)
    nothing = np.zeros((0, SIDE, SIDE), dtype=np.uint8)
    return TurnedCrops(_bytes(patch.float().mean(1)), nothing, np.zeros(0, dtype=np.bool_))


def _angles(landmarks: Tensor, others: Tensor) -> Tensor:
    """Return the (N,) angles, 0..pi, by which (N, 5, 2) landmarks are turned against (5, 2) others."""
    fitted = similarity_transforms(landmarks, others)
    return torch.atan2(fitted[:, 1, 0], fitted[:, 0, 0]).abs()


def _frames(image: NDArray[np.generic]) -> Tensor:
    """Turn an (H, W, 3) image into a batch of one frame."""
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.uint8)).permute(2, 0, 1)[None].contiguous()


def _bytes(grey: Tensor) -> NDArray[np.uint8]:
    return np.asarray(grey.round().byte().numpy(), dtype=np.uint8)


def _key(faces: FaceSet, detector: FaceDetector, seed: int) -> str:
    """Name everything that the crops depend on, but pixels and weights."""
    facts: dict[str, object] = {
        "files": hashlib.sha256("\n".join(faces.files.tolist()).encode()).hexdigest(),
        "root": str(faces.root.resolve()),
        "detector": repr(detector.policy),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
