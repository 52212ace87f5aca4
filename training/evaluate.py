"""What users get from a release, measured on labelled sets: its own detector, aligner, network and thresholds."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import TypeAdapter

from models.types import FaceOutputs, HeadOutput
from training.crops import crop_faces
from training.data import (
    Split,
    read_celeba,
    read_fer2013,
    read_lfw,
    read_utkface,
    read_wider,
)
from training.detection import PhotoResult, detect_photos
from training.errors import DataError
from training.metrics import Figure, measure
from training.scores import Row, celeba_rows, fer_rows, utkface_rows
from training.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.release import Release
    from training.data import FaceSet

_log = logging.getLogger(__name__)

BATCH = 64
"""Crops per call of the release."""


@dataclass(frozen=True, slots=True)
class SetFacts:
    """How the faces of one set came to the network."""

    data: str
    images: int
    first_view: int
    """Images whose face was found in the first view."""
    later_views: int
    """Images whose face was found after more resizing or framing."""
    missed: int
    """Images in which no face was found: cut at the median landmarks of the others, and scored like all others."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one release on one data folder."""

    release: str
    weights_sha256: str
    split: str
    sets: tuple[SetFacts, ...]
    rows: tuple[Row, ...]

    def to_json(self) -> str:
        """Write everything as JSON, two spaces deep."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read what ``to_json`` wrote."""
        return TypeAdapter(cls).validate_json(text)

    @classmethod
    def join(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """Put figures of several sets together.

        Raises:
            DataError: they are not of one release and split.
        """
        makers = {(part.release, part.weights_sha256, part.split) for part in parts}
        if len(makers) != 1:
            raise DataError(f"got figures of {sorted(makers)}, expected those of one release, weights and split")
        sets = tuple(facts for part in parts for facts in part.sets)
        return replace(parts[0], sets=sets, rows=tuple(row for part in parts for row in part.rows))

    def find(self, data: str, task: str, name: str, group: str = "all") -> Figure | None:
        """Return one figure, or None where it was not measured."""
        wanted = (data, task, name, group)
        return next((r.figure for r in self.rows if (r.data, r.task, r.measure, r.group) == wanted), None)


@dataclass(slots=True)
class _Evaluator:
    release: Release
    data: Path
    split: Split
    cache: Path | None
    sets: list[SetFacts]

    def outputs(self, faces: FaceSet) -> FaceOutputs:
        """Detect, align and infer the faces of a set, and note how they were found."""
        crops = crop_faces(faces, self.release.detector, self.cache)
        by_view = np.bincount(crops.found_by, minlength=256)
        later = int(by_view[1:255].sum())
        self.sets.append(SetFacts(faces.name, len(faces), int(by_view[0]), later, crops.missed))
        return infer(self.release, crops.pixels)

    def utkface(self) -> list[Row]:
        every = read_utkface(self.data)
        faces = every[every.rows(self.split)]
        return utkface_rows(self.outputs(faces).heads, faces)

    def fer2013(self) -> list[Row]:
        every = read_fer2013(self.data)
        faces = every[every.rows(self.split)]
        heads = self.outputs(faces).heads
        return fer_rows(heads["emotion"], faces) if "emotion" in heads else []

    def celeba10k(self) -> list[Row]:
        every = read_celeba(self.data)
        faces = every[every.rows(self.split)]
        heads = self.outputs(faces).heads
        return celeba_rows(heads["attributes"], faces) if "attributes" in heads else []

    def lfw(self) -> list[Row]:
        faces, pairs = read_lfw(self.data)
        found = verify(self.outputs(faces).embeddings.numpy(), pairs)
        spread = float(found.fold_accuracy.std(ddof=1) / np.sqrt(len(found.fold_accuracy)))
        error = Figure(spread, float("nan"), float("nan"), len(found.fold_accuracy))
        accuracy = measure(np.mean, found.correct)
        return [
            Row("lfw", "verification", "accuracy", accuracy),
            Row("lfw", "verification", "standard error over folds", error),
        ]

    def widerface_subset(self) -> list[Row]:
        found = detect_photos(read_wider(self.data), self.release)
        return photo_rows("all boxes", found.detected) + photo_rows("faces kept", found.kept)


SETS = ("utkface", "fer2013", "celeba10k", "lfw", "widerface_subset")
"""Folders that are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """What is measured."""

    split: Split = "test"
    """Of the sets that have splits."""
    sets: tuple[str, ...] = SETS
    cache: Path | None = None
    """Folder for aligned crops; None cuts them anew."""


def evaluate(release: Release, data: Path, options: EvaluateOptions | None = None) -> Evaluation:
    """Measure a release on every set that a data folder holds.

    Args:
        release: as loaded for analysis.
        data: folder with any of SETS, in the layout of docs/training.md.
        options: what to measure; None for all that is there.

    Raises:
        DataError: the folder holds none of the sets.
    """
    chosen = options or EvaluateOptions()
    present = [name for name in SETS if name in chosen.sets and (data / name).is_dir()]
    if not present:
        raise DataError(f"{data} holds no data set; expected at least one folder of {', '.join(chosen.sets)}")
    evaluator = _Evaluator(release, data, chosen.split, chosen.cache, [])
    readers: dict[str, Callable[[], list[Row]]] = {name: getattr(evaluator, name) for name in present}
    rows: list[Row] = []
    for name, read in readers.items():
        rows += read()
        _log.info("evaluated a data set", extra={"action": "evaluated", "set": name})
    return Evaluation(release.name, release.weights_sha256, chosen.split, tuple(evaluator.sets), tuple(rows))


def photo_rows(which: str, tallies: list[PhotoResult]) -> list[Row]:
    """Recall and false positives over photos; their intervals resample photos, not faces."""
    faces = np.array([t.faces for t in tallies])
    found = np.array([t.found for t in tallies])
    recall = measure(lambda f, n: float(f.sum() / max(n.sum(), 1)), found, faces)
    false = measure(np.mean, np.array([t.false_positives for t in tallies]))
    return [
        Row("widerface_subset", f"detection, {which}", "recall of faces of 16 px or more", recall),
        Row("widerface_subset", f"detection, {which}", "false positives per photo", false),
    ]


def infer(release: Release, crops: NDArray[np.uint8]) -> FaceOutputs:
    """Run (N, 3, 112, 112) crops through a release in batches."""
    starts = range(0, max(len(crops), 1), BATCH)
    parts = [release.infer(torch.from_numpy(np.array(crops[start : start + BATCH]))) for start in starts]
    heads = {task: _join([part.heads[task] for part in parts]) for task in parts[0].heads}
    return FaceOutputs(torch.cat([part.embeddings for part in parts]).cpu(), heads)


def _join(parts: list[HeadOutput]) -> HeadOutput:
    def column(name: str) -> torch.Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values).cpu()

    return HeadOutput(
        parts[0].labels,
        torch.cat([part.probabilities for part in parts]).float().cpu(),
        *(column(name) for name in ("value", "low", "high", "abstains")),
    )
