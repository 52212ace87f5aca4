"""Metadata of files, read in the decode child: EXIF, XMP, IPTC, and the tags of containers."""

from __future__ import annotations

import struct

import av
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from worker.decode.client import Decoder
from worker.types import DecodeLimits, MediaTags

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
  xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
  photoshop:DateCreated="2001-02-03T04:05:06+01:00" tiff:Model="Leica M6" exif:GPSLatitude="48,51.5N"
  exif:GPSLongitude="2,17,42W">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Parade \xc3\xa9t\xc3\xa9</rdf:li></rdf:Alt></dc:title>
<dc:creator><rdf:Seq><rdf:li>Ada</rdf:li><rdf:li>Bo</rdf:li></rdf:Seq></dc:creator>
<dc:subject><rdf:Bag><rdf:li>street</rdf:li><rdf:li>1968</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.fixture(scope="module")
def decoder():
    with Decoder(DecodeLimits()) as decoder:
        yield decoder


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8))


def exif():
    data = Image.Exif()
    data[0x010F], data[0x0110], data[0x010E], data[0x8298] = "Canon", "Canon EOS 5D", "A street\0", "(c) Eve"
    data[0x9C9B] = "Fête".encode("utf-16-le") + b"\0\0"
    data.get_ifd(EXIF_IFD).update({0x9003: "2019:07:01 12:30:05", 0x9011: "+02:00"})
    data.get_ifd(GPS_IFD).update({1: "S", 2: (33.0, 51.0, 24.48), 3: "E", 4: (151.0, 12.0, 55.08)})
    return data


def iptc(records):
    """Return the segment of a JPEG in which photo agencies write captions."""
    data = b"".join(b"\x1c" + struct.pack(">BBH", 2, number, len(value)) + value for number, value in records)
    resource = (
        b"8BIM" + struct.pack(">H", 0x0404) + b"\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
    )
    body = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.heic"])
def test_exif_of_each_format_is_read(decoder, image, tmp_path, name):
    from pillow_heif import register_heif_opener

    register_heif_opener()
    if name == "a.tif":  # Pillow writes the directories of a TIFF file from plain values alone
        data, written = exif(), TiffImagePlugin.ImageFileDirectory_v2()
        written.update(dict(data))
        written[EXIF_IFD], written[GPS_IFD] = dict(data.get_ifd(EXIF_IFD)), dict(data.get_ifd(GPS_IFD))
        image.save(tmp_path / name, tiffinfo=written)
    else:
        image.save(tmp_path / name, exif=exif())
    tags = decoder.probe(str(tmp_path / name), "image").tags
    assert (tags.latitude, tags.longitude) == (pytest.approx(-33.8568), pytest.approx(151.2153))
    assert (tags.taken_at, tags.utc_offset, tags.camera) == ("2019-07-01T12:30:05", "+02:00", "Canon EOS 5D")
    assert (tags.title, tags.description, tags.copyright) == ("Fête", "A street", "(c) Eve")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_xmp_of_each_format_is_read(decoder, image, tmp_path, name):
    if name == "a.png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        image.save(tmp_path / name, pnginfo=info)
    elif name == "a.tif":
        image.save(tmp_path / name, tiffinfo={700: XMP})
    else:
        image.save(tmp_path / name, xmp=XMP)
    tags = decoder.probe(str(tmp_path / name), "image").tags
    assert (tags.latitude, tags.longitude) == (pytest.approx(48.858333), pytest.approx(-2.295))
    assert (tags.taken_at, tags.utc_offset, tags.camera) == ("2001-02-03T04:05:06", "+01:00", "Leica M6")
    assert (tags.title, tags.creator, tags.keywords) == ("Parade été", "Ada, Bo", ("street", "1968"))


def test_iptc_is_read(decoder, image, tmp_path):
    path = tmp_path / "a.jpg"
    image.save(path)
    data = path.read_bytes()
    records = [(5, b"Parade"), (25, b"street"), (25, b"1968"), (55, b"19680503"), (60, b"141500+0100")]
    records += [(80, b"Ren\xe9"), (120, "Fête".encode())]
    path.write_bytes(data[:2] + iptc(records) + data[2:])
    tags = decoder.probe(str(path), "image").tags
    assert tags == MediaTags(
        taken_at="1968-05-03T14:15:00", utc_offset="+01:00", title="Parade", description="Fête", creator="René",
        keywords=("street", "1968"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "xmp",
    [
        b"<x",
        b"",
        b'<!DOCTYPE a [<!ENTITY b "cccc">]><a>&b;</a>',
        XMP.replace(b"48,51.5N", b"north").replace(b"2001", b"20x1"),
    ],
    ids=["damaged", "empty", "entities", "strange values"],
)
def test_damaged_metadata_refuse_no_file(decoder, image, tmp_path, xmp):
    image.save(tmp_path / "a.jpg", xmp=xmp, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff damaged")
    tags = decoder.probe(str(tmp_path / "a.jpg"), "image").tags
    assert (tags.taken_at, tags.latitude) == (None, None)


def test_text_is_short_and_on_one_line(decoder, image, tmp_path):
    data = Image.Exif()
    data[0x010E] = "long \x1b[2J\n" + "x" * 2_000_000
    image.save(tmp_path / "a.tif", exif=data)
    description = decoder.probe(str(tmp_path / "a.tif"), "image").tags.description
    assert (len(description), description.isprintable()) == (500, True)


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        (
            "a.mp4",
            {"title": "Wedding", "artist": "Eve", "comment": "A hall", "creation_time": "2021-06-01T10:00:00.000000Z",
             "location": "+48.8577+002.2950/"},
            MediaTags(taken_at="2021-06-01T10:00:00", utc_offset="+00:00", title="Wedding", creator="Eve",
                      description="A hall", latitude=48.8577, longitude=2.295),
        ),
        (
            "a.mov",
            {"com.apple.quicktime.creationdate": "2021-06-01T12:00:00+0200", "com.apple.quicktime.make": "Apple",
             "com.apple.quicktime.model": "iPhone 12", "com.apple.quicktime.location.ISO6709": "-33.8568+151.2153/",
             "creation_time": "2021-06-01T10:00:00.000000Z", "com.apple.quicktime.keywords": "hall, dance"},
            MediaTags(taken_at="2021-06-01T12:00:00", utc_offset="+02:00", camera="Apple iPhone 12", latitude=-33.8568,
                      longitude=151.2153, keywords=("hall", "dance")),
        ),
        (
            "a.mkv",
            {"title": "Parade", "DATE_RECORDED": "1968-05-03", "COPYRIGHT": "Archive"},
            MediaTags(taken_at="1968-05-03T00:00:00", title="Parade", copyright="Archive"),
        ),
        ("b.mp4", {"creation_time": "1904-01-01T00:00:00.000000Z"}, MediaTags()),
    ],
    ids=["mp4", "mov", "mkv", "an unset clock"],
)  # fmt: skip
def test_the_tags_of_containers_are_read(decoder, tmp_path, name, written, expected):
    path = tmp_path / name
    options = {"movflags": "use_metadata_tags"} if name == "a.mov" else {}
    with av.open(str(path), "w", options=options) as container:
        container.metadata.update(written)
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert decoder.probe(str(path), "video").tags == expected
