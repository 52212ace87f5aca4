"""When each image of a video is on screen, and for how long, as a player shows it."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from worker.types import DecodeRequest

SCALE = 16
"""Ticks of the streams' clocks per millisecond."""
STEADY = [40 * n for n in range(50)]
# Stamps in milliseconds, the length of the last frame, then which are sampled at 2/s.
TIMES = {
    "slides": ([0, 10_000, 20_000], 10_000, [0, 1, 2]),
    "one frame in five seconds": ([5000 * n for n in range(13)], 5000, list(range(13))),
    "a time-lapse": ([60_000 * n for n in range(20)], 60_000, list(range(20))),
    "one frame": ([0], 40, [0]),
    "one frame for a minute": ([0], 60_000, [0]),
    "frozen in the middle": ([*STEADY, *(t + 10_000 for t in STEADY)], 40, [0, 13, 25, 38, 49, 50, 63, 75, 88]),
    "frozen at the end": ([*STEADY[:20], 800], 9200, [0, 13, 20]),
    "a fade, then a still": ([0, 5000, 5040, 5080, 5120, 5160], 4840, [0, 1, 5]),
    "a screen recording": ([0, 33, 66, 2000, 2033, 2300, 7000], 1000, [0, 2, 3, 5, 6]),
    "steady": (STEADY, 40, [0, 13, 25, 38]),
    "steady, but for a dropped frame": ([t for t in STEADY if t != 520], 40, [0, 13, 24, 37]),
    "a frame a second": ([1000 * n for n in range(8)], 1000, list(range(8))),
}
WRITERS = {
    "mp4, b-frames": ("mp4", "libx264", {"x264-params": "bframes=3"}),
    "mp4": ("mp4", "libx264", {"tune": "zerolatency"}),
    "mkv, b-frames": ("mkv", "libx264", {"x264-params": "bframes=3:keyint=6"}),
    "webm": ("webm", "libvpx", {"lag-in-frames": "0"}),
}


def picture(stream, number, at):
    pixels = np.full((stream.height, stream.width, 3), 40 + number % 7 * 30, np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame.pts, frame.time_base = at * SCALE, Fraction(1, 1000 * SCALE)
    return frame


def film(path, codec, options, stamps, last, sound=None):
    """Write a video of these stamps; ``sound`` is from and to when there is any, in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if path.suffix not in {".ts", ".avi"}:  # which store no length of a frame but the rate
            stream.codec_context.time_base = Fraction(1, 1000 * SCALE)
        audio = None if sound is None else container.add_stream("mp2" if path.suffix == ".ts" else "aac", rate=48_000)
        if audio is not None:
            play(container, audio, *sound)
        packets = [packet for number, at in enumerate(stamps) for packet in stream.encode(picture(stream, number, at))]
        packets += stream.encode(None)
        packets[-1].duration = round(last / 1000 / packets[-1].time_base)
        container.mux(packets)
    return path


def play(container, audio, start, end):
    size = audio.codec_context.frame_size or 1152
    form, kind = ("s16", np.int16) if audio.codec_context.name == "mp2" else ("fltp", np.float32)
    for at in range(start * 48, end * 48, size):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, size), kind), format=form, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, at, Fraction(1, 48_000)
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def read(decoder, path, rate=2.0, start=None, end=None, **more):
    wanted = {"kind": "video", "frames_per_second": rate, "start_seconds": start, "end_seconds": end}
    with decoder.open(DecodeRequest(location=str(path), **wanted | more)) as stream:
        return stream.info, [(f.index, f.at_seconds, f.hold_seconds) for f in stream]


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("writer", WRITERS)
def test_each_sampled_frame_stands_for_the_time_until_the_next(name, writer, decoder, tmp_path):
    stamps, last, sampled = TIMES[name]
    ending, codec, options = WRITERS[writer]
    path = film(tmp_path / f"film.{ending}", codec, options, stamps, last)
    info, frames = read(decoder, path)
    assert [index for index, *_ in frames] == sampled
    end = (stamps[-1] + last) / 1000
    assert info.duration_seconds == pytest.approx(end, abs=0.002)
    times = [*(stamps[index] / 1000 for index in sampled), end]
    assert [at for _, at, _ in frames] == pytest.approx(times[:-1], abs=0.002)
    assert [hold for *_, hold in frames] == pytest.approx(np.diff(times), abs=0.003)
    for border in (0.6, 5.02, times[-1] / 2):
        parts = read(decoder, path, end=border)[1] + read(decoder, path, start=border)[1]
        assert parts == frames
    every = read(decoder, path, None)[1]
    assert sum(hold for *_, hold in every) == pytest.approx(end, abs=0.003)
    assert read(decoder, path, video_reader="decord")[1] == frames


@pytest.mark.parametrize(("ending", "codec"), [("ts", "libx264"), ("flv", "flv1"), ("wmv", "wmv2")])
@pytest.mark.parametrize("interval", [40, 1000, 10_000])
def test_containers_that_store_no_lengths_hold_the_last_frame_as_long_as_the_others(
    ending, codec, interval, decoder, tmp_path
):
    path = film(tmp_path / f"film.{ending}", codec, {}, [interval * n for n in range(6)], interval)
    info, frames = read(decoder, path, None)
    assert [hold for *_, hold in frames] == pytest.approx([interval / 1000] * 6, abs=0.01)
    assert info.duration_seconds == pytest.approx(6 * interval / 1000, abs=0.01)


@pytest.mark.parametrize("last", [10_000, 12_040])
def test_avi_fills_pauses_so_its_last_frame_has_the_length_of_its_rate(last, decoder, tmp_path):
    path = film(tmp_path / "film.avi", "mpeg4", {}, [0, 7000, last], 40)
    info, frames = read(decoder, path, None)
    assert [hold for *_, hold in frames] == pytest.approx([7.0, last / 1000 - 7.0, 0.04], abs=0.001)
    assert info.duration_seconds == pytest.approx(last / 1000 + 0.04, abs=0.001)


@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts", "mov"])
@pytest.mark.parametrize(
    ("first", "sound", "start"),
    [
        (5000, (0, 6000), 5.0),  # the image comes later than the sound
        (0, (1000, 2000), 0.0),
        (1000, (1000, 2000), 0.0),  # no player waits for the first of both
        (0, (0, 9000), 0.0),
    ],
)
def test_time_counts_from_the_first_sound_or_image(ending, first, sound, start, decoder, tmp_path):
    stamps = [first + 40 * n for n in range(25)]
    path = film(tmp_path / f"film.{ending}", "libx264", {}, stamps, 40, sound)
    info, frames = read(decoder, path, None)
    assert frames[0][1] == pytest.approx(start, abs=0.03)
    assert frames[-1][1] == pytest.approx(start + 0.96, abs=0.03)
    length = max(first + 1000, sound[1]) - min(first, sound[0])
    assert info.duration_seconds == pytest.approx(length / 1000, abs=0.1)
    assert frames[-1][2] == pytest.approx(0.04, abs=0.003)  # an image that has ended is not drawn out by the sound


def test_clocks_that_restart_go_on(decoder, tmp_path):
    part = film(tmp_path / "a.ts", "libx264", {}, STEADY, 40).read_bytes()
    (tmp_path / "twice.ts").write_bytes(part + part)
    info, frames = read(decoder, tmp_path / "twice.ts")
    assert info.duration_seconds == pytest.approx(4.0, abs=0.05)
    assert sum(hold for *_, hold in frames) == pytest.approx(4.0, abs=0.05)
    assert [at for _, at, _ in frames] == pytest.approx([0.5 * n for n in range(8)], abs=0.05)


def test_a_video_that_breaks_off_ends_there(decoder, tmp_path):
    path = film(tmp_path / "film.mkv", "libx264", {"x264-params": "keyint=5"}, [1000 * n for n in range(60)], 1000)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    info, frames = read(decoder, cut)
    assert 10 < frames[-1][1] < 50
    assert frames[-1][2] <= 1.0
    assert info.duration_seconds <= frames[-1][1] + 1.0


@pytest.mark.parametrize("name", ["gif", "webp", "png"])
def test_animations_show_their_frames_as_long_as_they_say(name, decoder, tmp_path):
    frames = [Image.new("RGB", (11, 7), (40 * n, 0, 0)) for n in range(3)]
    durations = [4000, 120, 10_000]
    frames[0].save(tmp_path / "a", name, save_all=True, append_images=frames[1:], duration=durations, lossless=True)
    _, found = read(decoder, tmp_path / "a", kind="image")
    assert found == [(0, 0.0, 4.0), (1, 4.0, pytest.approx(0.12)), (2, pytest.approx(4.12), pytest.approx(10.0))]


def test_an_image_is_held_for_no_time(decoder, tmp_path):
    Image.new("RGB", (11, 7)).save(tmp_path / "a.png")
    assert read(decoder, tmp_path / "a.png", kind="image")[1] == [(0, 0.0, 0.0)]
