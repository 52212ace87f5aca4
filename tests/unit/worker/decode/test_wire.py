import io
import json

import numpy as np
import pytest

from worker.decode.wire import (
    HEADER,
    MAGIC,
    MAX_REQUEST_NOTES,
    MessageKind,
    Request,
    decode_request,
    encode_request,
    frame_meta,
    info_from_meta,
    notes_from_meta,
    write_message,
)
from worker.types import DecodedFrame, DecodeLimits, DecodeRequest


@pytest.mark.parametrize("name", ["/a/b.mp4", '/a/line\nbreak "quoted".mp4', "/a/\udcff\udc80.mp4", "/ä/日本.mp4"])
def test_requests_survive_the_pipe_whatever_the_name(name):
    limits = DecodeLimits(memory_bytes=7, wall_seconds=1.5)
    decode = DecodeRequest(location=name, kind="video", frames_per_second=None, start_seconds=0.1, limits=limits)
    request = Request("frames", decode, "pyav")
    line = encode_request(request)
    assert line.count(b"\n") == 1
    assert decode_request(line) == request


def test_a_message_is_header_json_and_pixels():
    out = io.BytesIO()
    frame = DecodedFrame(
        5, 1 / 3, np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3), scene_cut=True, hold_seconds=0.25
    )
    write_message(out, MessageKind.FRAME, frame_meta(frame), frame.pixels.data.cast("B"))
    magic, kind, meta_bytes, payload_bytes = HEADER.unpack(out.getvalue()[: HEADER.size])
    assert (magic, kind, payload_bytes) == (MAGIC, b"f", 18)
    meta = json.loads(out.getvalue()[HEADER.size :][:meta_bytes])
    assert meta == {"index": 5, "at_seconds": 1 / 3, "scene_cut": True, "hold_seconds": 0.25, "width": 3, "height": 2}
    assert out.getvalue()[-18:] == frame.pixels.tobytes()


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"info": {"kind": "sound", "format": "mp3", "width": 1, "height": 1}, "engine": "x"},
        {"info": {"kind": "image", "format": "png", "width": 0, "height": 1}, "engine": "x"},
        {"info": {"kind": "image", "format": "png", "width": 1, "height": 1, "more": 1}, "engine": "x"},
    ],
)
def test_a_description_that_is_none_is_not_believed(meta):
    with pytest.raises((KeyError, TypeError, ValueError)):
        info_from_meta(meta)


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        (["pages 2 to 3 were not analysed"], ("pages 2 to 3 were not analysed",)),
        (["two\nlines", 7], ("two lines", "7")),
        (["x"] * 99, ("x",) * MAX_REQUEST_NOTES),
        ("one text", ()),
        (None, ()),
    ],
)
def test_notes_of_a_child_are_short_plain_texts(notes, expected):
    assert notes_from_meta({"notes": notes}) == expected
    assert notes_from_meta({}) == ()
