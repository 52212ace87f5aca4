import io
import tarfile

import pytest

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
        (b"%PDF-1.7", "not_media"),
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
