"""Decode stage: threads, each with a decode child, that turn leased units into a bounded stream of events."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker import metrics
from worker.analysis.byte_queue import ByteQueue
from worker.decode.client import Decoder
from worker.errors import DecoderCrashed, MediaError, MediaRejected
from worker.storage.sources import Sources
from worker.storage.stamps import Expected
from worker.types import DecodedFrame, DecodeLimits, DecodeRequest, MediaInfo

if TYPE_CHECKING:
    from worker.ledger.units import LeasedUnit
    from worker.types import VideoReader


@dataclass(frozen=True, slots=True)
class UnitOpened:
    """The file was opened, and its container read."""

    unit_id: int
    info: MediaInfo


@dataclass(frozen=True, slots=True)
class UnitFrame:
    """One sampled frame."""

    unit_id: int
    frame: DecodedFrame


@dataclass(frozen=True, slots=True)
class UnitDecoded:
    """No more frames of this unit will follow."""

    unit_id: int
    error: MediaError | None
    seconds: float
    """Time of the child, without waiting for room in the queue."""
    notes: tuple[str, ...] = ()
    """Parts of the file that the decoder skipped."""


@dataclass(frozen=True, slots=True)
class DecodeFailed:
    """The decode stage itself failed: the worker has to stop."""

    error: Exception


DecodeEvent = UnitOpened | UnitFrame | UnitDecoded | DecodeFailed


class DecodePool:
    """Decodes units on several children at once; events of one unit arrive in order."""

    def __init__(
        self,
        decoders: int,
        limits: DecodeLimits,
        queue_bytes: int,
        video_reader: VideoReader = "pyav",
        sources: Sources | None = None,
    ) -> None:
        self._sources = sources or Sources()
        self._limits = limits
        self._video_reader: VideoReader = video_reader
        self._units: queue.SimpleQueue[LeasedUnit | None] = queue.SimpleQueue()
        self._events: ByteQueue[DecodeEvent] = ByteQueue(queue_bytes)
        self._threads = [
            threading.Thread(target=self._serve, name=f"decode-{number}", daemon=True) for number in range(decoders)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, unit: LeasedUnit) -> None:
        """Queue a unit for decoding."""
        self._units.put(unit)

    def next_event(self, timeout_seconds: float) -> DecodeEvent | None:
        """Remove and return the oldest event; None when none came in time."""
        return self._events.get(timeout_seconds)

    def close(self) -> None:
        """Stop the threads and their children; events that were not taken are dropped."""
        self._events.close()
        for _ in self._threads:
            self._units.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        try:
            with Decoder(self._limits, self._video_reader) as decoder:
                while (unit := self._units.get()) is not None:
                    if not self._decode(decoder, unit):
                        return
        except Exception as err:  # noqa: BLE001 - every failure of a thread has to reach the worker
            self._events.put(DecodeFailed(err), 0)

    def _decode(self, decoder: Decoder, unit: LeasedUnit) -> bool:
        """Decode one unit; returns False when the pool is being closed."""
        error: MediaError | None = None
        notes: tuple[str, ...] = ()
        started, waited = time.perf_counter(), 0.0
        try:
            with (
                self._sources.open_local(unit.location, _expected(unit)) as location,
                decoder.open(self._request(unit, location)) as stream,
            ):
                self._events.put(UnitOpened(unit.unit_id, stream.info), 0)
                for frame in stream:
                    ready = time.perf_counter()
                    if not self._events.put(UnitFrame(unit.unit_id, frame), frame.pixels.nbytes):
                        return False
                    waited += time.perf_counter() - ready
                notes = stream.notes
                if stream.damaged:
                    raise MediaRejected("damaged", f"{stream.damaged} packets or frames could not be decoded")
        except MediaError as err:
            error = err
            if isinstance(err, DecoderCrashed):
                metrics.count_killed_child()
        spent = time.perf_counter() - started - waited
        return self._events.put(UnitDecoded(unit.unit_id, error, spent, notes), 0)

    def _request(self, unit: LeasedUnit, location: str) -> DecodeRequest:
        return DecodeRequest(
            location=location,
            kind=unit.kind,
            frames_per_second=unit.sampling_fps,
            start_seconds=unit.start_seconds,
            end_seconds=unit.end_seconds,
            limits=self._limits,
            video_reader=self._video_reader,
        )


def _expected(unit: LeasedUnit) -> Expected:
    return Expected(sha256=unit.sha256, byte_size=unit.byte_size, stamp=unit.stamp, is_image=unit.kind == "image")
