"""The sound of a video reaches its drawn copy at its own time, to the sample; a silent video stays silent."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from worker.decode.client import Decoder
from worker.pictures.annotate import Sound, annotate_video
from worker.types import DecodeLimits, DecodeRequest

RATE, FPS, SECONDS = 44_100, 10, 3


def tone(rate, hertz, seconds=SECONDS, begin=0.7):
    """Return (N, 1) samples: silence, then a sine from ``begin`` on at full height."""
    at = np.arange(round(rate * seconds)) / rate
    return (np.where(at >= begin, np.cos(2 * np.pi * hertz * (at - begin)), 0) * 20_000).astype(np.int16)[:, None]


def write(path, sounds=(), *, codec="aac", video_late=0.0, audio_late=0.0, stamps=None, layout="mono", rate=RATE):
    """Write a grey video with a track for each sound."""
    stamps = [n / FPS for n in range(FPS * SECONDS)] if stamps is None else stamps
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        tracks = [container.add_stream(codec, rate=rate, layout=layout) for _ in sounds]
        for track, samples in zip(tracks, sounds, strict=True):
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1).copy(), format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, round(audio_late * rate), Fraction(1, rate)
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
        for number, at in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 60 + number, np.uint8), "rgb24")
            frame.pts, frame.time_base = round((at + video_late) * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def copied(source, target):
    """Draw nothing on a video, with its sound."""
    limits = DecodeLimits()
    request = DecodeRequest(location=str(source), kind="video", frames_per_second=None, limits=limits)
    eyes, ears = Decoder(limits), Decoder(limits)
    with eyes, ears, eyes.open(request) as frames, ears.open_sound(request) as stream:
        annotate_video(frames, [], float(FPS), target, Sound(stream.tracks, stream.sound()))
    return target


def heard(path, track=0):
    """Return rate, samples (N, C) from -1 to 1 and the time of the first one."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[track]
        frames = list(container.decode(stream))
        samples = np.concatenate([frame.to_ndarray() for frame in frames], axis=1).T
        return stream.rate, samples, frames[0].time


def onset(samples, rate, start=0.0):
    """Return the time of the first loud sample."""
    return start + float(np.flatnonzero(np.abs(samples[:, 0]) > 0.3)[0]) / rate


def pitch(samples, rate, begin=1.0, seconds=1.0):
    part = samples[round(begin * rate) : round((begin + seconds) * rate), 0]
    return float(np.argmax(np.abs(np.fft.rfft(part * np.hanning(len(part)))))) / seconds


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("source", ["aac.mp4", "pcm_s16le.mov", "flac.mkv", "libopus.mkv"])
def test_a_tone_begins_at_its_sample(tmp_path, source, ending):
    codec, _, _ = source.partition(".")
    rate = 48_000 if codec == "libopus" else RATE
    write(tmp_path / source, [tone(rate, 440)], codec=codec, rate=rate)
    found_rate, samples, start = heard(copied(tmp_path / source, tmp_path / f"out.{ending}"))
    assert (found_rate, start) == (rate, 0.0)
    assert pitch(samples, rate) == pytest.approx(440, abs=1)
    tolerance = 3e-3 if "opus" in codec else 4 / rate  # a lossy codec smears the edge; Opus more
    assert onset(samples, rate) == pytest.approx(0.7, abs=tolerance)


@pytest.mark.parametrize(("video_late", "audio_late"), [(0.0, 0.5), (0.5, 0.0), (2.0, 2.25)])
def test_sound_and_frames_keep_their_distance(tmp_path, video_late, audio_late):
    write(tmp_path / "in.mkv", [tone(RATE, 300)], codec="flac", video_late=video_late, audio_late=audio_late)
    copied(tmp_path / "in.mkv", tmp_path / "out.mkv")
    zero = min(video_late, audio_late)
    _, samples, start = heard(tmp_path / "out.mkv")
    assert onset(samples, RATE, start) == pytest.approx(audio_late - zero + 0.7, abs=2e-3)  # of Matroska: milliseconds
    with av.open(str(tmp_path / "out.mkv")) as container:
        first = next(container.decode(video=0)).time
    assert first == pytest.approx(video_late - zero, abs=2e-3)


def test_uneven_frames_do_not_move_the_sound(tmp_path):
    stamps = [0.0, 0.05, 0.4, 0.41, 1.9, 2.0, 2.95]
    write(tmp_path / "in.mp4", [tone(RATE, 440)], stamps=stamps)
    copied(tmp_path / "in.mp4", tmp_path / "out.mp4")
    _, samples, start = heard(tmp_path / "out.mp4")
    assert onset(samples, RATE, start) == pytest.approx(0.7, abs=4 / RATE)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(stamps, abs=2e-3)


def test_all_tracks_are_kept(tmp_path):
    write(tmp_path / "in.mkv", [tone(RATE, 300), tone(RATE, 900)], codec="flac")
    copied(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert [round(pitch(heard(tmp_path / "out.mp4", track)[1], RATE)) for track in (0, 1)] == [300, 900]


def test_channels_stay_apart(tmp_path):
    both = np.concatenate([tone(RATE, 300), tone(RATE, 900)], axis=1)
    write(tmp_path / "in.mkv", [both], codec="flac", layout="stereo")
    _, samples, _ = heard(copied(tmp_path / "in.mkv", tmp_path / "out.mkv"))
    assert [round(pitch(samples[:, side : side + 1], RATE)) for side in (0, 1)] == [300, 900]


def test_sound_longer_than_its_frames_is_kept(tmp_path):
    write(tmp_path / "in.mp4", [tone(RATE, 440, seconds=5)])
    rate, samples, _ = heard(copied(tmp_path / "in.mp4", tmp_path / "out.mp4"))
    assert len(samples) / rate == pytest.approx(5, abs=0.05)


def test_a_silent_video_stays_silent(tmp_path):
    write(tmp_path / "in.mp4")
    copied(tmp_path / "in.mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert sum(1 for _ in container.decode(video=0)) == FPS * SECONDS


def test_damaged_sound_does_not_end_the_video(tmp_path):
    write(tmp_path / "in.mkv", [tone(RATE, 440)], codec="flac")
    whole = (tmp_path / "in.mkv").read_bytes()
    (tmp_path / "in.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    copied(tmp_path / "in.mkv", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 5
