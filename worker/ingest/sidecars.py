"""Recognises the files that systems and photo programs leave beside images, by content or else by name.

A name never makes a file an image or a video. It counts only for files that are neither, to separate noise from losses.
"""

from __future__ import annotations

import re

_BY_CONTENT: tuple[tuple[bytes, str], ...] = (
    (rb"\0\x05\x16[\0\x07]\0[\x01\x02]\0\0", "properties of a file, as macOS stores them on other disks"),
    (rb"\0\0\0\x01Bud1", "view of a folder in macOS"),
    (rb"(?:\xef\xbb\xbf)?\s*(?:<\?xpacket|(?:<\?xml[^>]*>\s*)?<x:xmpmeta)", "properties of an image (XMP)"),
    (rb".{0,2000}<key>adjustment(?:Base|Data|Editor)", "edits of an image (Apple Photos)"),
    (rb"\s*\{.{0,3000}\"photoTakenTime\"", "properties of an image (Google Photos)"),
    (rb"(?:\xef\xbb\xbf|\xff\xfe)?\s*\[\0?\.\0?S\0?h\0?e\0?l\0?l\0?C\0?l\0?a\0?s\0?s", "view of a folder in Windows"),
    (rb"\xd0\xcf\x11\xe0.*C\0a\0t\0a\0l\0o\0g\0", "thumbnails of a folder in Windows"),
)
_TABLE = tuple((re.compile(pattern, re.DOTALL), what) for pattern, what in _BY_CONTENT)

# File names in lower case.
_BY_NAME: dict[str, str] = {
    ".ds_store": "view of a folder in macOS",
    ".localized": "name of a folder in macOS",
    "icon\r": "icon of a folder in macOS",
    ".apdisk": "name of a disk in macOS",
    "thumbs.db": "thumbnails of a folder in Windows",
    "ehthumbs.db": "thumbnails of a folder in Windows",
    "ehthumbs_vista.db": "thumbnails of a folder in Windows",
    "desktop.ini": "view of a folder in Windows",
    ".directory": "view of a folder in KDE",
    ".hidden": "view of a folder in GNOME",
    ".nomedia": "mark of a folder in Android",
    ".picasa.ini": "edits of images (Picasa)",
    "picasa.ini": "edits of images (Picasa)",
}
_BY_ENDING: dict[str, str] = {
    ".xmp": "properties of an image (XMP)",
    ".aae": "edits of an image (Apple Photos)",
    ".pp3": "edits of an image (RawTherapee)",
    ".dop": "edits of an image (DxO)",
}


def sidecar(head: bytes, uri: str) -> str | None:
    """Return the description of a sidecar; None for any other file.

    Args:
        head: first bytes of a file that is neither image nor video nor archive.
        uri: its place; the last part is its name.
    """
    for pattern, what in _TABLE:
        if pattern.match(head):
            return what
    name = uri.replace("\\", "/").rsplit("/", 1)[-1].lower()
    if name in _BY_NAME:
        return _BY_NAME[name]
    return next((what for ending, what in _BY_ENDING.items() if name.endswith(ending)), None)
