"""Units of a video cost together what one pass costs, and give the frames of the whole."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from worker.decode.child.readers.video.av_reader import AvReader
from worker.decode.child.readers.video.video import Video
from worker.ingest import RangeOptions, plan_ranges
from worker.types import DecodeLimits, DecodeRequest

FRAMES = 300


def film(path, interval, key_every, codec="libx264"):
    """Write a video of a frame in so many milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"preset": "ultrafast", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = key_every
        if path.suffix != ".ts":
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number % 250, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number * interval, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "case",
    [
        ("a.mp4", 40, 25, 2.0, 4),
        ("a.mkv", 40, 25, None, 4),
        ("a.ts", 40, 10, 2.0, 5),
        ("a.mkv", 17, 20, 2.0, 5),  # of 60 frames a second
        ("a.mkv", 60_000, 250, 2.0, 2),  # a time-lapse
        ("a.mkv", 60_000, 1000, 2.0, 1),
        ("a.mp4", 5000, 300, None, 1),
        ("a.avi", 40, 25, 2.0, 1),  # without stamps: every range would be decoded from the start
    ],
)
def test_all_units_together_decode_the_video_about_once(case, decoder, tmp_path, monkeypatch):
    name, interval, key_every, rate, units = case
    path = film(tmp_path / name, interval, key_every)
    options = RangeOptions(range_seconds=60 / 25, byte_size=path.stat().st_size, frames_per_second=rate)
    ranges = plan_ranges(decoder.probe(str(path), "video"), options)
    assert len(ranges) == units

    decoded = []
    frames_of = AvReader._decoded

    def counted(reader, skipper=None):
        for frame in frames_of(reader, skipper):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(AvReader, "_decoded", counted)

    def read(start, end):
        video = Video(str(path), DecodeLimits(), lambda: None, with_decord=False)
        request = DecodeRequest(
            location=str(path), kind="video", frames_per_second=rate, start_seconds=start, end_seconds=end
        )
        found = [(f.index, f.at_seconds, f.hold_seconds) for f in video.frames(request)]
        video.close()
        return [frame for frame in found if start is None or frame[1] >= start]

    parts = [frame for one in ranges for frame in read(one.start_seconds, one.end_seconds)]
    cost = len(decoded)
    assert parts == read(None, None)
    assert cost <= 1.35 * FRAMES + 20 * units
