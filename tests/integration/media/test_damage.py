"""Bytes changed at random: every file still gives frames or a reason, and no child ends over one."""

import random

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from worker.decode.client import Decoder
from worker.errors import MediaRejected
from worker.types import DecodeLimits, DecodeRequest

pillow_heif.register_heif_opener()  # Pillow writes HEIF with it

LIMITS = DecodeLimits(memory_bytes=512 << 20, wall_seconds=20)


def damaged(data, chance):
    data = bytearray(data)
    for _ in range(chance.choice((1, 3, 10, 50))):
        # half of the damage goes to the header, where it does most harm
        place = chance.randrange(min(len(data), chance.choice((400, len(data)))))
        change = chance.random()
        if change < 0.5:
            data[place] = chance.randrange(256)
        elif change < 0.95:
            data[place : place + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
        else:
            del data[max(place, 1) :]
    return bytes(data)


def outcomes(path, data, kind, count):
    chance = random.Random(7)
    with Decoder(LIMITS) as decoder:
        first = decoder.pid
        for _ in range(count):
            path.write_bytes(damaged(data, chance))
            try:
                with decoder.open(DecodeRequest(location=str(path), kind=kind, limits=LIMITS)) as stream:
                    indices = [frame.index for frame in stream]
                assert indices == sorted(set(indices))
                yield "frames"
            except MediaRejected as err:
                yield err.code
        assert decoder.pid == first


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "HEIF", "AVIF", "PSD", "ICO", "BMP"])
def test_images(tmp_path, name, shared_data):
    path = tmp_path / "picture"
    if name == "PSD":  # which Pillow does not write
        data = (shared_data / "hard_inputs" / "pillow" / "hopper.psd").read_bytes()
    else:
        pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        more = {"save_all": True, "append_images": [Image.new("RGB", (40, 40))] * 3} if name == "GIF" else {}
        Image.fromarray(pixels).save(path, name, **more)
        data = path.read_bytes()
    assert set(outcomes(path, data, "image", 60)) <= {
        "frames",
        "truncated",
        "corrupt",
        "unsupported_format",
        "too_many_pixels",
        "out_of_memory",
    }


@pytest.mark.parametrize("name", ["h264.mkv", "h264.ts", "mpeg4.avi", "mpeg2.mpg"])
def test_videos(tmp_path, films, name):
    codec = {"h264": "libx264", "mpeg4": "mpeg4", "mpeg2": "mpeg2video"}[name.split(".")[0]]
    data = films.make(f"damaged-{name}", codec).read_bytes()
    assert set(outcomes(tmp_path / "film", data, "video", 40)) <= {
        "frames",
        "truncated",
        "corrupt",
        "unsupported_format",
        "no_video_stream",
        "too_many_pixels",
        "out_of_memory",
    }


TRUNCATED = ["WEBP", "AVIF", "HEIF", "JPEG2000", "j2k", "JPEG", "PNG", "PPM", "SGI", "TIFF", "tiff_adobe_deflate"]


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
@pytest.mark.parametrize("name", TRUNCATED)
def test_images_that_break_off_are_said_to(tmp_path, name, share):
    path = tmp_path / ("picture.j2k" if name == "j2k" else "picture")
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    more = {"compression": name} if name.islower() and name != "j2k" else {}
    Image.fromarray(pixels).save(path, "TIFF" if more else name.replace("j2k", "JPEG2000"), **more)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    request = DecodeRequest(location=str(path), kind="image", limits=LIMITS)
    with Decoder(LIMITS) as decoder, pytest.raises(MediaRejected) as caught, decoder.open(request) as stream:
        list(stream)
    assert caught.value.code == "truncated"
