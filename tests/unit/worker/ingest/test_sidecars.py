"""Files that systems leave beside images are told from images that could not be read."""

import io
import zipfile

import pytest
from PIL import Image

from worker.ingest import FoundFile, IngestOptions, RefusedFile, discover

DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        \0\2\0\0\0\t"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
SIDECARS = {
    "._a.jpg": DOUBLE,
    "resource fork of unknown name": DOUBLE,
    ".DS_Store": b"\0\0\0\1Bud1\0\0\x10\0",
    "copied store.bin": b"\0\0\0\1Bud1\0\0\x10\0",
    ".localized": b"",
    "Icon\r": b"",
    "Thumbs.db": OLE,
    "thumbs.DB": b"",
    "renamed thumbnails": OLE + "Catalog".encode("utf-16-le"),
    "ehthumbs.db": OLE,
    "desktop.ini": b"[.ShellClassInfo]\r\nIconResource=x",
    "Desktop.INI": "\ufeff[.ShellClassInfo]\r\n".encode("utf-16-le"),
    "a.jpg.xmp": b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">',
    "xmp without its ending": b'<?xml version="1.0"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">',
    "IMG_0001.AAE": b'<?xml version="1.0"?>\n<plist><dict><key>adjustmentBaseVersion</key>',
    "a.jpg.json": b'{\n  "title": "a.jpg",\n  "photoTakenTime": {"timestamp": "1"}}',
    ".nomedia": b"",
    ".picasa.ini": b"[a.jpg]\nfaces=rect64(1)",
    ".directory": b"[Desktop Entry]",
}
FAILURES = {
    "a.txt": (b"hello", "not_media"),
    "letter.doc": (OLE + "WordDocument".encode("utf-16-le"), "not_media"),
    "empty.jpg": (b"", "empty"),
    "a.json": (b'{"name": 1}', "not_media"),
    "drawing.svg": (b"<svg>", "unsupported_format"),
    "DS_Store.txt": (b"about", "not_media"),
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    for name, content in SIDECARS.items():
        (folder / name).write_bytes(content)
    for name, (content, _) in FAILURES.items():
        (folder / name).write_bytes(content)
    return folder


def codes(items):
    return {item.uri.rsplit("/", 1)[-1]: item.code if isinstance(item, RefusedFile) else "found" for item in items}


def test_sidecars_are_refused_as_what_they_are_and_nothing_else_is(folder, tmp_path):
    found = codes(discover([str(folder)], IngestOptions(), tmp_path / "staging"))
    assert found == dict.fromkeys(SIDECARS, "sidecar") | {name: code for name, (_, code) in FAILURES.items()}


def test_members_of_archives_are_told_apart_as_well(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name, content in SIDECARS.items():
            packed.writestr(f"__MACOSX/{name}", content)
    found = codes(discover([str(tmp_path / "a.zip")], IngestOptions(), tmp_path / "staging"))
    assert found == dict.fromkeys(SIDECARS, "sidecar")


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "._a.jpg", "a.xmp", "desktop.ini"])
def test_a_name_hides_no_image(tmp_path, name):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    (tmp_path / name).write_bytes(stream.getvalue())
    (item,) = discover([str(tmp_path / name)], IngestOptions(), tmp_path / "staging")
    assert isinstance(item, FoundFile)
