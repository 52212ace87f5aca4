"""Detect, align and infer: batches of frames go in, faces come out; the model's batches are filled across units.

The model runs in a thread of its own beside detection: small layers keep one core busy and hardly two, so two stages
with half of the cores each do more than one stage with all (docs/measured/benchmarks.md).
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.detection.finding import Search
from worker.analysis.results import DetectedFaces, InferredChunk
from worker.types import HeadRows

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from models.detection.finding import Faces
    from models.release import Release
    from models.types import FaceOutputs, HeadOutput
    from worker.analysis.frames import FrameBatch
    from worker.analysis.results import InferredFaces
    from worker.ledger.units import LeasedUnit


LANES = 2  # threads that compute at the same time: detection with alignment, and the model
MAX_RUNNING = 2  # batches handed to the model: one that it computes, one that lies ready


@dataclass(frozen=True, slots=True)
class Detection:
    """The outcome of detection for one batch of frames."""

    units: tuple[LeasedUnit, ...]
    """The units in whose frames there are faces."""
    seconds: float
    note: str | None
    """Faces that cannot be seen because the frames were reduced, if they were by much."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Faces of one unit and batch that wait for the model."""

    unit: LeasedUnit
    batch: int
    faces: DetectedFaces
    crops: torch.Tensor
    """(K, 3, S, S) uint8, one for each kept face."""

    def __len__(self) -> int:
        return int(self.crops.shape[0])

    def inferred(self, faces: InferredFaces, seconds: float) -> InferredChunk:
        crops = self.crops.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return InferredChunk(self.unit, self.batch, faces, crops, seconds)


@dataclass(frozen=True, slots=True)
class _Running:
    """Faces that the model computes."""

    taken: list[_Waiting]
    outputs: Future[tuple[FaceOutputs, float]]
    """The outputs for all their crops, and the seconds that they took."""


class FaceRecognizer:
    """Runs one release; holds the crops that wait for a full batch.

    Args:
        release: loaded.
        batch: faces that the model takes at once.
        max_tiles: tiles in which a large image is searched, at most.
    """

    def __init__(self, release: Release, batch: int, max_tiles: int = 0) -> None:
        self._release = release
        self._batch = batch
        self._max_tiles = max_tiles
        self._searched = 0
        self._waiting: deque[_Waiting] = deque()
        self._waiting_faces = 0
        self._running: deque[_Running] = deque()
        self._done: list[InferredChunk] = []
        self._model = ThreadPoolExecutor(1, "model")

    def close(self) -> None:
        """Wait for the batch that the model computes, and drop those that it has not begun."""
        self._model.shutdown(cancel_futures=True)

    @property
    def busy(self) -> bool:
        """Whether the model computes a batch."""
        return bool(self._running)

    def detect(self, frames: FrameBatch) -> Detection:
        """Search frames; the faces wait for the model, by unit."""
        started = time.perf_counter()
        is_image = frames.kind == "image"
        search = Search(thorough=is_image, max_tiles=self._max_tiles if is_image else 0)
        pixels = torch.from_numpy(frames.pixels).permute(0, 3, 1, 2)
        found = self._release.find(pixels.to(self._release.device), search)
        columns = _columns(frames, found)
        owner = frames.unit_row[found.detections.frame.cpu().numpy()]
        units = []
        for row, unit in enumerate(frames.units):
            rows = np.flatnonzero(owner == row)
            if rows.size:
                units.append(unit)
                self._enqueue(unit, columns.take(rows), found.crops[torch.from_numpy(rows)])
        self._searched += 1
        return Detection(tuple(units), time.perf_counter() - started, found.note)

    def _enqueue(self, unit: LeasedUnit, faces: DetectedFaces, crops: torch.Tensor) -> None:
        kept = faces.kept
        waiting = _Waiting(unit, self._searched, faces, crops[torch.from_numpy(kept)])
        if kept.size:
            self._waiting.append(waiting)
            self._waiting_faces += int(kept.size)
        else:
            self._done.append(waiting.inferred(faces.inferred(None, {}), 0.0))

    def start_full(self) -> list[InferredChunk]:
        """Hand every full batch to the model; where it lags behind, wait for it. Return what is inferred so far."""
        while self._waiting_faces >= self._batch:
            if len(self._running) >= MAX_RUNNING:
                self._finish(self._running.popleft())
            self._start()
        return self._take_done()

    def start_waiting(self) -> None:
        """Hand the waiting faces to the model, full batch or not, unless it is busy."""
        if self._waiting and not self._running:
            self._start()

    def finished(self) -> list[InferredChunk]:
        """Return the faces inferred since the last call."""
        while self._running and self._running[0].outputs.done():
            self._finish(self._running.popleft())
        return self._take_done()

    def _take_done(self) -> list[InferredChunk]:
        done, self._done = self._done, []
        return done

    def _start(self) -> None:
        """Hand over the oldest waiting faces, about one batch."""
        taken = [self._waiting.popleft()]
        faces = len(taken[0])
        while self._waiting and faces + len(self._waiting[0]) <= self._batch:
            taken.append(self._waiting.popleft())
            faces += len(taken[-1])
        self._waiting_faces -= faces
        outputs = self._model.submit(self._infer, torch.cat([waiting.crops for waiting in taken]))
        self._running.append(_Running(taken, outputs))

    def _infer(self, crops: torch.Tensor) -> tuple[FaceOutputs, float]:
        started = time.perf_counter()
        return self._release.infer(crops), time.perf_counter() - started

    def _finish(self, batch: _Running) -> None:
        """Wait for a batch and share its outputs out."""
        outputs, seconds = batch.outputs.result()
        share = seconds / sum(map(len, batch.taken))
        first = 0
        for waiting in batch.taken:
            rows = slice(first, first + len(waiting))
            self._done.append(waiting.inferred(_with_outputs(waiting.faces, outputs, rows), share * len(waiting)))
            first += len(waiting)


def _columns(frames: FrameBatch, found: Faces) -> DetectedFaces:
    """Return all faces of a batch, copied from the device once."""
    detections = found.detections
    row = detections.frame.cpu().numpy()
    return DetectedFaces(
        frame_index=frames.index[row],
        at_seconds=frames.at_seconds[row],
        boxes=detections.boxes.cpu().numpy(),
        landmarks=detections.landmarks.cpu().numpy(),
        scores=detections.scores.cpu().numpy(),
        quality=found.quality.scores.cpu().numpy(),
        dropped=tuple(found.quality.dropped),
        hold_seconds=frames.hold_seconds[row],
        frame_size=frames.frame_size,
    )


def _with_outputs(faces: DetectedFaces, outputs: FaceOutputs, rows: slice) -> InferredFaces:
    """Return faces with the rows of a batch that belong to their kept ones."""
    kept, size = faces.kept, len(faces)
    heads = {task: _head_rows(head, rows, kept, size) for task, head in outputs.heads.items()}
    return faces.inferred(_spread(outputs.embeddings[rows], kept, size), heads)


def _head_rows(head: HeadOutput, rows: slice, kept: NDArray[np.int64], size: int) -> HeadRows:
    abstains = None
    if head.abstains is not None:
        abstains = np.zeros(size, np.bool_)
        abstains[kept] = head.abstains[rows].cpu().numpy()
    value, low, high = (
        None if part is None else _spread(part[rows], kept, size) for part in (head.value, head.low, head.high)
    )
    probabilities = _spread(head.probabilities[rows], kept, size)
    codes = _codes(head, rows, kept, size)
    return HeadRows(head.labels, probabilities, value, low, high, abstains, codes, head.is_multi_label)


def _codes(head: HeadOutput, rows: slice, kept: NDArray[np.int64], size: int) -> NDArray[np.uint16] | None:
    if head.codes is None:
        return None
    codes = np.zeros((size, head.codes.shape[1]), np.uint16)
    codes[kept] = head.codes[rows].cpu().numpy()
    return codes


def _spread(values: torch.Tensor, kept: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Put (K, ...) values into the kept rows of a (size, ...) array of NaN."""
    spread = np.full((size, *values.shape[1:]), np.nan, np.float32)
    spread[kept] = values.float().cpu().numpy()
    return spread
