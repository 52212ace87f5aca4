"""The process that reads hostile bytes: ``python -m worker.decode.child MEMORY_BYTES PARENT_PID FILES [paths]``.

Reads requests from standard input and writes messages to standard output; it uses no database, network or setting. The
open file of each request arrives through the socket ``FILES``; with ``paths``, the process may also open files to read.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

import av.logging
import cv2

from worker.decode.child import scenes
from worker.decode.child.confine import NETWORK, confine, die_with_parent, leave_network
from worker.decode.child.readers.image import image_reader
from worker.decode.child.readers.image.ending import ends_early
from worker.decode.child.readers.image.image_reader import open_image
from worker.decode.child.readers.video import decord_reader
from worker.decode.child.readers.video.video import Video
from worker.decode.child.scenes import CutDetector
from worker.decode.opened import location_of
from worker.decode.wire import CANCEL, MessageKind, Request, decode_request, frame_meta, write_message
from worker.errors import MediaRejected
from worker.types import DecodedFrame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.decode.child.readers.image.album import Album
    from worker.decode.child.readers.image.image_reader import ImageReader
    from worker.types import DecodeRequest

OPENCV_NO_MEMORY = -4  # cv::Error::StsNoMem
ALIVE_SECONDS = 1.0  # between two signs of life; far below any limit for silence


def main() -> None:
    """Serve requests until standard input ends."""
    memory_bytes, parent, files = (int(word) for word in sys.argv[1:4])
    has_own_network = leave_network()
    die_with_parent(parent)
    server = Server(*_private_pipes(), socket.socket(fileno=files))
    _load_codecs()
    protections = confine(memory_bytes, reads_paths="paths" in sys.argv[4:])
    server.serve([*protections, *([NETWORK] if has_own_network else [])])


class Server:
    """Answer one request after the other."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO, files: socket.socket) -> None:
        self._requests = requests
        self._replies = replies
        self._files = files
        self._sent_at = time.monotonic()
        self._video: Video | None = None
        self._video_file = -1
        self._video_key: tuple[object, ...] = ()

    def serve(self, protections: list[str]) -> None:
        """Report that the process is ready, with its protections, then answer requests."""
        self._send(MessageKind.READY, {"protections": protections})
        for line in self._requests:
            if line != CANCEL:  # it came too late: its request is answered
                self._serve(decode_request(line), _receive_file(self._files))

    def _serve(self, request: Request, file: int) -> None:
        try:
            self._answer(request, file)
        except MediaRejected as err:
            broken_off = err.code == "corrupt" and request.decode.kind == "image" and ends_early(location_of(file))
            self._reject("truncated" if broken_off else err.code, str(err))
        except FileNotFoundError:
            self._reject("not_found", "the file no longer exists")
        except PermissionError:
            self._reject("no_permission", "the file may not be read")
        except (MemoryError, cv2.error) as err:
            if isinstance(err, cv2.error) and err.code != OPENCV_NO_MEMORY:
                raise
            self._reject("out_of_memory", "the file needs more memory than one file may use")
        finally:
            os.close(file)

    def _reject(self, code: str, message: str) -> None:
        self._close_video()
        self._send(MessageKind.REJECTED, {"code": code, "message": message})

    def _answer(self, request: Request, file: int) -> None:
        source = self._open(request, file)
        try:
            if request.operation == "sound" and isinstance(source, Video):
                self._answer_sound(source)
                return
            if request.operation == "frames":
                source.scanned()
            info = source.info if request.operation == "frames" else source.outline()
            self._send(MessageKind.INFO, {"info": asdict(info), "engine": source.engine})
            if request.operation == "frames":
                self._stream(source, request.decode)
            self._send(MessageKind.END, {"damaged": source.damaged, "notes": source.notes})
        finally:
            if source is not self._video:
                source.close()

    def _answer_sound(self, video: Video) -> None:
        """Describe the tracks of a video, then send their samples in the order of the file."""
        video.scanned()
        reader = video.open_sound()
        try:
            tracks = [asdict(track) for track in reader.tracks]
            self._send(MessageKind.INFO, {"info": asdict(video.info), "engine": "pyav", "tracks": tracks})
            for block in video.sound(reader):
                meta = {"track": block.track, "start": block.start, "count": len(block.samples)}
                self._send(MessageKind.SOUND, meta, block.samples.data.cast("B"))
                if self._cancelled():
                    break
            self._send(MessageKind.END, {"damaged": 0, "notes": ()})
        finally:
            reader.close()

    def _stream(self, source: ImageReader | Album | Video, wanted: DecodeRequest) -> None:
        """Send the frames of the range; the frame before it is only compared, to detect a cut."""
        detector = CutDetector()
        for sampled in source.frames(wanted):
            cut = detector.is_cut(sampled.pixels) or sampled.starts_shot
            if wanted.start_seconds is not None and sampled.at_seconds < wanted.start_seconds:
                continue
            frame = DecodedFrame(sampled.index, sampled.at_seconds, sampled.pixels, cut, sampled.hold_seconds)
            self._send(MessageKind.FRAME, frame_meta(frame), frame.pixels.data.cast("B"))
            if self._cancelled():
                return

    def _open(self, request: Request, file: int) -> ImageReader | Album | Video:
        """Open a file, or reuse the open video of the request before: its ranges follow each other."""
        wanted = request.decode
        stat = os.fstat(file)
        with_decord = request.engine == "auto" and wanted.video_reader == "decord"
        same = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        key = (*same, wanted.limits, with_decord)
        if self._video is not None and (wanted.kind, key) == ("video", self._video_key):
            return self._video
        self._close_video()
        if wanted.kind == "image":
            return open_image(location_of(file), wanted.limits)
        self._video_file, self._video_key = os.dup(file), key
        location = location_of(self._video_file)
        self._video = Video(location, wanted.limits, self._alive, with_decord=with_decord)
        return self._video

    def _close_video(self) -> None:
        if self._video is not None:
            self._video.close()
            self._video = None
        if self._video_file >= 0:
            os.close(self._video_file)
            self._video_file = -1

    def _cancelled(self) -> bool:
        """Return whether the client wrote while frames are sent, which cancels the request."""
        return bool(select.select([self._requests], [], [], 0)[0])

    def _alive(self) -> None:
        if time.monotonic() - self._sent_at > ALIVE_SECONDS:
            self._send(MessageKind.ALIVE, {})

    def _send(self, kind: MessageKind, meta: Mapping[str, Any], payload: memoryview | None = None) -> None:
        write_message(self._replies, kind, meta, payload)
        self._sent_at = time.monotonic()


def _receive_file(files: socket.socket) -> int:
    """Return the descriptor of the next file."""
    _, descriptors, _, _ = socket.recv_fds(files, 1, 1)
    return descriptors[0]


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move the pipes away from 0 and 1, so that a library that prints cannot break a message."""
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


def _load_codecs() -> None:
    """Load every library that decodes, decord last (see there), and disable their output."""
    av.logging.set_level(None)
    cv2.setNumThreads(1)
    scenes.load_colour_tables()
    image_reader.load_codecs()
    decord_reader.load_decord()


if __name__ == "__main__":
    main()
