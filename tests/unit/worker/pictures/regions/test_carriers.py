"""A packet goes into a JPEG or PNG, and every other byte of the file stays."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from worker.pictures.regions.carriers import NotEmbeddedError, read_packet, write_packet

PACKET = '<?xpacket begin="\ufeff"?><x:xmpmeta xmlns:x="adobe:ns:meta/">é</x:xmpmeta>'.encode()


def picture():
    return Image.fromarray(np.random.default_rng(3).integers(0, 255, (24, 32, 3), np.uint8))


def saved(form, **options):
    """Return an image file with metadata of every kind."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Canon"
    data = io.BytesIO()
    picture().save(data, format=form, exif=exif, icc_profile=b"x" * 200, **options)
    return data.getvalue()


def extra(data):
    """Return the image with a comment, a segment of a maker, and bytes behind its end, as phones write."""
    at = data.index(b"\xff\xdb")
    return data[:at] + b"\xff\xfe\x00\x05abc" + b"\xff\xed\x00\x08iptc--" + data[at:] + b"MotionPhoto_Data" * 9


def facts(data):
    image = Image.open(io.BytesIO(data))
    return (
        np.asarray(image),
        image.getexif()[0x010F],
        image.info["icc_profile"],
        image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"),
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("present", [None, b"<x:xmpmeta>old</x:xmpmeta>"])
def test_a_packet_is_written_and_nothing_else_changes(form, present):
    data = saved(form) if form == "PNG" else extra(saved(form))
    if present:
        data = write_packet(data, present)
        assert read_packet(data) == present
    written = write_packet(data, PACKET)
    assert read_packet(written) == PACKET
    at = next(place for place, (one, other) in enumerate(zip(data, written, strict=False)) if one != other)
    tail = next(size for size in range(1, len(data)) if data[-size] != written[-size]) - 1
    assert len(data) - at - tail <= (200 if present else 0), "bytes outside of the packet have changed"
    (pixels, maker, colours, packet), (kept, *others, _) = facts(written), facts(data)
    assert (pixels == kept).all()
    assert [maker, colours] == others
    assert packet.encode() if isinstance(packet, str) else packet == PACKET


def test_the_packet_stands_behind_exif_and_before_the_rest():
    data = saved("JPEG")
    written = write_packet(data, PACKET)
    assert written.index(b"Exif\0") < written.index(b"http://ns.adobe.com/xap/1.0/\0") < written.index(b"ICC_PROFILE")


def test_padding_is_used_before_a_jpeg_is_too_full():
    padded = PACKET + b" " * 65_000 + b'\n<?xpacket end="w"?>'
    assert read_packet(write_packet(saved("JPEG"), padded)) == PACKET + b'\n<?xpacket end="w"?>'
    with pytest.raises(NotEmbeddedError, match="a JPEG holds 65,504"):
        write_packet(saved("JPEG"), b"x" * 65_505)
    assert len(read_packet(write_packet(saved("JPEG"), b"x" * 65_504))) == 65_504
    assert read_packet(write_packet(saved("PNG"), b"x" * 65_505)) == b"x" * 65_505


def test_further_images_of_a_jpeg_keep_their_offsets():
    data = io.BytesIO()
    picture().save(data, format="MPO", save_all=True, append_images=[picture().rotate(90)])
    written = write_packet(data.getvalue(), PACKET)
    image = Image.open(io.BytesIO(written))
    image.seek(1)
    assert image.format == "MPO"
    assert np.asarray(image).shape == (24, 32, 3)
    behind = data.getvalue().replace(b"\xff\xdb", b"\xff\xe1\x00\x1fhttp://ns.adobe.com/xap/1.0/\0\xff\xdb", 1)
    assert read_packet(behind) == b""
    with pytest.raises(NotEmbeddedError, match="further images"):
        write_packet(behind, PACKET)


def test_a_packed_text_of_a_png_is_read():
    body = b"iTXtXML:com.adobe.xmp\0\x01\0\0\0" + zlib.compress(PACKET)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = saved("PNG")
    assert read_packet(data[:33] + chunk + data[33:]) == PACKET
    bomb = b"iTXtXML:com.adobe.xmp\0\x01\0\0\0" + zlib.compress(b" " * (64 << 20))
    chunk = struct.pack(">I", len(bomb) - 4) + bomb + b"\0\0\0\0"
    assert len(read_packet(data[:33] + chunk + data[33:])) <= (32 << 20) + 1


@pytest.mark.parametrize("form", ["WEBP", "TIFF"])
def test_packets_of_other_formats_are_found_and_not_written(form):
    data = io.BytesIO()
    options = {"xmp": PACKET} if form == "WEBP" else {"tiffinfo": {700: PACKET}}
    picture().save(data, format=form, **options)
    assert read_packet(data.getvalue()).decode() == '<x:xmpmeta xmlns:x="adobe:ns:meta/">é</x:xmpmeta>'
    with pytest.raises(NotEmbeddedError, match="JPEG and PNG alone"):
        write_packet(data.getvalue(), PACKET)


@pytest.mark.parametrize("size", [0, 3, 4, 7, 20, 33, 60, 200])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_file_that_breaks_off_is_no_harm(form, size):
    data = saved(form)[:size]
    assert read_packet(data) is None
    with suppress(NotEmbeddedError):
        assert read_packet(write_packet(data, PACKET)) in {PACKET, None}


def test_lengths_that_lie_end_the_search():
    assert read_packet(b"\xff\xd8\xff\xe1\x00\x00" + b"\0" * 99) is None
    assert read_packet(b"\xff\xd8\xff\xe1\xff\xff" + b"http://ns.adobe.com/xap/1.0/\0") is None
    assert read_packet(b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffiTXtXML:com.adobe.xmp\0\0\0\0\0x") is None
