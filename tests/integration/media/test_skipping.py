"""Frames that nothing needs are not decoded, and those that are sampled stay bit by bit what plain decoding gives."""

from __future__ import annotations

import numpy as np
import pytest

from worker.decode.child.readers.video import av_reader
from worker.decode.child.readers.video.video import Video
from worker.types import DecodeLimits, DecodeRequest

IRREGULAR = np.cumsum([0, *np.random.default_rng(1).integers(5, 120, 59)]).tolist()
X264 = "keyint=24:min-keyint=24:scenecut=0:"
X265 = "log-level=none:keyint=24:min-keyint=24:scenecut=0:"


def h264(options, **more):
    return {"options": {"x264-params": X264 + options}, "count": 96, **more}


def hevc(options, **more):
    return {"codec": "libx265", "options": {"x265-params": X265 + options}, "count": 96, **more}


SKIPPED = {
    "pyramid.mp4": h264("bframes=7:b-adapt=0:b-pyramid=normal"),
    "strict-pyramid.mkv": h264("bframes=5:b-adapt=0:b-pyramid=strict"),
    "no-pyramid.mp4": h264("bframes=3:b-adapt=0:b-pyramid=none"),
    "irregular-b.mp4": {**h264("bframes=3:b-adapt=0"), "count": 60, "stamps": IRREGULAR},
    "weighted.mp4": h264("bframes=3:b-adapt=0:weightp=2:ref=6"),
    "transport.ts": h264("bframes=3:b-adapt=0"),
}
DECODED = {
    "no-b.mp4": h264("bframes=0"),
    "open.mp4": h264("bframes=3:b-adapt=0:open-gop=1"),
    "interlaced.mp4": h264("bframes=3:b-adapt=0:tff=1"),
    "fake-interlaced.mkv": h264("bframes=3:b-adapt=0:bff=1"),
    "open-hevc.mp4": hevc("open-gop=1:bframes=4:b-adapt=0"),
    "closed.mp4": hevc("open-gop=0:bframes=4:b-adapt=0:b-pyramid=1"),
    "closed.mkv": hevc("open-gop=0:bframes=4:b-adapt=0"),
    "no-b-hevc.mp4": hevc("open-gop=0:bframes=0"),
}


class Counted:
    """Read a video in this process, and count the frames that its decoder returns."""

    def __init__(self, path, monkeypatch):
        self.video = Video(str(path), DecodeLimits(), lambda: None, with_decord=False)
        self.path, self.count = str(path), 0
        decoded = self.video._reader._decoded

        def counting(*args):
            for frame in decoded(*args):
                self.count += 1
                yield frame

        monkeypatch.setattr(self.video._reader, "_decoded", counting)

    def frames(self, rate, start=None, end=None):
        request = DecodeRequest(
            location=self.path, kind="video", frames_per_second=rate, start_seconds=start, end_seconds=end
        )
        return [(f.index, f.at_seconds, f.hold_seconds, f.pixels.copy()) for f in self.video.frames(request)]


def equal(found, expected):
    assert [frame[:3] for frame in found] == [frame[:3] for frame in expected]
    assert all(np.array_equal(one[3], other[3]) for one, other in zip(found, expected, strict=True))


def plain(path, monkeypatch, *request):
    """Read with every frame decoded."""
    with monkeypatch.context() as patched:
        patched.setattr(av_reader, "may_skip", lambda *_: False)
        reader = Counted(path, patched)
        return reader.frames(*request), reader


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [*SKIPPED, *DECODED])
def test_sampled_frames_are_those_of_plain_decoding(films, monkeypatch, name, threads):
    monkeypatch.setattr(av_reader, "threads_for", lambda *_: threads)
    path = films.make(name, **(SKIPPED | DECODED)[name])
    expected, everything = plain(path, monkeypatch, 2.0)
    reader = Counted(path, monkeypatch)
    equal(reader.frames(2.0), expected)
    assert (reader.count < 0.7 * everything.count) == (name in SKIPPED)
    assert reader.video.damaged == everything.video.damaged


@pytest.mark.parametrize("name", [*SKIPPED, *DECODED])
def test_ranges_of_one_video_follow_each_other_in_any_order(films, monkeypatch, name):
    path = films.make(name, **(SKIPPED | DECODED)[name])
    reader = Counted(path, monkeypatch)
    for rate, start, end in ((3.0, 1.1, 2.3), (None, 0.9, 1.9), (7.0, None, 1.0), (1.0, 0.3, None)):
        equal(reader.frames(rate, start, end), plain(path, monkeypatch, rate, start, end)[0])


def test_every_clip(shared_data, monkeypatch):
    clips = sorted((shared_data / "videos").iterdir())
    assert clips
    for clip in clips:
        equal(Counted(clip, monkeypatch).frames(2.0), plain(clip, monkeypatch, 2.0)[0])


@pytest.mark.parametrize("name", ["pyramid.mp4", "transport.ts", "strict-pyramid.mkv"])
def test_damaged_streams_give_what_plain_decoding_gives(films, monkeypatch, tmp_path, name):
    whole = films.make(name, **SKIPPED[name]).read_bytes()
    random = np.random.default_rng(2)
    for trial in range(12):
        data = bytearray(whole)
        for place in random.integers(len(data) // 20, len(data) * 2 // 5, 3).tolist():
            data[place : place + 24] = random.bytes(24)
        path = tmp_path / f"{trial}-{name}"
        path.write_bytes(data)
        expected, reader = plain(path, monkeypatch, 3.0)
        found = Counted(path, monkeypatch)
        equal(found.frames(3.0), expected)
        assert found.video.damaged <= reader.video.damaged
