"""Every container and codec: the right frames, by number, with the right stamps, whole and in ranges."""

import numpy as np
import pytest

from worker.errors import MediaRejected, MediaVanished
from worker.types import DecodeRequest

IRREGULAR = np.cumsum([0, *np.random.default_rng(0).integers(5, 120, 59)]).tolist()
OPEN_GROUPS = {"x264-params": "open-gop=1:bframes=3:keyint=12:min-keyint=12"}

CASES = {
    "h264.mp4": {},
    "h264-open.mp4": {"options": OPEN_GROUPS},
    "h264.mov": {},
    "h264.mkv": {},
    "h264-open.mkv": {"options": OPEN_GROUPS},
    "h264.ts": {},
    "h264.flv": {},
    "h264.avi": {},
    "irregular.mp4": {"stamps": IRREGULAR},
    "irregular.mkv": {"stamps": IRREGULAR},
    "late.mkv": {"stamps": [5000 + 40 * n for n in range(60)]},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12"}},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "12", "cpu-used": "8"}},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4.mp4": {"codec": "mpeg4", "b_frames": 2},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "mpeg1.mpg": {"codec": "mpeg1video", "b_frames": 2},
    "mpeg2.mpg": {"codec": "mpeg2video", "b_frames": 2},
    "mpeg2.ts": {"codec": "mpeg2video", "b_frames": 2},
    "mpeg2.mxf": {"codec": "mpeg2video", "b_frames": 0},
    "wmv2.wmv": {"codec": "wmv2"},
    "flv1.flv": {"codec": "flv1"},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "ffv1.mkv": {"codec": "ffv1"},
}
FORMAT_OF = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "ts": "mpegts", "mpg": "mpeg", "wmv": "asf"}


def stamps_of(case):
    stamps = np.array(case.get("stamps", [40 * n for n in range(60)]))
    return (stamps - stamps[0]) / 1000


@pytest.fixture(params=CASES)
def film(request, films):
    return films.make(request.param, **CASES[request.param]), stamps_of(CASES[request.param])


def test_every_frame_comes_once_in_order_with_its_stamp(film, decoder, read):
    path, stamps = film
    frames = read(decoder, path)
    assert [index for index, *_ in frames] == list(range(60))
    assert [number for _, _, number, _ in frames] == list(range(60))
    assert [at for _, at, _, _ in frames] == pytest.approx(stamps, abs=0.0006)


@pytest.mark.parametrize("rate", [None, 2.0, 7.3])
def test_ranges_together_give_what_the_whole_gives(film, decoder, read, rate):
    path, stamps = film
    whole = read(decoder, path, rate)
    assert len(whole) > 3
    for length in (0.7, 1.0):
        borders = np.arange(0, stamps[-1] + length, length).tolist()
        parts = [read(decoder, path, rate, start, start + length) for start in borders]
        assert [frame for part in parts for frame in part] == whole


def test_the_description(film, decoder):
    path, stamps = film
    info = decoder.probe(str(path), "video")
    extension = path.suffix[1:]
    assert (info.kind, info.format) == ("video", FORMAT_OF.get(extension, extension))
    assert (info.width, info.height) == (176, 144)
    assert info.duration_seconds == pytest.approx(stamps[-1] + 0.04, abs=0.2)
    if "irregular" not in path.name:
        assert info.frames_per_second == pytest.approx(25)


def test_sampling_follows_the_clock_where_frames_come_irregularly(films, decoder, read):
    frames = read(decoder, films.make("irregular.mp4", **CASES["irregular.mp4"]), 2.0)
    seconds = stamps_of(CASES["irregular.mp4"])
    expected = sorted({int(np.searchsorted(seconds, tick / 2 - 1e-9)) for tick in range(int(seconds[-1] * 2) + 1)})
    assert [index for index, *_ in frames] == expected


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(films, decoder, degrees):
    path = films.make(f"rotated{degrees}.mp4", count=5, tweak=lambda stream: stream.set_display_rotation(-degrees))
    plain = films.make("upright.mp4", count=5)
    with decoder.open(DecodeRequest(location=str(plain), kind="video", frames_per_second=None)) as stream:
        expected = [np.rot90(frame.pixels, -degrees // 90) for frame in stream]
    with decoder.open(DecodeRequest(location=str(path), kind="video", frames_per_second=None)) as stream:
        turned = [frame.pixels for frame in stream]
        assert (stream.info.height, stream.info.width) == turned[0].shape[:2]
    assert len(turned) == 5
    for one, other in zip(turned, expected, strict=True):
        assert np.array_equal(one, other)


def test_pixels_become_square(films, decoder, read):
    def anamorphic(stream):
        stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = 2

    path = films.make("wide.mp4", count=5, tweak=anamorphic)
    info = decoder.probe(str(path), "video")
    assert (info.width, info.height) == (352, 144)
    with decoder.open(DecodeRequest(location=str(path), kind="video", frames_per_second=None)) as stream:
        assert [films.number_of(frame.pixels[:, ::2]) for frame in stream] == list(range(5))


def test_a_video_without_its_index_is_read_from_front_to_back(films, decoder, read):
    whole = films.make("h264.mkv")
    cut = films.folder / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    frames = read(decoder, cut)
    assert 20 < len(frames) < 60
    assert [number for _, _, number, _ in frames] == list(range(len(frames)))


def reason(decoder, read, path, **limits):
    with pytest.raises(MediaRejected) as caught:
        read(decoder, path, **limits)
    return caught.value.code


def test_what_is_no_video(films, decoder, read, tmp_path):
    (tmp_path / "text.mp4").write_text("not a film")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    whole = films.make("h264.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert reason(decoder, read, tmp_path / "text.mp4") == "corrupt"
    assert reason(decoder, read, tmp_path / "empty.mp4") == "empty"
    assert reason(decoder, read, tmp_path / "list.m3u8") == "corrupt"
    assert reason(decoder, read, tmp_path / "cut.mp4") == "truncated"


def test_a_file_that_is_gone_may_come_back(decoder, read, tmp_path):
    with pytest.raises(MediaVanished) as caught:
        read(decoder, tmp_path / "nowhere.mp4")
    assert caught.value.code == "not_found"


def test_limits_of_pixels_and_frames(films, decoder, read):
    path = films.make("h264.mp4")
    assert reason(decoder, read, path, pixels_per_frame=176 * 144 - 1) == "too_many_pixels"
    assert reason(decoder, read, path, frames_per_file=59) == "too_many_frames"


def test_audio_alone_and_covers_are_no_video(decoder, read, tmp_path):
    import av

    for name, codec in (("a.mp3", "mp3"), ("a.m4a", "aac"), ("cover.m4a", "aac")):
        with av.open(str(tmp_path / name), "w", format="mp3" if name.endswith("mp3") else "mp4") as container:
            stream = container.add_stream(codec, rate=44100)
            picture = container.add_stream("mjpeg", rate=1) if "cover" in name else None
            if picture is not None:
                picture.width, picture.height, picture.pix_fmt = 32, 32, "yuvj420p"
                picture.disposition = av.stream.Disposition.attached_pic
            sound = np.zeros((stream.codec_context.frame_size or 1152) * 4, np.float32)[None]
            frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if picture is not None:
                container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
                container.mux(picture.encode(None))
        assert reason(decoder, read, tmp_path / name) == "no_video_stream"
