"""Single frames as pictures: decoded in confined children, never in this process, and kept for a while."""

from __future__ import annotations

import io
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock, local
from typing import TYPE_CHECKING

from PIL import Image

from worker.decode.client import Decoder
from worker.errors import MediaRejected, RetryableError
from worker.types import DecodeLimits, DecodeRequest
from worker.web.pages.media.opening import expected_content
from worker.web.queries.tracks import SAME_FRAME_SECONDS

if TYPE_CHECKING:
    from worker.config import Settings
    from worker.storage.sources import Sources
    from worker.types import DecodedFrame
    from worker.web.queries.media import MediaSource

DECODERS = 2  # at a time
MAX_WAITING_STILLS = 16  # requests for a frame that are served or wait
MAX_KEPT = 64  # pictures in memory, 0.3 MB each
SILENCE_SECONDS = 30.0  # of a decoder, before its child is killed: a page is waiting
_QUALITY = 85
BACK_SECONDS = (0.0, 1.0, 10.0)  # a frame is looked for at a time, or, behind the last one, so much earlier


@dataclass(frozen=True, slots=True, kw_only=True)
class StillRequest:
    """Which frame, and how large."""

    source: MediaSource
    at_seconds: float
    max_side: int
    """Pixels of the longer side; a smaller frame keeps its size."""

    @property
    def key(self) -> tuple[str, int, int]:
        """Bytes, time and size that the picture depends on."""
        return self.source.sha256, round(self.at_seconds * 1000), self.max_side


@dataclass(frozen=True, slots=True)
class Still:
    """A frame as a JPEG file."""

    data: bytes
    at_seconds: float
    """Time of the frame, the first one at or after the time that was asked for."""


class Stills:
    """Decodes frames in threads of its own, each with a decode child, and keeps the latest pictures."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="stills")
        self._own = local()
        self._decoders: list[Decoder] = []
        self._room = BoundedSemaphore(MAX_WAITING_STILLS)
        self._kept: OrderedDict[tuple[str, int, int], Still] = OrderedDict()
        self._lock = Lock()

    def read(self, request: StillRequest, sources: Sources, settings: Settings) -> Still:
        """Return a frame.

        Raises:
            MediaError: the file cannot be read or decoded.
            RetryableError: too many others are waiting.
        """
        with self._lock:
            if (kept := self._kept.get(request.key)) is not None:
                self._kept.move_to_end(request.key)
                return kept
        if not self._room.acquire(blocking=False):
            raise RetryableError(f"{MAX_WAITING_STILLS} pictures are being decoded; load the page again in a moment")
        try:
            still = self._pool.submit(self._decode, request, sources, settings).result()
        finally:
            self._room.release()
        with self._lock:
            self._kept[request.key] = still
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return still

    def close(self) -> None:
        """End the threads and their children."""
        self._pool.shutdown(cancel_futures=True)
        for decoder in self._decoders:
            decoder.close()

    def _decode(self, request: StillRequest, sources: Sources, settings: Settings) -> Still:
        limits = DecodeLimits(
            memory_bytes=settings.decode_memory_bytes,
            wall_seconds=min(settings.decode_wall_seconds, SILENCE_SECONDS),
            total_seconds=2 * SILENCE_SECONDS,
        )
        if getattr(self._own, "decoder", None) is None:
            self._own.decoder = Decoder(limits)
            self._decoders.append(self._own.decoder)
        source = request.source
        with sources.open_local(source.location, expected_content(source)) as path:
            frame = _frame(self._own.decoder, path, request, limits)
        return Still(_encoded(frame, request.max_side), frame.at_seconds)


def _frame(decoder: Decoder, path: str, request: StillRequest, limits: DecodeLimits) -> DecodedFrame:
    """Decode the first frame at or after a time, or the last one.

    Raises:
        MediaError: there is none.
    """
    at, last = request.at_seconds, None
    for back in BACK_SECONDS:
        wanted = DecodeRequest(
            location=path,
            kind=request.source.kind,
            frames_per_second=None,
            start_seconds=max(at - SAME_FRAME_SECONDS - back, 0.0),
            limits=limits,
        )
        with decoder.open(wanted) as stream:
            at = min(at, stream.info.duration_seconds or at)
            for frame in stream:
                last = frame
                if not back or frame.at_seconds >= request.at_seconds:
                    break
        if last is not None:
            return last
    raise MediaRejected("corrupt", "no frame of the file can be decoded")


def _encoded(frame: DecodedFrame, max_side: int) -> bytes:
    image = Image.fromarray(frame.pixels)
    image.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY)
    return data.getvalue()


STILLS = Stills()
"""Of this process; its threads start with the first picture."""
