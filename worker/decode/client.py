"""Reads the frames of a file from a child process, which hostile bytes may kill.

with Decoder(DecodeLimits()) as decoder, decoder.open(DecodeRequest(location=path, kind="video")) as stream:
    stream.info
    for frame in stream: ...
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np

from worker import metrics
from worker.decode.opened import open_media
from worker.decode.process import Child
from worker.decode.wire import (
    CANCEL,
    MAX_FRAMES,
    MessageKind,
    Request,
    encode_request,
    info_from_meta,
    notes_from_meta,
    plain_text,
    tracks_from_meta,
)
from worker.errors import DecoderCrashed, MediaError, MediaRejected, MediaVanished
from worker.types import DecodedFrame, DecodeLimits, DecodeRequest, MediaInfo, MediaKind, SoundBlock, VideoReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from worker.decode.process import Message
    from worker.types import SoundTrack

logger = logging.getLogger(__name__)

MAX_BLOCK_SAMPLES = 1 << 20  # of one channel in one message: far beyond the frame of any codec
MAX_SAMPLE = 1 << 45  # place of a sample: ten years of sound
CANCEL_SECONDS = 5.0  # of silence after a stream is closed early; then its child is killed


class Decoder:
    """Own one decode child, which serves many files and is replaced when it dies.

    Use it from one thread at a time. The child ends with the thread that started it, so that thread has to live as long
    as the decoder is used.

    Args:
        limits: of the first child; a request has its own.
        video_reader: of most requests; another one costs a new child.
    """

    def __init__(self, limits: DecodeLimits, video_reader: VideoReader = "pyav") -> None:
        self._limits = limits
        self._child: Child | None = None
        # decord reads paths only: its child may open every file that the worker may
        self._reads_paths = video_reader == "decord"
        self._stream: DecodeStream | None = None

    def __enter__(self) -> Self:
        self._ensure_child(self._limits)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        return self._child.pid if self._child else None

    def protections(self) -> tuple[str, ...]:
        """Return the protections that hold for the child, of ``PROTECTIONS`` in ``worker.decode.child.confine``.

        Raises:
            DecoderCrashed: no child starts.
        """
        return self._ensure_child(self._limits).protections()

    def close(self) -> None:
        """End the child; the next request starts a new one."""
        self._stream = None
        if self._child is not None:
            self._child.kill()
            self._child = None

    def probe(self, location: str, kind: MediaKind) -> MediaInfo:
        """Read the description of a file; the first frame of a video is decoded, an image is not.

        Raises:
            MediaRejected: the file is at fault.
            MediaVanished: the file disappeared.
            DecoderCrashed: the file killed or hung the child.
        """
        request = DecodeRequest(location=location, kind=kind, limits=self._limits)
        with self._ask(Request("probe", request)) as stream:
            return stream.info

    def open(self, request: DecodeRequest) -> DecodeStream:
        """Start decoding and return the stream of frames, whose ``info`` is known at once.

        The limits of the request hold. A stream that is still open is closed first.

        Raises:
            MediaRejected: the file is at fault.
            MediaVanished: the file disappeared.
            DecoderCrashed: the file killed or hung the child.
        """
        return self._ask(Request("frames", request))

    def open_sound(self, request: DecodeRequest) -> DecodeStream:
        """Start reading the sound of a whole video and return its stream: ``tracks`` is known at once.

        Raises:
            MediaRejected: the file is at fault.
            MediaVanished: the file disappeared.
            DecoderCrashed: the file killed or hung the child.
        """
        return self._ask(Request("sound", request, "pyav"))

    def _ask(self, request: Request) -> DecodeStream:
        if self._stream is not None:
            self._stream.close()
        self._stream = DecodeStream(request, self._send)
        return self._stream

    def _send(self, request: Request) -> Child:
        """Send a request and its file, opened here, to a living child and return that child."""
        line = encode_request(request)
        file = open_media(request.decode.location)
        try:
            wants_paths = request.decode.kind == "video" and request.decode.video_reader == "decord"
            self._reads_paths = self._reads_paths or wants_paths
            child = self._ensure_child(request.decode.limits)
            try:
                child.send(line, file)
            except DecoderCrashed:
                # it ended after its last answer: this file was not the cause
                child = self._ensure_child(request.decode.limits)
                child.send(line, file)
        finally:
            os.close(file)
        child.allow(request.decode.limits.request_seconds)
        return child

    def _ensure_child(self, limits: DecodeLimits) -> Child:
        """Return a living child with this memory limit."""
        child = self._child
        wanted = (limits.memory_bytes, self._reads_paths)
        if child is None or not child.alive or (child.memory_bytes, child.reads_paths) != wanted:
            self.close()
            self._child = child = Child(limits.memory_bytes, reads_paths=self._reads_paths)
        return child


class DecodeStream:
    """The frames of one request, read from the child one at a time.

    If a video kills or hangs the child while decord reads it, PyAV resumes in a new child behind the last frame that
    was received.
    """

    def __init__(self, request: Request, send: Callable[[Request], Child]) -> None:
        self._request = request
        self._send = send
        self._limits = request.decode.limits
        self._engine = ""
        self._last: tuple[int, float] | None = None
        self._open = True
        self.damaged = 0
        """Packets and frames that could not be decoded completely; known after the last frame."""
        self.notes: tuple[str, ...] = ()
        """Parts of the file that were left out; known after the last frame."""
        self.tracks: tuple[SoundTrack, ...] = ()
        """Sound tracks, if the sound was asked for."""
        self._child = send(request)
        try:
            self.info = self._read_info()
        except DecoderCrashed as err:
            self.info = self._resume_with_pyav(err)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> DecodedFrame:
        while self._open:
            try:
                frame = self._read_next()
            except DecoderCrashed as err:
                self._resume_with_pyav(err)
                continue
            if frame is None:
                break
            if isinstance(frame, SoundBlock):
                raise self._protocol_error("sound, expected a frame")
            if self._last is None or frame.index > self._last[0]:
                self._last = frame.index, frame.at_seconds
                return frame
        raise StopIteration

    def sound(self) -> Iterator[SoundBlock]:
        """Yield the blocks of all tracks in the order of the file.

        Raises:
            MediaError: the rest cannot be read.
        """
        while self._open:
            block = self._read_next()
            if isinstance(block, DecodedFrame):
                raise self._protocol_error("a frame, expected sound")
            if block is not None:
                yield block

    def close(self) -> None:
        """Stop decoding; afterwards the child is ready for the next file, or has ended."""
        if not self._open:
            return
        try:
            self._child.send(CANCEL)
            while self._open:
                self._read_next(min(CANCEL_SECONDS, self._limits.wall_seconds))
        except MediaError:
            self._open = False

    def _resume_with_pyav(self, crash: DecoderCrashed) -> MediaInfo:
        """Ask a new child for the rest of the video, without decord.

        Raises:
            DecoderCrashed: the given crash, if decord was not involved.
        """
        decode = self._request.decode
        self._open = False
        tried = self._request.engine == "pyav" or self._engine == "pyav"
        if decode.kind != "video" or tried:
            raise crash
        metrics.count_killed_child()
        logger.warning(
            "PyAV resumes a video after decord crashed", extra={"action": "decord_crashed", "reason": crash.reason}
        )
        if self._last is not None:  # its last frame is decoded again, to compare the next one with it
            decode = replace(decode, start_seconds=self._last[1])
        self._request = Request(self._request.operation, decode, "pyav")
        self._child = self._send(self._request)
        self._open = True
        return self._read_info()

    def _read_info(self) -> MediaInfo:
        message = self._receive(self._limits.wall_seconds)
        if message.kind is not MessageKind.INFO:
            raise self._protocol_error(f"a {message.kind.name} message, expected a description")
        try:
            info, self._engine = info_from_meta(message.meta)
            self.tracks = tracks_from_meta(message.meta)
        except (KeyError, TypeError, ValueError, OverflowError) as err:
            raise self._protocol_error(f"an invalid description ({err})") from err
        return info

    def _read_next(self, wall_seconds: float | None = None) -> DecodedFrame | SoundBlock | None:
        """Return the next frame or block of sound; None after the last one."""
        message = self._receive(wall_seconds or self._limits.wall_seconds)
        if message.kind is MessageKind.FRAME:
            return self._read_frame(message)
        if message.kind is MessageKind.SOUND:
            return self._read_sound(message)
        if message.kind is MessageKind.INFO:  # of a stream that is closed before it was read
            return self._read_next(wall_seconds)
        if message.kind is not MessageKind.END:
            raise self._protocol_error(f"a {message.kind.name} message, expected a frame")
        self._open = False
        damaged = message.meta.get("damaged", 0)
        self.damaged = damaged if isinstance(damaged, int) else 1
        self.notes = notes_from_meta(message.meta)
        return None

    def _receive(self, wall_seconds: float) -> Message:
        """Return the next message, signs of life aside.

        Raises:
            MediaRejected: the child reports that the file is at fault.
            MediaVanished: the child reports that the file disappeared.
            DecoderCrashed: the child ended or was killed.
        """
        while (message := self._child.receive(wall_seconds)).kind is MessageKind.ALIVE:
            pass
        if message.kind is MessageKind.REJECTED:
            code, text = plain_text(message.meta.get("code")), plain_text(message.meta.get("message"))
            if code == "out_of_memory" and self._engine == "decord":  # it buffers without bound; PyAV needs little
                self._child.kill()
                raise DecoderCrashed(code, text)
            self._open = False
            if code == "not_found":  # its disk may be unreachable for a while: worth another try
                raise MediaVanished(text)
            raise MediaRejected(code, text)
        return message

    def _read_frame(self, message: Message) -> DecodedFrame:
        meta = message.meta
        try:
            width, height = int(meta["width"]), int(meta["height"])
            index, at_seconds, scene_cut = int(meta["index"]), float(meta["at_seconds"]), bool(meta["scene_cut"])
            hold_seconds = float(meta["hold_seconds"])
        except (KeyError, TypeError, ValueError, OverflowError) as err:
            raise self._protocol_error(f"a frame with an invalid header ({err!r})") from err
        counted = 0 <= index < min(MAX_FRAMES, self._limits.frames_per_file)
        if not (counted and math.isfinite(at_seconds) and 0 <= hold_seconds < math.inf):
            raise self._protocol_error(f"a frame {index} at {at_seconds} s")
        fits = width > 0 and height > 0 and width * height <= self._limits.pixels_per_frame
        if not fits or message.payload_bytes != width * height * 3:
            raise self._protocol_error(f"{message.payload_bytes} bytes for a frame of {width} x {height} pixels")
        pixels = np.empty((height, width, 3), dtype=np.uint8)
        self._child.read_into(pixels.data.cast("B"), self._limits.wall_seconds)
        return DecodedFrame(index, at_seconds, pixels, scene_cut, hold_seconds)

    def _read_sound(self, message: Message) -> SoundBlock:
        try:
            place, start, count = (int(message.meta[name]) for name in ("track", "start", "count"))
        except (KeyError, TypeError, ValueError, OverflowError) as err:
            raise self._protocol_error(f"sound with an invalid header ({err!r})") from err
        known = 0 <= place < len(self.tracks) and 0 <= start < MAX_SAMPLE and 0 < count <= MAX_BLOCK_SAMPLES
        channels = self.tracks[place].channels if known else 0
        if not known or message.payload_bytes != 2 * count * channels:
            raise self._protocol_error(f"{message.payload_bytes} bytes for {count} samples of track {place}")
        samples = np.empty((count, channels), np.int16)
        self._child.read_into(samples.data.cast("B"), self._limits.wall_seconds)
        return SoundBlock(place, start, samples)

    def _protocol_error(self, received: str) -> DecoderCrashed:
        self._child.kill()
        return DecoderCrashed("crashed", f"the decoder sent {received} and was killed")
