"""Images of every depth, order and packing look like their twins of eight bits."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from worker.errors import MediaRejected

FULL = {8: np.uint8, 10: np.uint16, 12: np.uint16, 14: np.uint16, 16: np.uint16, 32: np.uint32}
FLOATS = {"f2": np.float16, "f4": np.float32, "f8": np.float64}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5


def grey_of(portrait):
    return portrait[..., 1:2]


def deepened(picture, depth):
    """Return eight-bit values in another depth, and its bits."""
    if depth in FLOATS:
        return (picture / 255).astype(FLOATS[depth]), 8 * FLOATS[depth]().itemsize
    top = 2**depth - 1
    return np.rint(picture / 255 * top).astype(FULL.get(depth, np.uint8)), depth


def difference(pixels, picture):
    """Return the mean difference to an eight-bit image of one or three channels."""
    assert pixels.shape == (*picture.shape[:2], 3)
    return np.abs(pixels.astype(float) - picture).mean()


CASES = [
    # depth, colour, options of the page, options of the file
    (16, WHITE_IS_ZERO, {}, {}),
    (16, WHITE_IS_ZERO, {"order": ">"}, {"order": ">"}),
    (16, WHITE_IS_ZERO, {"packing": "lzw", "predictor": 2}, {}),
    (16, WHITE_IS_ZERO, {"packing": "deflate", "tile": 32}, {}),
    (16, WHITE_IS_ZERO, {}, {"big": True}),
    (12, WHITE_IS_ZERO, {}, {}),
    (4, WHITE_IS_ZERO, {}, {}),
    (1, WHITE_IS_ZERO, {}, {}),
    (8, WHITE_IS_ZERO, {"packing": "packbits"}, {}),
    (32, WHITE_IS_ZERO, {}, {}),
    (32, WHITE_IS_ZERO, {"order": ">"}, {"order": ">", "big": True}),
    ("f4", WHITE_IS_ZERO, {}, {}),
    ("f8", WHITE_IS_ZERO, {"order": ">"}, {"order": ">"}),
    (6, BLACK_IS_ZERO, {}, {}),
    (10, BLACK_IS_ZERO, {"packing": "deflate"}, {}),
    (14, BLACK_IS_ZERO, {"order": ">"}, {"order": ">"}),
    (16, BLACK_IS_ZERO, {"packing": "packbits"}, {"big": True}),
    (32, BLACK_IS_ZERO, {}, {}),
    ("f2", BLACK_IS_ZERO, {}, {}),
    ("f4", BLACK_IS_ZERO, {"packing": "deflate", "predictor": 3, "order": ">"}, {"order": ">"}),
    ("f8", BLACK_IS_ZERO, {"packing": "lzw"}, {}),
    (8, RGB, {"order": ">"}, {"order": ">", "big": True}),
    (8, RGB, {"order": ">", "packing": "lzw", "predictor": 2}, {"order": ">", "big": True}),
    (12, RGB, {}, {}),
    (14, RGB, {"planar": True}, {}),
    (16, RGB, {"planar": True}, {}),
    (16, RGB, {"planar": True, "packing": "deflate", "predictor": 2, "order": ">"}, {"order": ">"}),
    (16, RGB, {"tile": 16}, {}),
    (16, RGB, {"tile": 32, "packing": "packbits", "planar": True}, {}),
    (16, RGB, {"order": ">", "rows": 7}, {"order": ">", "big": True}),
    (32, RGB, {}, {}),
    ("f2", RGB, {"tile": 16, "packing": "deflate", "predictor": 3}, {}),
    ("f4", RGB, {}, {}),
    ("f4", RGB, {"planar": True, "order": ">"}, {"order": ">"}),
    ("f8", RGB, {"packing": "lzw"}, {"big": True}),
]


@pytest.mark.parametrize(("depth", "colour", "page", "file"), CASES)
def test_tiff_looks_like_its_twin(made, depth, colour, page, file):
    picture = made.portrait if colour == RGB else grey_of(made.portrait)
    stored = 255 - picture if colour == WHITE_IS_ZERO else picture
    values, bits = deepened(stored, depth)
    path = made.folder / "deep.tif"
    path.write_bytes(made.tiff(made.page(values, bits, colour=colour, **page), **file))
    info, (frame,), notes = made.read(path)
    assert (info.format, info.width, info.height, notes) == ("tiff", 53, 41, [])
    steps = 255 / (2 ** min(bits, 8) - 1)
    assert difference(frame.pixels, picture) < max(1.5, 0.3 * steps)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("depth", [8, 16, 32, "f4"])
@pytest.mark.parametrize("big", [False, True])
def test_inks_of_every_depth_look_alike(made, depth, planar, big):
    inks = np.concatenate([255 - made.portrait, np.zeros_like(made.portrait[..., :1])], axis=2)
    values, bits = deepened(inks, depth)
    path = made.folder / "inks.tif"
    path.write_bytes(made.tiff(made.page(values, bits, colour=CMYK, planar=planar), big=big))
    _, (frame,), _ = made.read(path)
    assert difference(frame.pixels, made.portrait) < 1.5


@pytest.mark.parametrize("colour", [8, 9])
@pytest.mark.parametrize("bits", [8, 16])
def test_lab_of_both_depths_has_its_colours(made, colour, bits):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(made.portrait), srgb, lab, outputMode="LAB")
    values = np.frombuffer(image.tobytes("raw", "LAB"), np.uint8).reshape(made.portrait.shape).copy()
    if colour == 9:
        values[..., 1:] ^= 128
    if bits == 16:
        values = values.astype(np.uint16) << 8
    path = made.folder / "lab.tif"
    path.write_bytes(made.tiff(made.page(values, bits, colour=colour)))
    _, (frame,), _ = made.read(path)
    twin = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert difference(frame.pixels, np.asarray(twin)) < 1.5


@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize(("depth", "colour"), [(16, RGB), (16, BLACK_IS_ZERO), ("f4", RGB)])
def test_deep_transparency_is_shown_on_white(made, depth, colour, extra):
    picture = made.portrait if colour == RGB else grey_of(made.portrait)
    alpha = np.full((*picture.shape[:2], 1), 102, np.uint8)
    share = 102 / 255
    stored = np.rint(picture * share).astype(np.uint8) if extra == 1 else picture
    values, bits = deepened(np.concatenate([stored, alpha], axis=2), depth)
    path = made.folder / "glass.tif"
    path.write_bytes(made.tiff(made.page(values, bits, colour=colour, tag_338=extra)))
    _, (frame,), _ = made.read(path)
    assert difference(frame.pixels, picture * share + 255 * (1 - share)) < 2.5


def png_of(values, significant=None):
    """Return a PNG of 16 bits in any of its colours."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    said = chunk(b"sBIT", bytes([significant]) * channels) if significant else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + said
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("format_name", ["png", "tiff", "pnm"])
def test_few_bits_in_sixteen_are_scaled_by_what_they_fill(made, bits, channels, format_name):
    picture = grey_of(made.portrait) if channels < 3 else made.portrait
    values = np.rint(picture / 255 * (2**bits - 1)).astype(np.uint16)
    if channels in {2, 4}:
        values = np.concatenate([values, np.full_like(values[..., :1], 65535)], axis=2)
    path = made.folder / "narrow"
    if format_name == "png":
        path.write_bytes(png_of(values))
    elif format_name == "tiff":
        page = made.page(values, 16, colour=BLACK_IS_ZERO if channels < 3 else RGB, tag_338=2)
        path.write_bytes(made.tiff(page))
    elif channels in {2, 4}:
        pytest.skip("a portable pixmap has no transparency")
    else:
        kind = b"P5" if channels == 1 else b"P6"
        path.write_bytes(b"%s 53 41 65535\n" % kind + values.astype(">u2").tobytes())
    _, (frame,), _ = made.read(path)
    assert difference(frame.pixels, picture) < 1.5


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("format_name", ["png", "tiff"])
def test_dark_images_of_sixteen_bits_stay_dark(made, share, channels, format_name):
    dark = np.rint((grey_of(made.portrait) if channels == 1 else made.portrait) * share).astype(np.uint8)
    values = dark.astype(np.uint16) * 257
    path = made.folder / "dark"
    if format_name == "png":
        path.write_bytes(png_of(values))
    else:
        path.write_bytes(made.tiff(made.page(values, 16, colour=BLACK_IS_ZERO if channels == 1 else RGB)))
    _, (frame,), _ = made.read(path)
    assert difference(frame.pixels, dark) < 1.0


def test_bits_that_a_file_names_count(made):
    picture = grey_of(made.portrait)
    dim = np.rint(picture / 255 * 9000).astype(np.uint16)  # of 14 bits, a little more than half
    (made.folder / "said.png").write_bytes(png_of(dim, significant=14))
    (made.folder / "said.tif").write_bytes(made.tiff(made.page(dim, 16, colour=BLACK_IS_ZERO, tag_281=16383)))
    for name in ("said.png", "said.tif"):
        _, (frame,), _ = made.read(made.folder / name)
        assert difference(frame.pixels, picture * (9000 / 16383)) < 1.0, name


@pytest.mark.parametrize(("top", "white"), [(1.0, 1.0), (1.08, 1.0), (255.0, 255.0), (65535.0, 65535.0), (6.0, 6.0)])
def test_floating_point_has_the_range_that_it_shows(made, top, white):
    values = (made.portrait / 255 * white).astype(np.float32)
    values[0, :3] = top  # highlights
    values[1, 0] = np.nan
    path = made.folder / "f.tif"
    path.write_bytes(made.tiff(made.page(values, 32)))
    _, (frame,), _ = made.read(path)
    assert difference(frame.pixels[2:], made.portrait[2:]) < 2.0


def test_jpeg_2000_of_twelve_bits(made):
    values = np.rint(made.portrait[..., ::-1] / 255 * 4095).astype(np.uint16)
    _, packed = cv2.imencode(".jp2", values, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    (made.folder / "a.jp2").write_bytes(packed.tobytes())
    _, (frame,), _ = made.read(made.folder / "a.jp2")
    assert difference(frame.pixels, made.portrait) < 2.0


UNREAD = [
    {"tag_259": 33003},  # JPEG 2000
    {"tag_259": 34892},  # lossy JPEG of raw files
    {"tag_259": 50002},  # JPEG XL
    {"tag_259": 34887},  # LERC
    {"tag_262": 32845},  # LogLuv
    {"tag_339": (6, 6, 6)},  # complex numbers
    {"tag_258": (5, 6, 5)},
]


@pytest.mark.parametrize("fields", UNREAD)
def test_whole_files_that_are_not_read_are_not_called_corrupt(made, fields):
    path = made.folder / "odd.tif"
    path.write_bytes(made.tiff(made.page(made.portrait, 8, **fields)))
    with pytest.raises(MediaRejected) as caught:
        made.read(path)
    assert caught.value.code == "unsupported_format", caught.value.reason


@pytest.mark.parametrize("packing", ["none", "lzw", "deflate", "packbits"])
def test_half_a_deep_tiff_is_damaged(made, packing):
    noise = np.random.default_rng(0).integers(0, 65535, (64, 64, 3), np.uint16)
    page = made.page(noise, 16, packing=packing)
    page.data[2] = page.data[2][: len(page.data[2]) // 2]
    path = made.folder / "half.tif"
    path.write_bytes(made.tiff(page))
    with pytest.raises(MediaRejected) as caught:
        made.read(path)
    assert caught.value.code in {"truncated", "corrupt"}


def test_pages_that_pillow_alone_unpacks_are_read_from_big_endian_files(made):
    stream = io.BytesIO()
    Image.fromarray(made.portrait).save(stream, "JPEG", quality=95, subsampling=0)
    page = made.page(made.portrait, 8, colour=6, order=">", rows=41, tag_259=7, tag_530=(1, 1))
    page.data = [stream.getvalue()]
    path = made.folder / "j.tif"
    path.write_bytes(made.tiff(page, order=">", big=True))
    _, (frame,), _ = made.read(path)
    assert difference(frame.pixels, made.portrait) < 4


@pytest.mark.parametrize("bits", [8, 16])
def test_lengths_of_strips_may_be_left_out(made, bits):
    values, _ = deepened(made.portrait, bits)
    page = made.page(values, bits)
    whole = made.tiff(page)
    lengths = struct.pack(f"<{len(page.data)}H", *(len(part) for part in page.data))
    (made.folder / "a.tif").write_bytes(whole.replace(lengths, bytes(len(lengths))))
    _, (frame,), _ = made.read(made.folder / "a.tif")
    assert difference(frame.pixels, made.portrait) < 1.0
