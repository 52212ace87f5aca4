"""Detect, align and infer: frames of any unit go in, chunks of faces come out, batches are filled across units.

The network runs in a thread of its own beside detection: small layers keep one core busy and hardly two, so two stages
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
from worker.analysis.results import FaceChunk, InferredChunk, UnitResult
from worker.types import HeadRows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from models.release import Release
    from models.types import FaceOutputs, HeadOutput
    from worker.types import DecodedFrame


LANES = 2  # threads that compute at the same time: detection with alignment, and the network
MOST_RUNNING = 2  # batches handed to the network: one that it computes, one that lies ready


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Kept faces of one chunk that wait for the network."""

    result: UnitResult
    chunk: FaceChunk
    crops: torch.Tensor
    """(K, 3, S, S) uint8, one for each kept face of the chunk."""

    def __len__(self) -> int:
        return int(self.crops.shape[0])


@dataclass(frozen=True, slots=True)
class _Batch:
    """Chunks in the network's hands."""

    taken: list[_Waiting]
    found: Future[tuple[FaceOutputs, float]]
    """What it says of all their crops, and the seconds that it took."""


class FaceRecognizer:
    """Runs one release; holds the crops that wait for a full batch."""

    def __init__(self, release: Release, batch: int, max_tiles: int = 0) -> None:
        self._release = release
        self._batch = batch
        self._max_tiles = max_tiles
        self._waiting: deque[_Waiting] = deque()
        self._waiting_faces = 0
        self._running: deque[_Batch] = deque()
        self._network = ThreadPoolExecutor(1, "network")

    def close(self) -> None:
        """Let the network end its batch and drop what it has not begun."""
        self._network.shutdown(cancel_futures=True)

    @property
    def busy(self) -> bool:
        """Whether the network has a batch in hands."""
        return bool(self._running)

    def detect(self, frames: Sequence[tuple[UnitResult, DecodedFrame]]) -> None:
        """Search frames of one size; faces found become chunks of their units and wait for the network."""
        for kind in ("image", "video"):
            alike = [entry for entry in frames if entry[0].unit.kind == kind]
            if alike:
                still = kind == "image"
                self._detect(alike, Search(thorough=still, max_tiles=self._max_tiles if still else 0))

    def _detect(self, frames: Sequence[tuple[UnitResult, DecodedFrame]], search: Search) -> None:
        started = time.perf_counter()
        pixels = torch.from_numpy(np.stack([frame.pixels for _, frame in frames])).permute(0, 3, 1, 2)
        found = self._release.find(pixels.to(self._release.device), search)
        detections, crops, quality = found.detections, found.crops, found.quality
        height, width = pixels.shape[-2:]
        scores = quality.scores.cpu().numpy()
        boxes, landmarks = detections.boxes.cpu().numpy(), detections.landmarks.cpu().numpy()
        confidence, row_frame = detections.scores.cpu().numpy(), detections.frame.cpu().numpy()
        for result, rows in _by_unit(frames, row_frame):
            chunk = FaceChunk(
                frame_index=np.array([frames[f][1].index for f in row_frame[rows]], np.int64),
                at_seconds=np.array([frames[f][1].at_seconds for f in row_frame[rows]], np.float64),
                boxes=boxes[rows],
                landmarks=landmarks[rows],
                scores=confidence[rows],
                quality=scores[rows],
                dropped=[quality.dropped[row] for row in rows],
                frame_size=(width, height),
                hold_seconds=np.array([frames[f][1].hold_seconds for f in row_frame[rows]], np.float64),
            )
            self._enqueue(result, chunk, crops[torch.from_numpy(rows)])
        share = 1 / len(frames)
        for result, _ in frames:
            result.frames_waiting -= 1
            result.frame_count += 1
            result.spend("detect", (time.perf_counter() - started) * share)
            if found.note is not None:
                result.note(found.note)

    def _enqueue(self, result: UnitResult, chunk: FaceChunk, crops: torch.Tensor) -> None:
        result.chunks.append(chunk)
        kept = chunk.kept
        if kept.size:
            self._waiting.append(_Waiting(result, chunk, crops[torch.from_numpy(kept)]))
            self._waiting_faces += int(kept.size)
            result.faces_waiting += int(kept.size)

    def start_full(self) -> list[InferredChunk]:
        """Give the network every full batch that waits; where it lags behind, wait for it and return what it did."""
        done: list[InferredChunk] = []
        while self._waiting_faces >= self._batch:
            if len(self._running) >= MOST_RUNNING:
                done += self._finish(self._running.popleft())
            self._start()
        return done

    def start_waiting(self) -> None:
        """Give the network what waits, full batch or not, unless it is busy."""
        if self._waiting and not self._running:
            self._start()

    def finished(self) -> list[InferredChunk]:
        """Return what the network has done since the last call."""
        done: list[InferredChunk] = []
        while self._running and self._running[0].found.done():
            done += self._finish(self._running.popleft())
        return done

    def _start(self) -> None:
        """Hand over the oldest waiting chunks, about one batch of faces."""
        taken = [self._waiting.popleft()]
        faces = len(taken[0])
        while self._waiting and faces + len(self._waiting[0]) <= self._batch:
            taken.append(self._waiting.popleft())
            faces += len(taken[-1])
        self._waiting_faces -= faces
        found = self._network.submit(self._infer, torch.cat([waiting.crops for waiting in taken]))
        self._running.append(_Batch(taken, found))

    def _infer(self, crops: torch.Tensor) -> tuple[FaceOutputs, float]:
        started = time.perf_counter()
        return self._release.infer(crops), time.perf_counter() - started

    def _finish(self, batch: _Batch) -> list[InferredChunk]:
        """Fill the chunks of a batch when the network is through with it."""
        outputs, seconds = batch.found.result()
        share = seconds / sum(map(len, batch.taken))
        done, offset = [], 0
        for waiting in batch.taken:
            _fill(waiting.chunk, outputs, slice(offset, offset + len(waiting)))
            waiting.result.faces_waiting -= len(waiting)
            waiting.result.spend("infer", share * len(waiting))
            offset += len(waiting)
            crops = waiting.crops.permute(0, 2, 3, 1).contiguous().cpu().numpy()
            done.append(InferredChunk(waiting.result, waiting.chunk, crops))
        return done


def _by_unit(
    frames: Sequence[tuple[UnitResult, DecodedFrame]], row_frame: NDArray[np.int64]
) -> list[tuple[UnitResult, NDArray[np.int64]]]:
    """Split detection rows by the unit of their frame, in the frames' order."""
    units = [result.unit.unit_id for result, _ in frames]
    owner = np.array(units, np.int64)[row_frame] if len(row_frame) else np.zeros(0, np.int64)
    seen = {result.unit.unit_id: result for result, _ in frames}
    parts = [(result, np.flatnonzero(owner == unit_id)) for unit_id, result in seen.items()]
    return [(result, rows) for result, rows in parts if rows.size]


def _fill(chunk: FaceChunk, outputs: FaceOutputs, rows: slice) -> None:
    """Write a batch's rows into the kept rows of a chunk."""
    kept, size = chunk.kept, len(chunk)
    chunk.embeddings = _spread(outputs.embeddings[rows], kept, size)
    chunk.heads = {task: _head_rows(head, rows, kept, size) for task, head in outputs.heads.items()}


def _head_rows(head: HeadOutput, rows: slice, kept: NDArray[np.int64], size: int) -> HeadRows:
    abstains = None
    if head.abstains is not None:
        abstains = np.zeros(size, np.bool_)
        abstains[kept] = head.abstains[rows].cpu().numpy()
    value, low, high = (
        None if part is None else _spread(part[rows], kept, size) for part in (head.value, head.low, head.high)
    )
    return HeadRows(head.labels, _spread(head.probabilities[rows], kept, size), value, low, high, abstains)


def _spread(values: torch.Tensor, kept: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Put (K, ...) values into the kept rows of a (size, ...) array of NaN."""
    spread = np.full((size, *values.shape[1:]), np.nan, np.float32)
    spread[kept] = values.float().cpu().numpy()
    return spread
