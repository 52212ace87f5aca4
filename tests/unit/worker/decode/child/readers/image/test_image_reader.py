import io
import struct
import zlib
from contextlib import closing

import numpy as np
import pytest
from PIL import Image, ImageCms

from worker.decode.child.readers.image import image_reader
from worker.decode.child.readers.image.image_reader import open_image
from worker.errors import MediaRejected
from worker.types import DecodeLimits, DecodeRequest

RED, GREEN, BLUE = (200, 30, 20), (30, 180, 40), (20, 40, 190)


@pytest.fixture(scope="module", autouse=True)
def codecs():
    import warnings

    with warnings.catch_warnings():
        before = Image.MAX_IMAGE_PIXELS
        image_reader.load_codecs()
        yield
        Image.MAX_IMAGE_PIXELS = before


def corners(size=(26, 14)):
    """An image whose four quarters are red, green, blue and white."""
    width, height = size
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    return Image.fromarray(pixels)


def decode(path, rate=None, limits=None):
    limits = limits or DecodeLimits()
    with closing(open_image(str(path), limits)) as still:
        return still.info, list(still.frames(DecodeRequest(location=str(path), kind="image", frames_per_second=rate)))


def near(pixel, colour, tolerance=24):
    return np.abs(np.asarray(pixel, int) - colour).max() <= tolerance


def assert_corners(pixels):
    height, width, _ = pixels.shape
    found = [pixels[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    for pixel, colour in zip(found, (RED, GREEN, BLUE, (255, 255, 255)), strict=True):
        assert near(pixel, colour), (pixel, colour)


FORMATS = [
    ("JPEG", "jpeg", {"quality": 95, "subsampling": 0}),
    ("PNG", "png", {}),
    ("WEBP", "webp", {"lossless": True}),
    ("GIF", "gif", {}),
    ("BMP", "bmp", {}),
    ("TIFF", "tiff", {"compression": "tiff_lzw"}),
    ("HEIF", "heic", {"quality": 95}),
    ("AVIF", "avif", {"quality": 95}),
    ("PPM", "ppm", {}),
    ("ICO", "ico", {"sizes": [(32, 32)]}),
    ("JPEG2000", "jpeg2000", {}),
    ("PCX", "pcx", {}),
    ("SGI", "sgi", {}),
    ("QOI", "qoi", {}),
]


@pytest.mark.parametrize(("pillow_name", "name", "options"), FORMATS)
def test_every_format_is_known_by_its_content(tmp_path, pillow_name, name, options):
    path = tmp_path / "picture.dat"
    corners((32, 32)).save(path, pillow_name, **options)
    info, frames = decode(path)
    assert (info.kind, info.format, info.width, info.height) == ("image", name, 32, 32)
    assert [(frame.index, frame.at_seconds) for frame in frames] == [(0, 0.0)]
    assert frames[0].pixels.dtype == np.uint8
    assert_corners(frames[0].pixels)


@pytest.mark.parametrize("pillow_name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path, pillow_name, orientation):
    upright = corners((26, 14))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "picture"
    stored.save(path, pillow_name, exif=exif, quality=95)
    info, (frame,) = decode(path)
    assert (info.width, info.height) == (26, 14)
    assert frame.pixels.shape == (14, 26, 3)
    assert_corners(frame.pixels)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 255, (255, 255, 255)),
        ("L", 90, (90, 90, 90)),
        ("LA", (90, 255), (90, 90, 90)),
        ("LA", (90, 0), (255, 255, 255)),
        ("RGBA", (*RED, 255), RED),
        ("RGBA", (*RED, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("P", RED, RED),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("YCbCr", (76, 85, 255), (254, 0, 0)),
        ("I;16", 40_000, (156, 156, 156)),
        ("I", 40_000, (156, 156, 156)),
        ("I", 200, (200, 200, 200)),
        ("F", 0.5, (128, 128, 128)),
        ("F", 200.0, (200, 200, 200)),
        ("F", 60_000.0, (233, 233, 233)),
    ],
)
def test_modes_become_rgb(tmp_path, mode, value, expected):
    image = Image.new("RGB", (9, 5), value).quantize(4) if mode == "P" else Image.new(mode, (9, 5), value)
    path = tmp_path / "picture.tif"
    if mode == "LA":
        image.save(path, "PNG")
    else:
        image.save(path)
    _, (frame,) = decode(path)
    assert near(frame.pixels[2, 4], expected, 2)


def test_lab_images_have_their_colours(tmp_path):
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (9, 5), RED),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    lab.save(tmp_path / "lab.tif")
    _, (frame,) = decode(tmp_path / "lab.tif")
    assert near(frame.pixels[2, 4], RED, 8)


def test_a_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, *GREEN])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "p.png", transparency=0)
    _, (frame,) = decode(tmp_path / "p.png")
    assert frame.pixels[0, 0].tolist() == [255, 255, 255]
    assert frame.pixels[5, 5].tolist() == list(GREEN)


@pytest.mark.parametrize(
    ("pillow_name", "options"),
    [("GIF", {"disposal": 2}), ("WEBP", {"lossless": True}), ("PNG", {})],
)
def test_animations_are_sampled_by_their_own_clock(tmp_path, pillow_name, options):
    frames = [Image.new("RGB", (11, 7), (20 * n, 100, 255 - 20 * n)) for n in range(6)]
    path = tmp_path / "moving"
    durations = [100, 250, 300, 40, 900, 100]
    frames[0].save(path, pillow_name, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options)
    info, every = decode(path)
    assert info.kind == "image"
    assert [f.index for f in every] == list(range(6))
    assert [round(f.at_seconds, 3) for f in every] == [0.0, 0.1, 0.35, 0.65, 0.69, 1.59]
    assert [f.pixels[3, 5, 0] for f in every] == pytest.approx([0, 20, 40, 60, 80, 100], abs=3)
    _, sampled = decode(path, rate=2.0)
    assert [f.index for f in sampled] == [0, 3, 4, 5]  # the fifth is on screen at the second tick
    assert [f.pixels[3, 5, 0] for f in sampled] == pytest.approx([0, 60, 80, 100], abs=3)
    assert [f.hold_seconds for f in sampled] == pytest.approx([0.65, 0.04, 0.9, 0.1])
    assert [f.hold_seconds for f in every] == pytest.approx([seconds / 1000 for seconds in durations])


def test_animations_without_durations_run_at_ten_frames_a_second(tmp_path):
    frames = [Image.new("RGB", (11, 7), (40 * n, 0, 0)) for n in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=0)
    _, every = decode(tmp_path / "a.gif")
    assert [round(f.at_seconds, 3) for f in every] == [0.0, 0.1, 0.2, 0.3]


def reason(path, **limits):
    with pytest.raises(MediaRejected) as caught:
        decode(path, limits=DecodeLimits(**limits))
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("pillow_name", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "HEIF", "AVIF"])
def test_half_a_file_is_refused_as_such(tmp_path, pillow_name):
    path = tmp_path / "picture"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, pillow_name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason(path) in {"truncated", "corrupt"}


def test_no_bytes_and_no_image(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("not a picture")
    assert reason(tmp_path / "empty") == "empty"
    assert reason(tmp_path / "text") == "unsupported_format"


def jpeg_with(precision):
    stream = io.BytesIO()
    corners().save(stream, "JPEG")
    whole = bytearray(stream.getvalue())
    whole[whole.index(b"\xff\xc0") + 4] = precision
    return bytes(whole)


UNREAD = {
    "JPEG of 12 bits": jpeg_with(12),
    "JPEG of 16 bits": jpeg_with(16),
    "BMP of 64 bits": b"BM" + struct.pack("<IHHI IiiHHIIiiII", 5414, 0, 0, 54, 40, 8, 8, 1, 64, *(0,) * 6) + bytes(999),
    "BMP around a JPEG": b"BM"
    + struct.pack("<IHHI IiiHHIIiiII", 5414, 0, 0, 54, 40, 8, 8, 1, 0, 4, *(0,) * 5)
    + b"\xff\xd8",
    "SGI of five channels": b"\x01\xda\1\2\0\3\0\x08\0\x08\0\5" + bytes(999),
}


@pytest.mark.parametrize("name", UNREAD)
def test_kinds_of_known_formats_that_are_not_read_are_not_called_corrupt(tmp_path, name):
    (tmp_path / "a").write_bytes(UNREAD[name])
    assert reason(tmp_path / "a") == "unsupported_format"


def png_of(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (11_000, 11_000)])  # beyond twice the limit, and just beyond it
def test_a_pixel_bomb_is_known_by_its_header(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(png_of(*size))
    assert reason(tmp_path / "bomb.png") == "too_many_pixels"


def test_limits_are_those_of_the_request(tmp_path):
    corners().save(tmp_path / "a.png")
    assert reason(tmp_path / "a.png", pixels_per_frame=26 * 14 - 1) == "too_many_pixels"
    frames = [Image.new("RGB", (11, 7), (40 * n, 0, 0)) for n in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert reason(tmp_path / "a.gif", frames_per_file=3) == "too_many_frames"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_matter(tmp_path):
    corners().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01", quality=95)
    _, (frame,) = decode(tmp_path / "a.jpg")
    assert_corners(frame.pixels)
