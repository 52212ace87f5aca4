"""A child that was taken over may answer anything: its parent reads JSON and raw bytes, and never believes a length."""

import json
import pickle

import pytest
from PIL import Image

from worker.decode.client import Decoder
from worker.decode.wire import HEADER, MAGIC, info_from_meta, plain_text
from worker.errors import DecoderCrashed, MediaRejected
from worker.types import DecodeLimits, DecodeRequest

LIMITS = DecodeLimits(wall_seconds=1.0)
PROGRAM = """
import sys
out = sys.stdout.buffer
out.write(bytes.fromhex({ready!r}))
out.flush()
sys.stdin.buffer.readline()
out.write(open({answer!r}, "rb").read())
out.flush()
sys.stdin.buffer.readline()
"""


class Bomb:
    def __reduce__(self):
        return (open, ("taken-over", "w"))


def message(kind, meta, payload=b"", size=None):
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    return HEADER.pack(MAGIC, kind, len(text), len(payload) if size is None else size) + text + payload


INFO = {"info": {"kind": "image", "format": "png", "width": 4, "height": 2}, "engine": "pillow"}
FRAME = {"index": 0, "at_seconds": 0.0, "scene_cut": False, "hold_seconds": 0.0, "width": 4, "height": 2}
INFO_MESSAGE = message(b"i", INFO)
NONSENSE = {
    "a pickle": pickle.dumps(Bomb()),
    "a pickle for meta": message(b"i", pickle.dumps(Bomb())),
    "a list": message(b"i", []),
    "a deep list": message(b"i", b"[" * 100_000),
    "a huge length": HEADER.pack(MAGIC, b"i", 1 << 31, 0),
    "an unknown kind": message(b"?", {}),
    "no description": message(b"i", {"info": 3, "engine": "x"}),
    "a side that is no number": message(b"i", {**INFO, "info": {**INFO["info"], "width": [1]}}),
    "an endless side": message(b"i", {**INFO, "info": {**INFO["info"], "width": float("inf")}}),
    "key frames that go back": message(
        b"i",
        {
            **INFO,
            "info": {
                **INFO["info"],
                "key_frames": [{"at_seconds": 1.0, "number": 5}, {"at_seconds": 0.5, "number": 9}],
            },
        },
    ),
    "key frames that are none": message(b"i", {**INFO, "info": {**INFO["info"], "key_frames": [3]}}),
    "a frame of other size": INFO_MESSAGE + message(b"f", FRAME, bytes(5)),
    "a frame of terabytes": INFO_MESSAGE + message(b"f", {**FRAME, "width": 1 << 40}, size=3 << 41),
    "a frame without a time": INFO_MESSAGE + message(b"f", {**FRAME, "at_seconds": float("nan")}, bytes(24)),
    "a frame held for ever": INFO_MESSAGE + message(b"f", {**FRAME, "hold_seconds": float("inf")}, bytes(24)),
    "a frame held for less than nothing": INFO_MESSAGE + message(b"f", {**FRAME, "hold_seconds": -1.0}, bytes(24)),
    "a frame beyond counting": INFO_MESSAGE + message(b"f", {**FRAME, "index": 1 << 70}, bytes(24)),
    "a frame before the first": INFO_MESSAGE + message(b"f", {**FRAME, "index": -1}, bytes(24)),
}


TRACKS = [{"rate": 48000, "layout": "stereo", "language": "deu"}]
SOUND_INFO = message(b"i", {**INFO, "tracks": TRACKS})
BLOCK = {"track": 0, "start": 0, "count": 3}
SOUND_NONSENSE = {
    "sound of another size": SOUND_INFO + message(b"s", BLOCK, bytes(5)),
    "sound of terabytes": SOUND_INFO + message(b"s", {**BLOCK, "count": 1 << 40}, size=1 << 42),
    "sound of no track": SOUND_INFO + message(b"s", {**BLOCK, "track": 1}, bytes(12)),
    "sound before the start": SOUND_INFO + message(b"s", {**BLOCK, "start": -1}, bytes(12)),
    "sound beyond counting": SOUND_INFO + message(b"s", {**BLOCK, "start": 1 << 70}, bytes(12)),
    "sound without a place": SOUND_INFO + message(b"s", {"track": 0}, bytes(12)),
    "a frame": SOUND_INFO + message(b"f", FRAME, bytes(24)),
    "an unknown rate": message(b"i", {**INFO, "tracks": [{**TRACKS[0], "rate": 1 << 40}]}),
    "an unknown layout": message(b"i", {**INFO, "tracks": [{**TRACKS[0], "layout": "thousand"}]}),
    "tracks that are none": message(b"i", {**INFO, "tracks": 7}),
}


def answer(monkeypatch, tmp_path, data, *, sound=False):
    ready = message(b"r", {"protections": "none"})
    (tmp_path / "answer").write_bytes(data)
    program = PROGRAM.format(ready=ready.hex(), answer=str(tmp_path / "answer"))
    monkeypatch.setattr("worker.decode.process.PROGRAM", ("-c", program))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 2)).save(tmp_path / "a.png")
    with Decoder(LIMITS) as decoder:
        request = DecodeRequest(location=str(tmp_path / "a.png"), kind="image", limits=LIMITS)
        return list(decoder.open_sound(request).sound() if sound else decoder.open(request))


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_ends_the_child_and_nothing_else(name, monkeypatch, tmp_path):
    with pytest.raises(DecoderCrashed) as caught:
        answer(monkeypatch, tmp_path, NONSENSE[name])
    assert caught.value.code in {"crashed", "timeout"}
    assert not (tmp_path / "taken-over").exists()


@pytest.mark.parametrize("name", SOUND_NONSENSE)
def test_nonsense_for_sound_ends_the_child(name, monkeypatch, tmp_path):
    with pytest.raises(DecoderCrashed) as caught:
        answer(monkeypatch, tmp_path, SOUND_NONSENSE[name], sound=True)
    assert caught.value.code in {"crashed", "timeout"}


def test_sound_is_no_frame(monkeypatch, tmp_path):
    with pytest.raises(DecoderCrashed):
        answer(monkeypatch, tmp_path, SOUND_INFO + message(b"s", BLOCK, bytes(12)))


def test_sound_that_is_as_it_should_be_is_believed(monkeypatch, tmp_path):
    good = SOUND_INFO + message(b"s", BLOCK, bytes(12)) + message(b"e", {})
    assert [block.samples.shape for block in answer(monkeypatch, tmp_path, good, sound=True)] == [(3, 2)]


def test_words_of_a_child_fit_into_a_database(monkeypatch, tmp_path):
    said = {"code": "corrupt\0", "message": "a\0b\nc\ud800" + "x" * 5000}
    with pytest.raises(MediaRejected) as caught:
        answer(monkeypatch, tmp_path, message(b"x", said))
    assert caught.value.reason.startswith("corrupt : a b c x")
    assert len(caught.value.reason) < 600
    assert plain_text("café 写真") == "café 写真"


def test_a_child_that_answers_as_it_should_is_believed(monkeypatch, tmp_path):
    good = INFO_MESSAGE + message(b"f", FRAME, bytes(24)) + message(b"e", {"damaged": "many"})
    assert [frame.pixels.shape for frame in answer(monkeypatch, tmp_path, good)] == [(2, 4, 3)]


def test_a_length_without_an_end_is_none():
    info, _ = info_from_meta({"info": {**INFO["info"], "duration_seconds": float("nan")}, "engine": "x"})
    assert info.duration_seconds is None
