"""The process that reads hostile bytes: ``python -m worker.decode.child MEMORY_BYTES PARENT_PID``.

Reads requests from standard input, writes messages to standard output, knows no database, network or setting.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, BinaryIO

import av.logging
import cv2

from worker.decode import stills
from worker.decode.confine import confine, die_with_parent
from worker.decode.scenes import SceneJudge
from worker.decode.stills import Still
from worker.decode.video import Video
from worker.decode.wire import MessageKind, decode_request, frame_meta, write_message
from worker.errors import MediaRejected
from worker.values import DecodedFrame

if TYPE_CHECKING:
    from worker.values import DecodeRequest


def main() -> None:
    """Serve requests until standard input ends."""
    memory_bytes, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    requests, replies = _private_pipes()
    av.logging.set_level(None)
    cv2.setNumThreads(1)
    stills.prepare()
    confine(memory_bytes)
    write_message(replies, MessageKind.READY, {})
    for line in requests:
        _serve(line, replies)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move the pipes away from 0 and 1, so that a library that prints cannot break a message."""
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


def _serve(line: bytes, replies: BinaryIO) -> None:
    operation, request, _ = decode_request(line)
    try:
        _answer(operation, request, replies)
    except MediaRejected as err:
        write_message(replies, MessageKind.REJECTED, {"code": err.code, "message": str(err)})
    except MemoryError:
        text = "the file needs more memory than one file may use"
        write_message(replies, MessageKind.REJECTED, {"code": "out_of_memory", "message": text})


def _answer(operation: str, request: DecodeRequest, replies: BinaryIO) -> None:
    source = (Still if request.kind == "image" else Video)(request.location, request.limits)
    write_message(replies, MessageKind.INFO, asdict(source.info))
    if operation == "frames":
        judge = SceneJudge()
        for index, at_seconds, pixels in source.frames(request):
            cut = judge.is_cut(pixels)
            if request.start_seconds is not None and at_seconds < request.start_seconds:
                continue
            frame = DecodedFrame(index, at_seconds, pixels, cut)
            write_message(replies, MessageKind.FRAME, frame_meta(frame), pixels.data.cast("B"))
    write_message(replies, MessageKind.END, {})


if __name__ == "__main__":
    main()
