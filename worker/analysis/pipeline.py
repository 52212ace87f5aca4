"""The way of a unit: decode, detect, align, infer, store. Only this module knows the order of the stages."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from worker.analysis.decode_pool import DecodeFailed, DecodePool, UnitDecoded, UnitFrame, UnitOpened
from worker.analysis.recognition import FaceRecognizer
from worker.analysis.results import UnitResult
from worker.errors import DecoderCrashed, MediaChanged, MediaUnreachable
from worker.storage.sources import Sources
from worker.types import DecodeLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.release import Release
    from worker.analysis.decode_pool import DecodeEvent
    from worker.analysis.results import InferredChunk
    from worker.analysis.store.finisher import Finisher
    from worker.analysis.store.writer import Writer
    from worker.ledger.leases import LeaseHolder
    from worker.types import DecodedFrame, VideoReader

LINGER_SECONDS = 0.03  # a batch that is not full waits this long for one more frame
LEASE_PAUSE_SECONDS = 0.5  # before the ledger is asked again after it had nothing due
DETECT_BATCH_BYTES = 96 << 20  # pixels per detection batch: 16 frames up to 1080p, one of the largest stills


class StopSignal(Protocol):
    """An event of threads or of processes."""

    def is_set(self) -> bool:
        """Whether work should stop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions:
    """How a worker process is laid out."""

    decoders: int = 1
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    video_reader: VideoReader = "pyav"
    queue_bytes: int = 256 << 20
    detect_batch: int = 16
    infer_batch: int = 32
    max_tiles: int = 64
    sources: Sources = field(default_factory=Sources)


@dataclass(slots=True)
class Totals:
    """What a worker did so far."""

    units: int = 0
    frames: int = 0
    faces: int = 0
    stage_seconds: dict[str, float] = field(default_factory=dict)


class Pipeline:
    """Analyses leased units until none is due or it is told to stop."""

    def __init__(
        self,
        release: Release,
        leases: LeaseHolder,
        writer: Writer,
        finisher: Finisher,
        options: PipelineOptions | None = None,
    ) -> None:
        self._options = options or PipelineOptions()
        self._leases = leases
        self._writer = writer
        self._finisher = finisher
        self._recognizer = FaceRecognizer(release, self._options.infer_batch, self._options.max_tiles)
        self._flying: dict[int, UnitResult] = {}
        self._frames: dict[tuple[int, ...], list[tuple[UnitResult, DecodedFrame]]] = {}
        self._ask_again_at = 0.0
        self.totals = Totals()

    def run(self, stop: StopSignal, on_progress: Callable[[Totals], None] = lambda _: None) -> None:
        """Work until no unit is due.

        Raises:
            RetryableError: database or crop store is away.
        """
        wanted = self._options
        pool = DecodePool(wanted.decoders, wanted.limits, wanted.queue_bytes, wanted.video_reader, wanted.sources)
        try:
            while not stop.is_set() and self._has_work(pool):
                event = pool.next_event(LINGER_SECONDS)
                if event is None:
                    self._flush()
                else:
                    self._handle(event)
                self._keep(self._recognizer.finished())
                on_progress(self.totals)
            if not stop.is_set():
                self._writer.wait()
        finally:
            self._recognizer.close()
            pool.close()

    def _has_work(self, pool: DecodePool) -> bool:
        if self._lease(pool) or self._flying or self._finisher.is_busy:
            return True
        self._writer.wait()  # when the last range of a video is stored, its finish unit is due
        return self._lease(pool)

    def _lease(self, pool: DecodePool) -> bool:
        """Keep every decoder busy with a unit behind the one in its hands; False when nothing new is due.

        Ranges of films are long: one lies behind those in hand, and more are left to other hosts.
        """
        decoders = self._options.decoders
        wanted = 2 * decoders + 2
        decoding = [result.unit.kind for result in self._flying.values() if not result.decoded]
        busy = len(decoding) > wanted // 2 or ("video" in decoding and len(decoding) > decoders)
        finishing = self._finisher.is_busy
        if busy or ((self._flying or finishing) and time.monotonic() < self._ask_again_at):
            return False
        films = max(1, decoders + 1 - len(decoding))
        units = self._leases.take(wanted - len(decoding), videos=films, finish=not finishing)
        if not units:
            self._ask_again_at = time.monotonic() + LEASE_PAUSE_SECONDS
        for unit in units:
            if unit.stage == "finish":
                self._finisher.submit(unit)
            else:
                self._flying[unit.unit_id] = UnitResult(unit)
                pool.submit(unit)
        return bool(units)

    def _handle(self, event: DecodeEvent) -> None:
        if isinstance(event, DecodeFailed):
            raise event.error
        result = self._flying[event.unit_id]
        if isinstance(event, UnitOpened):
            result.info = event.info
        elif isinstance(event, UnitFrame):
            self._add_frame(result, event.frame)
        else:
            self._end_decode(result, event)

    def _add_frame(self, result: UnitResult, frame: DecodedFrame) -> None:
        if frame.scene_cut:
            result.cuts_seconds.append(frame.at_seconds)
        result.frames_waiting += 1
        batch = self._frames.setdefault(frame.pixels.shape, [])
        batch.append((result, frame))
        if len(batch) >= self._options.detect_batch or (len(batch) + 1) * frame.pixels.nbytes > DETECT_BATCH_BYTES:
            self._detect(frame.pixels.shape)

    def _end_decode(self, result: UnitResult, event: UnitDecoded) -> None:
        result.decoded, result.error = True, event.error
        result.spend("decode", event.seconds)
        for note in event.notes:
            result.note(note)
        if isinstance(event.error, MediaUnreachable):
            self._leases.avoid(result.unit, event.error)
        if isinstance(event.error, (DecoderCrashed, MediaUnreachable, MediaChanged)):
            self._abandon(result)
        else:
            self._store_if_complete(result)

    def _abandon(self, result: UnitResult) -> None:
        """A file that killed its decoder, went away or changed: what was seen of it is dropped."""
        unit_id = result.unit.unit_id
        for shape, batch in self._frames.items():
            self._frames[shape] = [entry for entry in batch if entry[0].unit.unit_id != unit_id]
        del self._flying[unit_id]
        self._writer.fail(result)

    def _detect(self, shape: tuple[int, ...]) -> None:
        batch = self._frames.pop(shape, [])
        if not batch:
            return
        self._recognizer.detect(batch)
        self._keep(self._recognizer.start_full())
        for result in {entry.unit.unit_id: entry for entry, _ in batch}.values():
            self._store_if_complete(result)

    def _keep(self, inferred: list[InferredChunk]) -> None:
        """Hand over what the network has done."""
        chunks = [chunk for chunk in inferred if self._flying.get(chunk.result.unit.unit_id) is chunk.result]
        for chunk in chunks:  # all crops of a unit are handed over before it is stored
            self._writer.add_crops(chunk)
        for chunk in chunks:
            self._store_if_complete(chunk.result)

    def _flush(self) -> None:
        """Nothing came for a moment: run what waits, full batch or not."""
        for shape in list(self._frames):
            self._detect(shape)
        self._recognizer.start_waiting()

    def _store_if_complete(self, result: UnitResult) -> None:
        if result.complete and self._flying.pop(result.unit.unit_id, None) is not None:
            self.totals.units += 1
            self.totals.frames += result.frame_count
            self.totals.faces += result.face_count
            for stage, seconds in result.stage_seconds.items():
                self.totals.stage_seconds[stage] = self.totals.stage_seconds.get(stage, 0.0) + seconds
            self._writer.store(result)
            self.totals.stage_seconds["store"] = self._writer.seconds
