import io
import struct
import tarfile

import pytest
from PIL import Image

from worker.ingest.sniff import Archive, Media, Other, sniff


def ftyp(major, *compatible):
    body = major + b"\0\0\0\0" + b"".join(compatible)
    return (8 + len(body)).to_bytes(4) + b"ftyp" + body + b"\0" * 40


OLD_TAR = tarfile.TarInfo("a.jpg").tobuf(tarfile.USTAR_FORMAT)
OLD_TAR = OLD_TAR[:257] + b"\0" * 8 + OLD_TAR[265:]
OLD_TAR = OLD_TAR[:148] + b"%06o\0 " % (sum(OLD_TAR[:148]) + 256 + sum(OLD_TAR[156:])) + OLD_TAR[156:]

MEDIA = [
    (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image", "png"),
    (b"GIF89a", "image", "gif"),
    (b"RIFF\x10\0\0\0WEBPVP8 ", "image", "webp"),
    (b"BM" + b"\x10\0\0\0" * 3 + b"\x28\0\0\0", "image", "bmp"),
    (b"II*\0\x08\0\0\0", "image", "tiff"),
    (b"MM\0*\0\0\0\x08", "image", "tiff"),
    (b"II*\0\x90\1\0\0" + b"I" * 392, "image", "tiff"),  # pixels of one brightness
    (b"II*\0\x90\1\0\0" + b"CR" * 196, "image", "tiff"),
    (b"8BPS\0\x01", "image", "psd"),
    (b"\0\0\x01\0\x01\0\x10\x10", "image", "ico"),
    (b"P6\n# a comment\n12 7\n255\n", "image", "ppm"),
    (ftyp(b"heic", b"mif1"), "image", "heic"),
    (ftyp(b"mif1", b"heic"), "image", "heic"),
    (ftyp(b"mif1", b"avif"), "image", "avif"),
    (ftyp(b"avif"), "image", "avif"),
    (ftyp(b"isom", b"mp42"), "video", "mp4"),
    (ftyp(b"M4V "), "video", "mp4"),
    (ftyp(b"3gp4"), "video", "mp4"),
    (ftyp(b"qt  "), "video", "mov"),
    (b"\0\0\0\x08wide\0\0\0\0mdat", "video", "mov"),
    (b"\x12\x34\x56\x78mdat", "video", "mov"),
    (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "video", "webm"),
    (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", "video", "matroska"),
    (b"RIFF\x10\0\0\0AVI LIST", "video", "avi"),
    (b"\0\0\x01\xba\x44", "video", "mpeg"),
    (b"".join(b"G" + bytes(187) for _ in range(4)), "video", "mpegts"),
    (b"".join(bytes(4) + b"G" + bytes(187) for _ in range(4)), "video", "mpegts"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "video", "asf"),
    (b"FLV\x01\x05", "video", "flv"),
    (b"OggS\0\x02", "video", "ogg"),
]


@pytest.mark.parametrize(("head", "kind", "name"), MEDIA)
def test_media(head, kind, name):
    sort = sniff(head)
    assert isinstance(sort, Media)
    assert (sort.kind, sort.format) == (kind, name)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"PK\x03\x04" + bytes(26) + b"a.jpg", "zip"),
        (b"PK\x05\x06" + bytes(18), "zip"),
        (bytes(257) + b"ustar\x0000", "tar"),
        (OLD_TAR, "tar"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
    ],
)
def test_archives(head, name):
    assert sniff(head) == Archive(name)


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"", "empty"),
        (b"\0", "not_media"),
        (b"Some text about P6 and BM and GIF", "not_media"),
        (b"The free encyclopedia", "not_media"),
        (b"P1 is a word here", "not_media"),
        (b"BMW is a car maker from Munich, Germany", "not_media"),
        (b"ID3\x04", "not_media"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not_media"),
        (b"%PDF-1.7", "unsupported_format"),
        (b"\x7fELF", "not_media"),
        (bytes(4096), "not_media"),
        (b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml", "not_media"),
        (b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/epub+zip", "not_media"),
        (b"7z\xbc\xaf\x27\x1c", "unsupported_archive"),
        (b"Rar!\x1a\x07\x01\0", "unsupported_archive"),
        (ftyp(b"crx "), "unsupported_format"),
        (b"II*\0\x10\0\0\0CR\x02\0", "unsupported_format"),
    ],
)
def test_the_rest(head, code):
    sort = sniff(head)
    assert isinstance(sort, Other)
    assert sort.code == code


def test_a_tar_of_today_is_known():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"), io.BytesIO())
    assert sniff(out.getvalue()) == Archive("tar")


def saved(name, mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, (32, 32), 90).save(stream, name)
    return stream.getvalue()[:4096]


def targa(kind, bits, palette=0):
    return (
        struct.pack("<BBBHHBHHHHBB", 0, palette, kind, 0, 256 * palette, 24 * palette, 0, 0, 53, 41, bits, 0)
        + b"\7" * 90
    )


UNREAD = {
    "JPEG XL, bare": b"\xff\x0a\xfa\x7f\x01",
    "JPEG XL, in boxes": b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ",
    "JPEG-LS": b"\xff\xd8\xff\xf7\0\x0b\x08",
    "JPEG XR": b"II\xbc\x01\x20\0\0\0",
    "BPG": b"BPG\xfb\x20",
    "FLIF": b"FLIF41",
    "DjVu": b"AT&TFORM\0\0\1\0DJVU",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "EPS for DOS": b"\xc5\xd0\xd3\xc6\x20\0\0\0",
    "PDF": b"%PDF-1.7\n",
    "PDF behind a line": b"\xef\xbb\xbf\n%PDF-1.4\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'>",
    "SVG behind its declaration": b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg width="3">',
    "SVG with its type": b'<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd">\n<svg>',
    "XCF": b"gimp xcf v011\0",
    "DICOM": bytes(128) + b"DICM",
    "FITS": b"SIMPLE  =                    T",
    "OpenEXR": b"\x76\x2f\x31\x01\2\0\0\0",
    "Radiance": b"#?RADIANCE\n",
    "DPX": b"SDPX\0\0\x20\0",
    "PFM": b"PF\n53 41\n-1.0\n",
    "PAM": b"P7\nWIDTH 53\nHEIGHT 41\n",
    "DDS": saved("DDS"),
    "WMF": b"\xd7\xcd\xc6\x9a\0\0",
    "EMF": b"\1\0\0\0\x6c\0\0\0" + bytes(32) + b" EMF",
    "cursor": b"\0\0\2\0\1\0\x20\x20",
    "XPM": b"/* XPM */\nstatic char",
    "XBM": b"#define im_width 53\n",
    "Targa": targa(2, 24),
    "Targa, packed": targa(10, 32),
    "Targa, grey": targa(3, 8),
    "Targa, palette": targa(1, 8, palette=1),
    "Targa of Pillow": saved("TGA"),
    "ORF": b"IIRO\x08\0\0\0",
    "ORF, older": b"IIRS\x08\0\0\0",
    "ORF, big-endian": b"MMOR\0\0\0\x08",
    "RW2": b"IIU\0\x18\0\0\0",
    "RAF": b"FUJIFILMCCD-RAW 0201FF393101",
    "X3F": b"FOVb\0\0\2\0",
    "MRW": b"\0MRM\0\0\0\0",
    "CRW": b"II\x1a\0\0\0HEAPCCDR",
    "CR2": b"II*\0\x10\0\0\0CR\2\0",
    "DCX": b"\xb1\x68\xde\x3a\0\x10\0\0",
    "HEIF of H.264": ftyp(b"avci", b"mif1"),
    "CR3": ftyp(b"crx ", b"isom"),
    "IIQ": b"II*\0\x10\0\0\0IIII\1waR",
    "IIQ, big-endian": b"MM\0*\0\0\0\x10MMMMRaw\1",
}


@pytest.mark.parametrize("name", UNREAD)
def test_known_formats_that_are_not_read_are_named(name):
    sort = sniff(UNREAD[name])
    assert isinstance(sort, Other)
    assert sort.code == "unsupported_format"
    assert sort.message.endswith(" first")


@pytest.mark.parametrize(
    ("name", "pillow_name", "mode"),
    [("pcx", "PCX", "RGB"), ("pcx", "PCX", "L"), ("sgi", "SGI", "RGB"), ("qoi", "QOI", "RGB"), ("icns", "ICNS", "RGB")],
)
def test_old_formats_with_a_signature_are_read(tmp_path, name, pillow_name, mode):
    picture = Image.linear_gradient("L").resize((128, 128)).convert(mode)
    (tmp_path / "a").write_bytes(b"")
    picture.save(tmp_path / "a", pillow_name)
    sort = sniff((tmp_path / "a").read_bytes()[:4096])
    assert isinstance(sort, Media)
    assert (sort.kind, sort.format) == ("image", name)


@pytest.mark.parametrize(
    "text",
    [b"<html><body><svg>", b"<?xml version='1.0'?><plist>", b"SIMPLE words", b"Pf is a letter", b"FORM of a letter",
     b"\x0a\x05 a text", b"#define A 1\n", b"MM", b"II", b"\0" * 200],
)  # fmt: skip
def test_what_only_resembles_a_format_is_none(text):
    sort = sniff(text)
    assert isinstance(sort, Other)
    assert sort.code == "not_media"
