"""Files of several images: pages are frames, copies and masks are not, raw camera files are refused."""

import struct

import numpy as np
import pytest
from PIL import Image

from worker.decode.child.readers.image import album
from worker.errors import MediaRejected

REDUCED, MASK, PAGE = 1, 4, 2


@pytest.fixture
def coloured(made):
    """Make a page of one grey value."""

    def make(value, size=(40, 30), bits=8, **options):
        width, height = size
        values = np.full((height, width, 3), value, np.uint16 if bits == 16 else np.uint8)
        return made.page(values * (257 if bits == 16 else 1), bits, **options)

    return make


def shown(frames):
    return [(frame.pixels.shape[1], frame.pixels.shape[0], int(frame.pixels.mean())) for frame in frames]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_page_is_a_frame_with_its_own_size(made, coloured, big, order, bits):
    sizes = [(40, 30), (17, 23), (80, 60)]
    pages = [coloured(50 * n + 50, size, bits, order=order) for n, size in enumerate(sizes)]
    path = made.folder / "a.tif"
    path.write_bytes(made.tiff(*pages, order=order, big=big))
    info, frames, notes = made.read(path, rate=0.1)  # sampling is for videos
    assert (info.width, info.height, info.duration_seconds, notes) == (40, 30, None, [])
    assert shown(frames) == [(40, 30, 50), (17, 23, 100), (80, 60, 150)]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert len({frame.at_seconds for frame in frames}) == 3
    assert [frame.starts_shot for frame in frames] == [False, True, True]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits"])
def test_pages_as_pillow_writes_them(made, compression):
    pages = [Image.new("RGB", (32 + n, 24), (60 * n, 60 * n, 60 * n)) for n in range(4)]
    pages[0].save(made.folder / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
    _, frames, notes = made.read(made.folder / "a.tif")
    assert shown(frames) == [(32 + n, 24, 60 * n) for n in range(4)]
    assert notes == []


def test_pages_of_different_depths_and_colours(made, coloured):
    grey = np.full((20, 30, 1), 200, np.uint8)
    pages = [coloured(90), coloured(120, bits=16), made.page(255 - grey, 8, colour=0), made.page(grey, 8, colour=1)]
    (made.folder / "a.tif").write_bytes(made.tiff(*pages))
    _, frames, _ = made.read(made.folder / "a.tif")
    assert [mean for *_, mean in shown(frames)] == [90, 120, 200, 200]


def test_a_first_page_that_pillow_refuses_does_not_hide_plain_ones(made, coloured):
    grey = np.full((30, 40, 1), 65535 - 120 * 257, np.uint16)
    first = made.page(grey, 16, colour=0, order=">")
    others = [coloured(60, (17, 23), order=">"), coloured(90, (80, 60), order=">", packing="lzw")]
    (made.folder / "a.tif").write_bytes(made.tiff(first, *others, order=">"))
    _, frames, notes = made.read(made.folder / "a.tif")
    assert shown(frames) == [(40, 30, 120), (17, 23, 60), (80, 60, 90)]
    assert notes == []


@pytest.mark.parametrize(
    "fields", [{"tag_254": REDUCED}, {"tag_254": MASK}, {"tag_254": REDUCED | PAGE}, {"tag_255": 2}, {"tile": 16}]
)
def test_smaller_copies_and_masks_are_no_pages(made, coloured, fields):
    levels = [coloured(200, (64 >> n, 48 >> n), **fields) for n in (1, 2)]
    page = coloured(90, (64, 48), tag_254=PAGE)
    (made.folder / "a.tif").write_bytes(made.tiff(coloured(50, (64, 48)), *levels, page))
    _, frames, notes = made.read(made.folder / "a.tif")
    assert shown(frames) == [(64, 48, 50), (64, 48, 90)]
    assert notes == []


def test_copies_below_an_image_are_no_pages(made, coloured):
    below = [coloured(200, (32, 24), tag_254=REDUCED), coloured(200, (16, 12), tag_254=REDUCED)]
    (made.folder / "a.tif").write_bytes(made.tiff(coloured(50, (64, 48)), coloured(70), below=below))
    _, frames, _ = made.read(made.folder / "a.tif")
    assert [mean for *_, mean in shown(frames)] == [50, 70]


def test_images_below_a_page_that_are_no_copies_are_noted(made, coloured):
    below = [
        coloured(200, (33, 44), tag_254=0),
        coloured(200, (32, 24), tag_254=0),
        coloured(9, (64, 48), tag_254=MASK),
    ]
    (made.folder / "a.tif").write_bytes(made.tiff(coloured(50, (64, 48)), below=below))
    _, frames, notes = made.read(made.folder / "a.tif")
    assert shown(frames) == [(64, 48, 50)]
    assert notes == ["images inside other pages were not analysed: 1"]


def test_the_image_behind_a_thumbnail_is_read(made, coloured):
    for name, thumbnail, below in (
        ("below.tif", [coloured(200, (16, 12), tag_254=REDUCED)], [coloured(50, (64, 48), tag_254=0)]),
        ("next.tif", [coloured(200, (16, 12), tag_254=REDUCED), coloured(50, (64, 48), tag_254=0)], []),
    ):
        (made.folder / name).write_bytes(made.tiff(*thumbnail, below=below))
        info, frames, notes = made.read(made.folder / name)
        assert (shown(frames), notes) == ([(64, 48, 50)], []), name
        assert (info.width, info.height) == (64, 48)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("bits", [8, 16])
def test_each_page_is_turned_upright(made, coloured, orientation, bits):
    pages = [coloured(50, (40, 30)), coloured(90, (40, 30), bits, tag_274=orientation)]
    pages[1].values[:5] = 0
    pages[1].data = list(pages[1]._parts())
    (made.folder / "a.tif").write_bytes(made.tiff(*pages))
    _, (_, frame), _ = made.read(made.folder / "a.tif")
    assert frame.pixels.shape == ((40, 30, 3) if orientation > 4 else (30, 40, 3))
    top = {1: frame.pixels[:5], 3: frame.pixels[-5:], 6: frame.pixels[:, -5:], 8: frame.pixels[:, :5]}
    assert not top[orientation].any()


def test_pages_beyond_the_budget_are_noted(made, coloured, monkeypatch):
    monkeypatch.setattr(album, "MAX_PAGES", 3)
    (made.folder / "a.tif").write_bytes(made.tiff(*[coloured(n) for n in range(7)]))
    _, frames, notes = made.read(made.folder / "a.tif")
    assert len(frames) == 3
    assert notes == ["pages 4 to 7 were not analysed: split the file"]


def test_a_broken_page_does_not_hide_the_others(made, coloured):
    broken, strange, huge = coloured(70, bits=16), coloured(80, tag_259=34887), coloured(90, (400, 400))
    broken.data = [part[:9] for part in broken.data]
    (made.folder / "a.tif").write_bytes(made.tiff(coloured(50), broken, strange, huge, coloured(100)))
    _, frames, notes = made.read(made.folder / "a.tif", pixels_per_frame=10_000)
    assert [(frame.index, int(frame.pixels.mean())) for frame in frames] == [(0, 50), (4, 100)]
    codes = [(note.split(" was")[0], note.split(": ")[1]) for note in notes]
    assert codes == [("page 2", "truncated"), ("page 3", "unsupported_format"), ("page 4", "too_many_pixels")]


def test_a_chain_that_breaks_off_or_bites_its_tail_ends(made, coloured):
    whole = made.tiff(coloured(50), coloured(70))
    first = struct.unpack_from("<I", whole, 4)[0]
    link = first + 2 + 12 * struct.unpack_from("<H", whole, first)[0]
    for target in (first, len(whole) + 99):
        (made.folder / "a.tif").write_bytes(whole[:link] + struct.pack("<I", target) + whole[link + 4 :])
        _, frames, notes = made.read(made.folder / "a.tif")
        assert len(frames) == 1
        assert notes == ["the list of pages breaks off after 1"]


def test_of_pages_that_are_all_broken_the_first_reason_counts(made, coloured):
    pages = [coloured(70, bits=16), coloured(80, tag_259=34887)]
    pages[0].data = [part[:9] for part in pages[0].data]
    (made.folder / "a.tif").write_bytes(made.tiff(*pages))
    with pytest.raises(MediaRejected) as caught:
        made.read(made.folder / "a.tif")
    assert caught.value.code == "truncated"


SENSOR = {"tag_254": 0, "tag_262": 32803, "bits": 16}
RAW = {
    "dng": ({"tag_254": REDUCED, "tag_50706": (1, 4, 0, 0)}, SENSOR),
    "dng, thumbnail not marked": ({"tag_50706": (1, 4, 0, 0)}, SENSOR),
    "dng, linear": ({"tag_254": REDUCED}, {"tag_254": 0, "tag_262": 34892, "bits": 16}),
    "nef": ({"tag_254": REDUCED, "tag_271": b"NIKON CORPORATION\0"}, {**SENSOR, "tag_259": 34713}),
    "arw": ({"tag_254": REDUCED, "tag_271": b"SONY\0"}, {"tag_254": 0, "tag_259": 32767}),
    "srw": ({"tag_254": REDUCED, "tag_271": b"SAMSUNG\0"}, {"tag_254": 0, "tag_259": 32770}),
    "pef": ({"tag_271": b"PENTAX\0", "tag_259": 65535}, None),
    "3fr": ({"tag_254": REDUCED, "tag_271": b"Hasselblad\0"}, SENSOR),
    "erf, sensor marked by its mosaic": (
        {"tag_271": b"SEIKO EPSON\0"},
        {"tag_33421": (2, 2), "tag_33422": (0, 1, 1, 2)},
    ),
    "mos": ({"tag_271": b"Leaf\0", "tag_34310": b"PKTS"}, None),
    "sr2": ({"tag_271": b"SONY\0", "tag_29184": 4000}, None),
    "kdc, nothing but a thumbnail": ({"tag_254": REDUCED, "tag_271": b"EASTMAN KODAK\0"}, None),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", RAW)
def test_raw_camera_files_are_not_read_as_their_thumbnails(made, coloured, name, order):
    first, sensor = RAW[name]
    below = [coloured(90, (64, 48), order=order, **sensor)] if sensor else []
    (made.folder / "a.raw").write_bytes(made.tiff(coloured(50, order=order, **first), below=below, order=order))
    with pytest.raises(MediaRejected) as caught:
        made.read(made.folder / "a.raw")
    assert caught.value.code == "unsupported_format"
    assert "raw camera" in str(caught.value)


def test_a_developed_image_of_a_camera_is_read(made, coloured):
    page = coloured(50, (64, 48), tag_254=0, tag_271=b"NIKON CORPORATION\0", tag_272=b"NIKON Z 9\0")
    below = [coloured(90, (16, 12), tag_254=REDUCED)]
    (made.folder / "a.tif").write_bytes(made.tiff(page, coloured(90, (16, 12), tag_254=REDUCED), below=below))
    _, frames, _ = made.read(made.folder / "a.tif")
    assert shown(frames) == [(64, 48, 50)]


def picture(value, size=(64, 48)):
    """Return an image with a light corner, so that two of them differ."""
    image = Image.new("RGB", size, (value, value, value))
    image.paste((255, 255, 255), (0, 0, size[0] // 2, size[1] // 2))
    return image


def test_images_of_one_heic_file_are_pages_the_primary_one_first(made):
    pages = [picture(20), picture(90, (96, 64)), picture(160)]
    pages[0].save(made.folder / "a.heic", save_all=True, append_images=pages[1:], primary_index=2, quality=90)
    info, frames, notes = made.read(made.folder / "a.heic")
    assert (info.format, info.width, info.height) == ("heic", 64, 48)
    assert [frame.pixels.shape[1] for frame in frames] == [64, 64, 96]
    assert [round(int(frame.pixels[-9, -9, 0]), -1) for frame in frames] == [160, 20, 90]
    assert notes == []


def test_versions_of_one_image_are_no_pages(made):
    picture(100).save(made.folder / "a.heic", save_all=True, append_images=[picture(106), picture(20)], quality=90)
    _, frames, notes = made.read(made.folder / "a.heic")
    assert len(frames) == 2
    assert notes == ["page 2 was not analysed: same_picture: another version of the primary image"]


def test_views_beside_a_jpeg_are_noted(made):
    picture(100).save(
        made.folder / "a.mpo", "MPO", save_all=True, append_images=[picture(20), picture(30).convert("L")]
    )
    _, frames, notes = made.read(made.folder / "a.mpo")
    assert len(frames) == 1
    assert notes == ["other views in the file were not analysed: 1"]  # a grey one is a map of depth or brightness
