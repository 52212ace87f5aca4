"""The pipeline of a unit: decode, detect, align, infer, store. This module alone knows the order of the stages."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from worker.analysis.decode_pool import DecodeFailed, DecodePool, UnitDecoded, UnitFrame, UnitOpened
from worker.analysis.flight import UnitInFlight
from worker.analysis.frames import FrameBatcher
from worker.analysis.recognition import FaceRecognizer
from worker.errors import AttemptFailed, MediaChanged, MediaUnreachable
from worker.storage.sources import Sources
from worker.types import DecodeLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.release import Release
    from worker.analysis.decode_pool import DecodeEvent
    from worker.analysis.frames import FrameBatch
    from worker.analysis.results import InferredChunk, UnitResult
    from worker.analysis.store.finisher import Finisher
    from worker.analysis.store.writer import Writer
    from worker.ledger.leases import LeaseHolder
    from worker.types import VideoReader

LINGER_SECONDS = 0.03  # a batch that is not full waits this long for one more frame
LEASE_PAUSE_SECONDS = 0.5  # before the ledger is asked again when nothing was due
DETECT_BATCH_BYTES = 96 << 20  # pixels per detection batch: 16 frames up to 1080p, one of the largest images


class StopSignal(Protocol):
    """An event of threads or of processes."""

    def is_set(self) -> bool:
        """Whether work should stop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions:
    """Sizes, limits and sources of a worker process."""

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
    """Counts of a worker since its start."""

    units: int = 0
    frames: int = 0
    faces: int = 0
    frames_in_flight: int = 0
    """Frames that were searched, of units that are not complete yet."""
    stage_seconds: dict[str, float] = field(default_factory=dict)

    def add(self, result: UnitResult) -> None:
        """Count a complete unit."""
        self.units += 1
        self.frames += result.frame_count
        self.faces += result.face_count
        for stage, seconds in result.stage_seconds.items():
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds


class Pipeline:
    """Analyses leased units until none is due or the stop signal is set."""

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
        self._frames = FrameBatcher(self._options.detect_batch, DETECT_BATCH_BYTES)
        self._in_flight: dict[int, UnitInFlight] = {}
        self._ask_again_at = 0.0
        self.totals = Totals()

    def run(self, stop: StopSignal, on_progress: Callable[[Totals], None] = lambda _: None) -> None:
        """Work until no unit is due.

        Raises:
            RetryableError: database or crop store is unreachable.
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
                self._hand_over(self._recognizer.finished())
                self.totals.frames_in_flight = sum(flight.frame_count for flight in self._in_flight.values())
                on_progress(self.totals)
            if not stop.is_set():
                self._writer.wait()
        finally:
            self._recognizer.close()
            pool.close()

    def _has_work(self, pool: DecodePool) -> bool:
        if self._lease(pool) or self._in_flight or self._finisher.is_busy:
            return True
        self._writer.wait()  # when the last range of a video is stored, its finish unit is due
        return self._lease(pool)

    def _lease(self, pool: DecodePool) -> bool:
        """Lease units ahead, so that no decoder waits; returns False when nothing new is due.

        Ranges of videos are long: one is leased ahead, and the others are left to other hosts.
        """
        decoders = self._options.decoders
        wanted = 2 * decoders + 2
        decoding = [flight.unit.kind for flight in self._in_flight.values() if not flight.is_decoded]
        busy = len(decoding) > wanted // 2 or ("video" in decoding and len(decoding) > decoders)
        finishing = self._finisher.is_busy
        if busy or ((self._in_flight or finishing) and time.monotonic() < self._ask_again_at):
            return False
        videos = max(1, decoders + 1 - len(decoding))
        units = self._leases.take(wanted - len(decoding), videos=videos, finish=not finishing)
        if not units:
            self._ask_again_at = time.monotonic() + LEASE_PAUSE_SECONDS
        for unit in units:
            if unit.stage == "finish":
                self._finisher.submit(unit)
            else:
                self._in_flight[unit.unit_id] = UnitInFlight(unit)
                pool.submit(unit)
        return bool(units)

    def _handle(self, event: DecodeEvent) -> None:
        if isinstance(event, DecodeFailed):
            raise event.error
        flight = self._in_flight[event.unit_id]
        if isinstance(event, UnitOpened):
            flight.info = event.info
        elif isinstance(event, UnitFrame):
            flight.add_frame(event.frame)
            batch = self._frames.add(flight.unit, event.frame)
            if batch is not None:
                self._detect(batch)
        else:
            self._end_decode(flight, event)

    def _end_decode(self, flight: UnitInFlight, event: UnitDecoded) -> None:
        flight.end_decode(event.error, event.seconds, event.notes)
        if isinstance(event.error, MediaUnreachable):
            self._leases.avoid(flight.unit, event.error)
        if isinstance(event.error, (AttemptFailed, MediaUnreachable, MediaChanged)):
            self._abandon(flight)
        else:
            self._store_if_complete(flight)

    def _abandon(self, flight: UnitInFlight) -> None:
        """Drop a unit that cannot be stored, with all faces found in it, and report its error to the writer."""
        self._frames.drop(flight.unit)
        del self._in_flight[flight.unit.unit_id]
        self._writer.fail(flight.result())

    def _detect(self, batch: FrameBatch) -> None:
        found = self._recognizer.detect(batch)
        share = found.seconds / len(batch)
        flights = [self._in_flight[unit.unit_id] for unit in batch.units]
        for flight, frames in zip(flights, batch.frame_counts, strict=True):
            flight.end_detection(frames, share * frames, found.note, has_faces=flight.unit in found.units)
        self._hand_over(self._recognizer.start_full())
        for flight in flights:
            self._store_if_complete(flight)

    def _hand_over(self, chunks: list[InferredChunk]) -> None:
        """Hand inferred faces to the writer, and store the units that are complete with them."""
        flights = []
        for chunk in chunks:  # all crops of a unit are handed over before it is stored
            flight = self._in_flight.get(chunk.unit.unit_id)
            if flight is None or flight.unit is not chunk.unit:
                continue  # abandoned meanwhile
            flights.append(flight)
            strip = flight.add_faces(chunk)
            if len(chunk.crops):
                self._writer.add_crops(chunk.unit, strip, chunk.crops)
        for flight in flights:
            self._store_if_complete(flight)

    def _flush(self) -> None:
        """Run whatever waits, full batch or not: no event came for a moment."""
        for batch in self._frames.take_all():
            self._detect(batch)
        self._recognizer.start_waiting()

    def _store_if_complete(self, flight: UnitInFlight) -> None:
        if flight.is_complete and self._in_flight.pop(flight.unit.unit_id, None) is not None:
            result = flight.result()
            self.totals.add(result)
            self._writer.store(result)
            self.totals.stage_seconds["store"] = self._writer.seconds
