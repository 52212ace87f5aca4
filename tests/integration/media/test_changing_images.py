"""Videos whose images change their size or the shape of their pixels: each frame comes as a player shows it."""

from fractions import Fraction

import av
import numpy as np
import pytest

from worker.types import DecodeRequest

PART = 16  # frames
PAL_WIDE, PAL_NARROW, NTSC_WIDE, NTSC_NARROW = (64, 45), (16, 15), (32, 27), (8, 9)
X264 = {"codec": "libx264", "options": {"preset": "ultrafast"}}
X264_B = {"codec": "libx264", "options": {"x264-params": "bframes=2:keyint=8"}}
X265 = {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=8"}}
MPEG2 = {"codec": "mpeg2video"}

# Codec, then of each part width, height and pixel aspect, and the size at which a player shows it.
CASES = {
    "pal 16:9, then 4:3": (MPEG2, [(720, 576, PAL_WIDE), (720, 576, PAL_NARROW)], [(1024, 576), (768, 576)]),
    "pal 4:3, then 16:9": (MPEG2, [(360, 288, PAL_NARROW), (360, 288, PAL_WIDE)], [(384, 288), (512, 288)]),
    "ntsc 4:3, then 16:9": (MPEG2, [(360, 240, NTSC_NARROW), (360, 240, NTSC_WIDE)], [(320, 240), (427, 240)]),
    "16:9, 4:3, 16:9": (
        MPEG2,
        [(360, 288, PAL_WIDE), (360, 288, PAL_NARROW), (360, 288, PAL_WIDE)],
        [(512, 288), (384, 288), (512, 288)],
    ),
    "larger": (X264, [(128, 96, None), (256, 192, None)], [(128, 96), (256, 192)]),
    "smaller": (X264_B, [(256, 192, None), (128, 96, None)], [(256, 192), (128, 96)]),
    "upright": (X264_B, [(160, 96, None), (96, 160, None)], [(160, 96), (96, 160)]),
    "h.264 aspects": (X264_B, [(96, 96, (2, 1)), (96, 96, (1, 1))], [(192, 96), (96, 96)]),
    "h.264 aspects, the other way": (X264_B, [(96, 96, (1, 1)), (96, 96, (3, 2))], [(96, 96), (144, 96)]),
    "size and aspect": (X264, [(96, 96, (2, 1)), (160, 96, (1, 1))], [(192, 96), (160, 96)]),
    "hevc": (X265, [(128, 96, None), (192, 96, None)], [(128, 96), (192, 96)]),
    "hevc aspects": (X265, [(96, 96, (1, 1)), (96, 96, (4, 3))], [(96, 96), (128, 96)]),
}


def part(path, first, size, codec, options=None):
    """Write a part of a broadcast, whose clock goes on."""
    width, height, aspect = size
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 8
        if codec == "mpeg2video":
            stream.codec_context.max_b_frames = 2
            stream.codec_context.bit_rate = 2_000_000
        if aspect:
            stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        for number in range(first, first + PART):
            pixels = np.full((height, width, 3), 20, np.uint8)
            pixels[:, width // 4 : width // 2] = 100 + 5 * (number % 16)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture(params=CASES)
def broadcast(request, tmp_path):
    codec, parts, shown = CASES[request.param]
    path = tmp_path / "broadcast.ts"
    data = [part(tmp_path / f"{n}.ts", n * PART, size, **codec) for n, size in enumerate(parts)]
    path.write_bytes(b"".join(data))
    return path, [size for size in shown for _ in range(PART)]


def read(decoder, path, start=None, end=None):
    wanted = DecodeRequest(
        location=str(path), kind="video", frames_per_second=None, start_seconds=start, end_seconds=end
    )
    with decoder.open(wanted) as stream:
        return stream.info, [(frame.index, frame.pixels) for frame in stream]


def test_each_frame_has_its_own_size_whole_and_in_ranges(broadcast, decoder):
    path, shown = broadcast
    info, whole = read(decoder, path)
    assert [pixels.shape[1::-1] for _, pixels in whole] == shown
    assert (info.width, info.height) == shown[0]
    for _, pixels in whole:  # the bright band lies where it was drawn, as a share of the width
        bright = np.flatnonzero(pixels.mean(axis=(0, 2)) > 60)
        assert bright[[0, -1]] / pixels.shape[1] == pytest.approx([1 / 4, 1 / 2], abs=0.04)
    for start in (0.5, 0.64, 0.9):
        _, ahead = read(decoder, path, start)
        _, before = read(decoder, path, None, start)
        assert [index for index, _ in before + ahead] == [index for index, _ in whole]
        for (_, one), (_, other) in zip(before + ahead, whole, strict=True):
            assert np.array_equal(one, other)
