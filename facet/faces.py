"""Faces of single images, without a database."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.types import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from models.branches import BranchSpec
    from models.detection.finding import Faces
    from models.release import Release
    from models.types import FaceOutputs, HeadOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The prediction of one head for one face."""

    label: str | None
    """The most probable label, ``unknown`` where the head abstains; None for age and attributes."""
    confidence: float | None
    """Probability of the most probable label; None for age and attributes."""
    probabilities: Mapping[str, float]
    """By label. They sum to 1, except for attributes, where each stands alone."""
    value: float | None = None
    """Age in years; None for other heads."""
    low: float | None = None
    """Lower end of the interval that holds the age with 80 % probability."""
    high: float | None = None
    """Upper end."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Face:
    """A face of an image."""

    box: NDArray[np.float32]
    """(4,) x1, y1, x2, y2 in pixels of the upright image."""
    landmarks: NDArray[np.float32]
    """(5, 2) x, y in pixels: left eye, right eye, nose, left and right corner of the mouth, as the image shows them."""
    detection_score: float
    quality: float
    """In 0..1; 0 for a dropped face."""
    dropped_reason: str | None
    """Why an analysis would keep nothing but its place, for example ``too_small``; None for a kept face."""
    crop: NDArray[np.uint8]
    """(S, S, 3) RGB, aligned."""
    embedding: NDArray[np.float32] | None
    """(D,) L2-normalised: the cosine of two says how alike the faces are. None for a dropped face."""
    answers: Mapping[str, Answer]
    """By head: gender, age, ethnicity, emotion, attributes; empty for a dropped face."""


class FaceModel:
    """A release, loaded. Use `load_release`.

    Args:
        release: with the heads that are wanted.
        max_tiles: most tiles in which a large image is searched for small faces.
    """

    def __init__(self, release: Release, max_tiles: int) -> None:
        self._release = release
        self._max_tiles = max_tiles

    @property
    def name(self) -> str:
        """Name of the release."""
        return self._release.name

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads that are on."""
        return self._release.heads

    def faces(self, image: str | Path | NDArray[np.uint8]) -> tuple[Face, ...]:
        """Find and describe the faces of one image, as an analysis does.

        Args:
            image: its path, or (H, W, 3) uint8 RGB pixels, upright.

        Returns:
            All detected faces, the largest first; dropped ones with their reason.

        Raises:
            UsageError: it is no image.
            FacetError: it cannot be decoded.
        """
        import torch  # noqa: PLC0415 - `import facet` stays light

        from models.detection.finding import Search  # noqa: PLC0415 - loads torch

        frames = torch.from_numpy(pixels_of(image))[None].permute(0, 3, 1, 2).to(self._release.device)
        found = self._release.find(frames, Search(thorough=True, max_tiles=self._max_tiles))
        kept = torch.tensor([row for row, why in enumerate(found.quality.dropped) if why is None], dtype=torch.int64)
        outputs = self._release.infer(found.crops[kept])
        described = self._described(found, outputs, {row: place for place, row in enumerate(kept.tolist())})
        return tuple(sorted(described, key=lambda face: -_area(face.box)))

    def _described(self, found: Faces, outputs: FaceOutputs, places: Mapping[int, int]) -> Iterator[Face]:
        boxes, landmarks = found.detections.boxes.cpu().numpy(), found.detections.landmarks.cpu().numpy()
        crops = found.crops.permute(0, 2, 3, 1).cpu().numpy()
        embeddings = outputs.embeddings.float().cpu().numpy()
        for row, reason in enumerate(found.quality.dropped):
            place = places.get(row)
            yield Face(
                box=boxes[row],
                landmarks=landmarks[row],
                detection_score=float(found.detections.scores[row]),
                quality=float(found.quality.scores[row]),
                dropped_reason=reason,
                crop=crops[row],
                embedding=None if place is None else embeddings[place],
                answers=MappingProxyType({} if place is None else self._answers(outputs, place)),
            )

    def _answers(self, outputs: FaceOutputs, place: int) -> dict[str, Answer]:
        return {task: _answer(self._release.spec(task), output, place) for task, output in outputs.heads.items()}


def load_release(
    folder: str | Path | None = None, *, heads: frozenset[str] | None = None, device: str = "auto"
) -> FaceModel:
    """Load a release of models.

    Args:
        folder: of the release; None for the shipped one.
        heads: names of the heads that are wanted; None for all.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ReleaseError: the folder holds no release that can be loaded, or the release lacks a head.
    """
    from models import release as releases  # noqa: PLC0415 - loads torch
    from worker.config import settings  # noqa: PLC0415 - `import facet` stays light

    path = None if folder is None else Path(expanded(folder))
    return FaceModel(releases.load_release(path, heads=heads, device=device), settings().max_tiles)


def pixels_of(image: str | Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the (H, W, 3) uint8 RGB pixels of an image; a file is decoded in a confined process.

    Raises:
        UsageError: it is no image.
        FacetError: it cannot be decoded.
    """
    import numpy as np  # noqa: PLC0415 - `import facet` stays light

    if isinstance(image, str | Path):
        return _read(expanded(image))
    if not (isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8):
        found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(f"the image is {found}, expected a path or an array of uint8 of shape (height, width, 3), RGB")
    return np.ascontiguousarray(image)


def expanded(path: str | Path) -> str:
    """Return a path with the home folder in place of ``~``; a name such as ``~copy.jpg`` stays as it is."""
    return os.path.expanduser(path)  # noqa: PTH111 - that of Path fails where there is no such user


def _read(path: str) -> NDArray[np.uint8]:
    from worker.analysis.runner import decode_limits  # noqa: PLC0415 - loads torch
    from worker.config import settings  # noqa: PLC0415 - `import facet` stays light
    from worker.identity.search.photo import read_photo  # noqa: PLC0415 - loads torch
    from worker.ledger.upkeep.staged_members import open_sources  # noqa: PLC0415 - loads SQLAlchemy

    with TemporaryDirectory(prefix="facet-image-") as folder:
        config = settings().model_copy(update={"home": Path(folder)})
        return read_photo(path, open_sources(config), config.staging, decode_limits(config))


def _area(box: NDArray[np.float32]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _answer(spec: BranchSpec, output: HeadOutput, row: int) -> Answer:
    probabilities = dict(zip(output.labels, output.probabilities[row].tolist(), strict=True))
    label = max(probabilities, key=probabilities.__getitem__) if spec.kind == "softmax" else None
    confidence = None if label is None else probabilities[label]
    if label is not None and output.abstains is not None and output.abstains[row]:
        label = UNKNOWN
    numbers = {
        name: None if column is None else float(column[row])
        for name, column in (("value", output.value), ("low", output.low), ("high", output.high))
    }
    return Answer(label=label, confidence=confidence, probabilities=MappingProxyType(probabilities), **numbers)
