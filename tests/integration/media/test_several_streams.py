"""Of several image streams the one is read that a player shows."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from worker.types import DecodeRequest

DEFAULT, COVER, NONE = Disposition.default, Disposition.attached_pic, Disposition(0)
SMALL, MIDDLE, LARGE = (32, 32), (96, 64), (160, 96)
STILL, FILM = 1, 12  # frames

# Of each stream codec, size, disposition and frames; then the size that is shown.
CASES = {
    "ts, small first": ("ts", [("mpeg2video", SMALL, NONE, FILM), ("mpeg2video", LARGE, NONE, FILM)], LARGE),
    "ts, large first": ("ts", [("mpeg2video", LARGE, NONE, FILM), ("mpeg2video", SMALL, NONE, FILM)], LARGE),
    "ts, three of them": (
        "ts",
        [("mpeg2video", size, NONE, FILM) for size in (SMALL, LARGE, MIDDLE)],
        LARGE,
    ),
    "mp4, all default": ("mp4", [("libx264", size, DEFAULT, FILM) for size in (SMALL, LARGE, MIDDLE)], LARGE),
    "mp4, the first default": (
        "mp4",
        [("libx264", SMALL, DEFAULT, FILM), ("libx264", LARGE, NONE, FILM)],
        SMALL,
    ),
    "mov, small mjpeg first": ("mov", [("mjpeg", SMALL, DEFAULT, FILM), ("libx264", LARGE, DEFAULT, FILM)], LARGE),
    "mov, a large still first": ("mov", [("mjpeg", LARGE, DEFAULT, STILL), ("libx264", MIDDLE, DEFAULT, FILM)], MIDDLE),
    "mp4, a cover first": ("mp4", [("mjpeg", LARGE, COVER, STILL), ("libx264", SMALL, DEFAULT, FILM)], SMALL),
    "mkv, none default": ("mkv", [("libx264", SMALL, NONE, FILM), ("libx264", LARGE, NONE, FILM)], LARGE),
    "mkv, the small one default": ("mkv", [("libx264", LARGE, NONE, FILM), ("libx264", SMALL, DEFAULT, FILM)], SMALL),
    "mkv, one depends on the other": (
        "mkv",
        [("libx264", LARGE, Disposition.visual_impaired, FILM), ("libx264", MIDDLE, NONE, FILM)],
        MIDDLE,
    ),
    "avi, small first": ("avi", [("mpeg4", SMALL, NONE, FILM), ("mpeg4", LARGE, NONE, FILM)], LARGE),
    "upright and lying, of equal size": (
        "mkv",
        [("libx264", (64, 96), NONE, FILM), ("libx264", (96, 64), NONE, FILM)],
        (64, 96),
    ),
}


def film(path, streams):
    with av.open(str(path), "w") as container:
        opened = []
        for codec, (width, height), disposition, _ in streams:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = disposition
            opened.append(stream)
        for number in range(FILM):
            for stream, (*_, count) in zip(opened, streams, strict=True):
                if number < count:
                    pixels = np.full((stream.height, stream.width, 3), 9 * number, np.uint8)
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    frame.pts, frame.time_base = number, Fraction(1, 25)
                    container.mux(stream.encode(frame))
        for stream in opened:
            container.mux(stream.encode(None))


@pytest.mark.parametrize("name", CASES)
def test_the_stream_that_is_shown(name, decoder, tmp_path):
    ending, streams, shown = CASES[name]
    path = tmp_path / f"film.{ending}"
    film(path, streams)
    with decoder.open(DecodeRequest(location=str(path), kind="video", frames_per_second=None)) as stream:
        frames = list(stream)
    assert (stream.info.width, stream.info.height) == shown
    assert {frame.pixels.shape[1::-1] for frame in frames} == {shown}
    assert len(frames) == FILM
