"""What is known of a unit while it is analysed, and when it is ready to be stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.errors import MediaError
    from worker.ledger.units import LeasedUnit
    from worker.types import HeadRows, MediaInfo

MAX_NOTES = 20  # of one unit


@dataclass(slots=True)
class FaceChunk:
    """The N faces that one detection batch found in one unit; embeddings and heads arrive later."""

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
    dropped: list[str | None]
    """Why a face is kept out of inference, None for a kept one."""
    embeddings: NDArray[np.float32] | None = None
    """(N, D), NaN for dropped faces; None until inferred."""
    heads: dict[str, HeadRows] = field(default_factory=dict)
    crop_strip: NDArray[np.int32] | None = None
    """(N,) number of the unit's strip that holds the crop, -1 for none."""
    crop_index: NDArray[np.int32] | None = None
    """(N,) place in that strip, -1 for none."""
    hold_seconds: NDArray[np.float64] | None = None
    """(N,) how long their frames stand for the film; None where it is not known."""
    frame_size: tuple[int, int] | None = None
    """Width and height of the frames, of which boxes and landmarks are pixels; None where it is not known."""

    def __len__(self) -> int:
        return len(self.dropped)

    @property
    def kept(self) -> NDArray[np.int64]:
        """Rows that go to the network."""
        return np.flatnonzero([reason is None for reason in self.dropped])


@dataclass(slots=True)
class UnitResult:
    """A unit in flight: filled by the stages, stored when it is complete."""

    unit: LeasedUnit
    info: MediaInfo | None = None
    frame_count: int = 0
    cuts_seconds: list[float] = field(default_factory=list)
    chunks: list[FaceChunk] = field(default_factory=list)
    """In the order in which they were searched: that of time only where all frames have one size."""
    frames_waiting: int = 0
    """Decoded frames that were not searched yet."""
    faces_waiting: int = 0
    """Kept faces that were not inferred yet."""
    decoded: bool = False
    """The decoder has said its last word."""
    error: MediaError | None = None
    notes: tuple[str, ...] = ()
    """Parts of the file that were not analysed, and results that are doubtful."""
    stage_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Nothing more will arrive."""
        return self.decoded and not self.frames_waiting and not self.faces_waiting

    @property
    def face_count(self) -> int:
        """Faces found, kept and dropped."""
        return sum(len(chunk) for chunk in self.chunks)

    def note(self, text: str) -> None:
        """Add a note, once; beyond MAX_NOTES the rest is left out."""
        if text not in self.notes and len(self.notes) < MAX_NOTES:
            self.notes = (*self.notes, text)

    def spend(self, stage: str, seconds: float) -> None:
        """Book time of a stage on this unit."""
        self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds


@dataclass(frozen=True, slots=True)
class InferredChunk:
    """A chunk whose kept faces have their embeddings and predictions."""

    result: UnitResult
    chunk: FaceChunk
    crops: NDArray[np.uint8]
    """(K, S, S, 3) uint8 RGB of the kept faces."""
