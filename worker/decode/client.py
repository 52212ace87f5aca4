"""Reads frames of a file through a child process that hostile bytes may kill.

with Decoder(DecodeLimits()) as decoder, decoder.open(DecodeRequest(location=path, kind="video")) as stream:
    stream.info
    for frame in stream: ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from worker.decode.process import Child
from worker.decode.wire import MessageKind, encode_request, info_from_meta
from worker.errors import DecoderCrashed, MediaRejected
from worker.values import DecodedFrame, DecodeLimits, DecodeRequest, MediaInfo, MediaKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from worker.decode.process import Message

DRAIN_SECONDS = 5.0
"""A stream that is left early is stopped in order within this silence, else its child is killed."""


class Decoder:
    """Owns one decode child, which serves many files and is replaced when it dies.

    For one thread at a time. The child ends with the thread that started it, so keep a decoder in a thread that lives
    as long as the decoder is used.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._child: Child | None = None
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

    def close(self) -> None:
        """End the child; the next request starts a new one."""
        self._stream = None
        if self._child is not None:
            self._child.kill()
            self._child = None

    def probe(self, location: str, kind: MediaKind) -> MediaInfo:
        """Read what a file says of itself, without decoding it.

        Raises:
            MediaRejected: the file is at fault.
            DecoderCrashed: the file killed or hung the child.
        """
        request = DecodeRequest(location=location, kind=kind, limits=self._limits)
        with self._ask("probe", request, "auto") as stream:
            return stream.info

    def open(self, request: DecodeRequest) -> DecodeStream:
        """Start decoding and return the stream of frames, whose ``info`` is already there.

        A stream that is still open is closed first.

        Raises:
            MediaRejected: the file is at fault.
            DecoderCrashed: the file killed or hung the child.
        """
        return self._ask("frames", request, "auto")

    def frames(self, request: DecodeRequest) -> Iterator[DecodedFrame]:
        """Decode a file, one frame at a time."""
        with self.open(request) as stream:
            yield from stream

    def _ask(self, operation: str, request: DecodeRequest, engine: str) -> DecodeStream:
        if self._stream is not None:
            self._stream.close()
        child = self._ensure_child(request.limits)
        child.send(encode_request(operation, request, engine))
        self._stream = DecodeStream(child, request)
        return self._stream

    def _ensure_child(self, limits: DecodeLimits) -> Child:
        """Return a living child with this memory limit."""
        child = self._child
        if child is None or not child.alive or child.memory_bytes != limits.memory_bytes:
            self.close()
            self._child = child = Child(limits.memory_bytes)
        return child


class DecodeStream:
    """The frames of one request, read from the child one at a time."""

    def __init__(self, child: Child, request: DecodeRequest) -> None:
        self._child = child
        self._limits = request.limits
        self._open = True
        self.info = self._read_info()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[DecodedFrame]:
        return self

    def __next__(self) -> DecodedFrame:
        if not self._open:
            raise StopIteration
        message = self._receive()
        if message.kind is MessageKind.FRAME:
            return self._read_frame(message)
        self._open = False
        if message.kind is not MessageKind.END:
            raise self._protocol_error(f"a {message.kind.name} message where a frame was expected")
        raise StopIteration

    def close(self) -> None:
        """Stop decoding; the child is ready for the next file, or gone."""
        if not self._open:
            return
        self._open = False
        self._child.kill()

    def _read_info(self) -> MediaInfo:
        message = self._receive()
        if message.kind is not MessageKind.INFO:
            raise self._protocol_error(f"a {message.kind.name} message where a description was expected")
        try:
            return info_from_meta(message.meta)
        except (TypeError, ValueError) as err:
            raise self._protocol_error(str(err)) from err

    def _receive(self) -> Message:
        """Return the next message that is more than a sign of life.

        Raises:
            MediaRejected: that message says that the file is at fault.
            DecoderCrashed: there is none.
        """
        try:
            while (message := self._child.receive(self._limits.wall_seconds)).kind is MessageKind.ALIVE:
                pass
        except DecoderCrashed:
            self._open = False
            raise
        if message.kind is MessageKind.REJECTED:
            self._open = False
            raise MediaRejected(str(message.meta.get("code")), str(message.meta.get("message")))
        return message

    def _read_frame(self, message: Message) -> DecodedFrame:
        try:
            width, height = int(message.meta["width"]), int(message.meta["height"])
            index, at_seconds = int(message.meta["index"]), float(message.meta["at_seconds"])
            scene_cut = bool(message.meta["scene_cut"])
        except (KeyError, TypeError, ValueError) as err:
            raise self._protocol_error(f"a frame without its facts ({err!r})") from err
        fits = width > 0 and height > 0 and width * height <= self._limits.pixels_per_frame
        if not fits or message.payload_bytes != width * height * 3:
            raise self._protocol_error(f"{message.payload_bytes} bytes for a frame of {width} x {height} pixels")
        pixels = np.empty((height, width, 3), dtype=np.uint8)
        try:
            self._child.read_into(pixels.data.cast("B"), self._limits.wall_seconds)
        except DecoderCrashed:
            self._open = False
            raise
        return DecodedFrame(index, at_seconds, pixels, scene_cut)

    def _protocol_error(self, what: str) -> DecoderCrashed:
        self._open = False
        self._child.kill()
        return DecoderCrashed("crashed", f"the decoder sent {what} and was killed")
