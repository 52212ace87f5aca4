"""Videos whose frames show their own number, so that a wrong frame cannot pass for the right one."""

from fractions import Fraction

import av
import numpy as np
import pytest

from worker.decode.client import Decoder
from worker.types import DecodeLimits, DecodeRequest

WIDTH, HEIGHT = 176, 144
BITS, COLUMNS = 10, 5


def numbered(number):
    """Return an image whose ten fields, bright or dark, are the bits of a number."""
    pixels = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for bit in range(BITS):
        row, column = divmod(bit, COLUMNS)
        field = slice(row * 72, row * 72 + 72), slice(column * 35, column * 35 + 35)
        pixels[field] = 220 if number >> bit & 1 else 20
    return pixels


def number_of(pixels):
    """Read the number back."""
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, COLUMNS)
        field = pixels[row * 72 + 20 : row * 72 + 52, column * 35 + 10 : column * 35 + 25]
        number |= int(field.mean() > 120) << bit
    return number


class Films:
    """Makes videos in a folder, each once."""

    number_of = staticmethod(number_of)

    def __init__(self, folder):
        self.folder = folder

    def make(
        self,
        name,
        codec="libx264",
        *,
        count=60,
        fps=25,
        stamps=None,
        gop=12,
        pixel_format="yuv420p",
        tweak=None,
        options=None,
        b_frames=None,
    ):
        """Write a video; ``stamps`` are milliseconds, ``tweak`` may change the stream before the first frame."""
        path = self.folder / name
        if path.exists():
            return path
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=fps)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
            stream.options = options or {}
            stream.codec_context.gop_size = gop
            stream.codec_context.bit_rate = 800_000
            if b_frames is not None:
                stream.codec_context.max_b_frames = b_frames
            if stamps is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            if tweak:
                tweak(stream)
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
                frame.pts = number if stamps is None else stamps[number]
                frame.time_base = Fraction(1, fps if stamps is None else 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    return Films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def decoder():
    with Decoder(DecodeLimits()) as decoder:
        yield decoder


@pytest.fixture(scope="session", params=["pyav", "decord"])
def read(request):
    """Read (index, seconds, number shown, scene cut) of each frame of a request."""

    def read(decoder, path, rate=None, start=None, end=None, **limits):
        wanted = DecodeRequest(
            location=str(path),
            kind="video",
            video_reader=request.param,
            frames_per_second=rate,
            start_seconds=start,
            end_seconds=end,
            limits=DecodeLimits(**limits),
        )
        with decoder.open(wanted) as stream:
            return [(f.index, f.at_seconds, number_of(f.pixels), f.scene_cut) for f in stream]

    return read
