"""The values that the stages of a unit exchange: faces detected, inferred and stored, and the result of the unit.

Each stage builds a new value from that of the stage before; none changes what it was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from worker.errors import MediaError
    from worker.ledger.units import LeasedUnit
    from worker.types import HeadRows, MediaInfo


@dataclass(frozen=True, slots=True, eq=False)
class DetectedFaces:
    """The N faces that one detection batch found in one unit."""

    frame_index: NDArray[np.int64]
    """(N,) number of the frame in its file, ascending."""
    at_seconds: NDArray[np.float64]
    """(N,)."""
    boxes: NDArray[np.float32]
    """(N, 4) x1, y1, x2, y2 in pixels of the upright frame."""
    landmarks: NDArray[np.float32]
    """(N, 5, 2) in pixels of the upright frame."""
    scores: NDArray[np.float32]
    """(N,) detection score."""
    quality: NDArray[np.float32]
    """(N,) in 0..1."""
    dropped: tuple[str | None, ...]
    """(N,) the reason for which a face is kept out of inference, None for a kept one."""
    hold_seconds: NDArray[np.float64] | None = None
    """(N,) time for which their frames stay on screen; None where it is not known."""
    frame_size: tuple[int, int] | None = None
    """Width and height of the frames, of which boxes and landmarks are pixels; None where it is not known."""

    def __len__(self) -> int:
        return len(self.dropped)

    @property
    def kept(self) -> NDArray[np.int64]:
        """(K,) rows that go to the model."""
        return np.flatnonzero([reason is None for reason in self.dropped])

    def take(self, rows: NDArray[np.int64]) -> DetectedFaces:
        """Return some of the faces."""
        return DetectedFaces(
            frame_index=self.frame_index[rows],
            at_seconds=self.at_seconds[rows],
            boxes=self.boxes[rows],
            landmarks=self.landmarks[rows],
            scores=self.scores[rows],
            quality=self.quality[rows],
            dropped=tuple(self.dropped[row] for row in rows),
            hold_seconds=None if self.hold_seconds is None else self.hold_seconds[rows],
            frame_size=self.frame_size,
        )

    def inferred(self, embeddings: NDArray[np.float32] | None, heads: Mapping[str, HeadRows]) -> InferredFaces:
        """Return the same faces with the outputs of the model."""
        return InferredFaces(**_fields(self), embeddings=embeddings, heads=heads)


@dataclass(frozen=True, slots=True, eq=False)
class InferredFaces(DetectedFaces):
    """Faces with embeddings and predictions."""

    embeddings: NDArray[np.float32] | None = None
    """(N, D), NaN for dropped faces; None where none was kept."""
    heads: Mapping[str, HeadRows] = field(default_factory=dict)
    """By task, over the N faces; empty where none was kept."""

    def stored(self, strip: int, first: int) -> StoredFaces:
        """Return the same faces with the places of their crops.

        Args:
            strip: number of the unit's strip that holds all of them.
            first: place in it of the first kept face.
        """
        kept = self.kept
        strips, places = np.full((2, len(self)), -1, np.int32)
        strips[kept], places[kept] = strip, first + np.arange(len(kept))
        return StoredFaces(**_fields(self), crop_strip=strips, crop_index=places)


@dataclass(frozen=True, slots=True, eq=False)
class StoredFaces(InferredFaces):
    """Faces as they are written."""

    crop_strip: NDArray[np.int32] | None = None
    """(N,) number of the unit's strip that holds the crop, -1 for none; None where none of them has a crop."""
    crop_index: NDArray[np.int32] | None = None
    """(N,) place in that strip, -1 for none."""


@dataclass(frozen=True, slots=True, eq=False)
class InferredChunk:
    """The faces of one unit in one detection batch, with the crops of those that were kept."""

    unit: LeasedUnit
    batch: int
    """Number of the detection batch; ascending."""
    faces: InferredFaces
    crops: NDArray[np.uint8]
    """(K, S, S, 3) RGB of the kept faces."""
    seconds: float
    """Time that the model spent on them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitResult:
    """The result of one attempt at a unit."""

    unit: LeasedUnit
    info: MediaInfo | None = None
    frame_count: int = 0
    """Frames that were searched."""
    cuts_seconds: tuple[float, ...] = ()
    faces: tuple[StoredFaces, ...] = ()
    """In the order in which they were searched: that of time only where all frames have one size."""
    error: MediaError | None = None
    notes: tuple[str, ...] = ()
    """Parts of the file that were not analysed, and results that are doubtful."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def face_count(self) -> int:
        """Faces found, kept and dropped."""
        return sum(len(faces) for faces in self.faces)


def _fields(faces: DetectedFaces) -> dict[str, Any]:
    return {one.name: getattr(faces, one.name) for one in fields(faces)}
