"""A unit in flight: the counts by which the pipeline knows when nothing more of it will arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.analysis.results import StoredFaces, UnitResult
from worker.storage.crops import STRIP_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.analysis.results import InferredChunk
    from worker.errors import MediaError
    from worker.ledger.units import LeasedUnit
    from worker.types import DecodedFrame, MediaInfo

MAX_UNIT_NOTES = 20  # of one unit


class UnitInFlight:
    """Gathers what the stages return for one unit; the pipeline's thread alone uses it."""

    def __init__(self, unit: LeasedUnit) -> None:
        self.unit = unit
        self.info: MediaInfo | None = None
        self.is_decoded = False
        """The decoder has ended."""
        self.frame_count = 0
        self._error: MediaError | None = None
        self._cuts_seconds: list[float] = []
        self._notes: tuple[str, ...] = ()
        self._stage_seconds: dict[str, float] = {}
        self._frames_waiting = 0
        self._chunks_waiting = 0
        self._faces: dict[int, StoredFaces] = {}
        self._strip, self._strip_rows = 0, 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing more will arrive."""
        return self.is_decoded and not self._frames_waiting and not self._chunks_waiting

    def add_frame(self, frame: DecodedFrame) -> None:
        """Count a decoded frame, which waits for detection."""
        if frame.scene_cut:
            self._cuts_seconds.append(frame.at_seconds)
        self._frames_waiting += 1

    def end_decode(self, error: MediaError | None, seconds: float, notes: Iterable[str]) -> None:
        """Record that no frame will follow."""
        self.is_decoded, self._error = True, error
        self._spend("decode", seconds)
        for note in notes:
            self.note(note)

    def end_detection(self, frames: int, seconds: float, note: str | None, *, has_faces: bool) -> None:
        """Record that frames were searched; their faces, if there are any, wait for the model."""
        self._frames_waiting -= frames
        self.frame_count += frames
        self._chunks_waiting += has_faces
        self._spend("detect", seconds)
        if note is not None:
            self.note(note)

    def add_faces(self, chunk: InferredChunk) -> int:
        """Add the faces of a detection batch.

        Returns:
            Number of the strip that their crops belong to; the crops of one batch are never torn apart.
        """
        count = len(chunk.crops)
        if self._strip_rows and self._strip_rows + count > STRIP_ROWS:
            self._strip, self._strip_rows = self._strip + 1, 0
        self._faces[chunk.batch] = chunk.faces.stored(self._strip, self._strip_rows)
        self._strip_rows += count
        self._chunks_waiting -= 1
        if count:
            self._spend("infer", chunk.seconds)
        return self._strip

    def note(self, text: str) -> None:
        """Add a note, once; beyond MAX_UNIT_NOTES the rest is left out."""
        if text not in self._notes and len(self._notes) < MAX_UNIT_NOTES:
            self._notes = (*self._notes, text)

    def result(self) -> UnitResult:
        """Return the result so far."""
        return UnitResult(
            unit=self.unit,
            info=self.info,
            frame_count=self.frame_count,
            cuts_seconds=tuple(self._cuts_seconds),
            faces=tuple(self._faces[batch] for batch in sorted(self._faces)),
            error=self._error,
            notes=self._notes,
            stage_seconds=self._stage_seconds.copy(),
        )

    def _spend(self, stage: str, seconds: float) -> None:
        self._stage_seconds[stage] = self._stage_seconds.get(stage, 0.0) + seconds
