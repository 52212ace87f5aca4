"""Videos that are not in a common container, that begin anywhere, or that nobody can read without a key."""

from fractions import Fraction

import av
import numpy as np
import pytest

from worker.errors import MediaRejected
from worker.ingest.sniff import HEAD_BYTES, Media, Other, sniff
from worker.types import DecodeRequest

FRAMES = 30
X264 = {"preset": "ultrafast"}

# FFmpeg's name of the format, codec, rate, size; then the size that is shown.
CASES = {
    "dv, pal": ("dv", "dvvideo", 25, (720, 576), (768, 576)),
    "dv, ntsc": ("dv", "dvvideo", Fraction(30000, 1001), (720, 480), (640, 480)),
    "y4m": ("yuv4mpegpipe", "rawvideo", 30, (160, 96), (160, 96)),
    "ivf": ("ivf", "libvpx", 30, (160, 96), (160, 96)),
    "nut": ("nut", "mpeg4", 24, (160, 96), (160, 96)),
    "gxf": ("gxf", "mpeg2video", 25, (720, 576), None),
    "wtv": ("wtv", "mpeg2video", 25, (160, 96), (160, 96)),
    "realmedia": ("rm", "rv20", 30, (352, 288), (352, 288)),
    "h.264": ("h264", "libx264", 30, (160, 96), (160, 96)),
    "hevc": ("hevc", "libx265", 24, (160, 96), (160, 96)),
    "mpeg-1": ("mpeg1video", "mpeg1video", 25, (160, 96), (160, 96)),
    "mpeg-2": ("mpeg2video", "mpeg2video", 30, (160, 96), (160, 96)),
    "mpeg-4": ("m4v", "mpeg4", 30, (160, 96), (160, 96)),
}
OPTIONS = {"libx264": X264, "libx265": {"x265-params": "log-level=none"}}


def film(path, form, codec, rate, size, more=None):
    with av.open(str(path), "w", format=form, options=more or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=OPTIONS.get(codec, {}))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv411p" if size == (720, 480) else "yuv420p"
        for number in range(FRAMES):
            pixels = np.full((size[1], size[0], 3), 30 + 6 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def read(decoder, path, rate=None, start=None, end=None):
    request = DecodeRequest(
        location=str(path), kind="video", frames_per_second=rate, start_seconds=start, end_seconds=end
    )
    with decoder.open(request) as stream:
        frames = [(f.index, f.at_seconds, f.hold_seconds, f.pixels.shape[1::-1], f.pixels.mean()) for f in stream]
        return stream.info, frames, stream.damaged


@pytest.mark.parametrize("name", CASES)
def test_videos_outside_of_the_common_containers(name, decoder, tmp_path):
    form, codec, rate, size, shown = CASES[name]
    head = film(tmp_path / "film", form, codec, rate, size)[:HEAD_BYTES]
    sort = sniff(head)
    assert isinstance(sort, Media)
    assert sort.kind == "video"
    info, frames, damaged = read(decoder, tmp_path / "film")
    assert (info.format, damaged) == (sort.format, 0)
    assert [index for index, *_ in frames] == list(range(FRAMES))
    assert [at for _, at, *_ in frames] == pytest.approx([n / float(rate) for n in range(FRAMES)], abs=0.025)
    assert {size for *_, size, _ in frames} == {shown or size}
    assert (np.diff([mean for *_, mean in frames]) > 1).all()
    assert info.duration_seconds == pytest.approx(FRAMES / float(rate), abs=0.05)
    border = 12 / float(rate) - 0.001
    assert read(decoder, tmp_path / "film", end=border)[1] + read(decoder, tmp_path / "film", start=border)[1] == frames


def packets(data, size):
    """Put a time code before each packet of a transport stream, or a checksum behind it."""
    plain = [data[at : at + 188] for at in range(0, len(data), 188)]
    if size == 192:
        return b"".join(number.to_bytes(4) + packet for number, packet in enumerate(plain))
    return b"".join(packet + bytes(size - 188) for packet in plain)


@pytest.fixture(scope="module")
def broadcast(tmp_path_factory):
    return film(tmp_path_factory.mktemp("ts") / "a.ts", "mpegts", "mpeg2video", 25, (320, 192))


JUNK = np.random.default_rng(3).integers(0, 256, 9000, np.uint8).tobytes()


@pytest.mark.parametrize("size", [188, 192, 204])
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data,
        lambda data: data[1:],
        lambda data: data[100:],
        lambda data: data[187:],
        lambda data: JUNK[:3] + data,
        lambda data: JUNK[:1000] + data,
        lambda data: JUNK + data,
        lambda data: bytes(700) + data,
    ],
)
def test_transport_streams_begin_anywhere(size, change, broadcast, decoder, tmp_path):
    data = change(packets(broadcast, size))
    assert sniff(data[:HEAD_BYTES]) == Media("video", "mpegts", "ts")
    (tmp_path / "a").write_bytes(data)
    info, frames, _ = read(decoder, tmp_path / "a")
    assert (info.width, info.height) == (320, 192)
    assert len(frames) >= FRAMES - 3


def reason(decoder, path):
    with pytest.raises(MediaRejected) as caught:
        read(decoder, path)
    return caught.value.code


KEY = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


@pytest.mark.parametrize("flags", ["", "frag_keyframe+empty_moov", "faststart"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_encrypted_mp4(flags, codec, decoder, tmp_path):
    film(tmp_path / "a.mp4", "mp4", codec, 25, (160, 96), KEY | ({"movflags": flags} if flags else {}))
    assert reason(decoder, tmp_path / "a.mp4") == "encrypted"


@pytest.mark.parametrize("size", [188, 192, 204])
def test_a_scrambled_broadcast(size, broadcast, decoder, tmp_path):
    data = bytearray(broadcast)
    noise = np.random.default_rng(1)
    for at in range(0, len(data), 188):
        number = (data[at + 1] & 0x1F) << 8 | data[at + 2]
        if number == 0x100 and data[at + 3] & 0x10:
            data[at + 3] |= 0x80
            start = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
            data[start : at + 188] = noise.integers(0, 256, at + 188 - start, np.uint8).tobytes()
    (tmp_path / "a.ts").write_bytes(packets(bytes(data), size))
    assert reason(decoder, tmp_path / "a.ts") == "encrypted"


def test_a_damaged_video_is_not_called_encrypted(broadcast, decoder, tmp_path):
    (tmp_path / "a.ts").write_bytes(b"".join(broadcast[at : at + 4] + JUNK[:184] for at in range(0, 90 * 188, 188)))
    assert reason(decoder, tmp_path / "a.ts") != "encrypted"


UNREAD = [
    b"FWS\x06\xaa\x24\x03\0", b"CWS\x0a\xaa\x24\x03\0", b"SMK2\x40\x01\0\0", b"BIKi\0\0\0\0", b"NSVf\0\0\0\0",
    b"\x84\x10\xff\xff\xff\xff\x1e\0", b"DVDVIDEO-VMG\0", b"#EXTM3U\n#EXTINF:1,\na.ts\n",
    b"\0\x10\0\0\x12\xaf\x05\0\x40\x01\xc8\0\x08\0\0\0",
]  # fmt: skip


@pytest.mark.parametrize("head", UNREAD)
def test_videos_that_are_known_and_not_read_are_named(head):
    sort = sniff(head)
    assert isinstance(sort, Other)
    assert sort.code == "unsupported_format"


@pytest.mark.parametrize(
    "head",
    [
        b"GENE" + b" 12345" * 700,
        b"\x1f\x07\0\x3f" + bytes(4000),
        b"\0\0\0\x01" + bytes(4000),
        b"\0\0\x01\x67" + bytes(4000),
        b"\x12\0" + bytes(4000),
    ],
)
def test_what_only_resembles_a_video_is_none(head):
    assert isinstance(sniff(head), Other)
