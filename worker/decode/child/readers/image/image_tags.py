"""Metadata of an image: EXIF, XMP and IPTC, each read as far as it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from PIL import IptcImagePlugin
from PIL.ImageFile import ImageFile

from worker.decode.child.readers.image.guarded import DECODER_ERRORS
from worker.decode.child.readers.tags import camera_name, checked_place, merge_tags, parse_time
from worker.decode.wire import MAX_KEYWORDS
from worker.types import MediaTags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.Image import Image

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
MAKE, MODEL, CHANGED, CREATOR, COPYRIGHT, DESCRIPTION, XP_TITLE = 0x10F, 0x110, 0x132, 0x13B, 0x8298, 0x10E, 0x9C9B
TAKEN, DIGITISED, ZONE_TAKEN = 0x9003, 0x9004, 0x9011
MAX_XMP_BYTES = 4 << 20

_RDF, _DC = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://purl.org/dc/elements/1.1/}"
_EXIF, _TIFF = "{http://ns.adobe.com/exif/1.0/}", "{http://ns.adobe.com/tiff/1.0/}"
_XMP, _PHOTOSHOP = "{http://ns.adobe.com/xap/1.0/}", "{http://ns.adobe.com/photoshop/1.0/}"


def read_image_tags(image: Image) -> MediaTags:
    """Return the metadata of an open image; what is damaged counts as absent."""
    return merge_tags(_tried(read, image) for read in (_exif, _xmp, _iptc))


def _tried(read: Callable[[Image], MediaTags], image: Image) -> MediaTags:
    try:
        return read(image)
    except (*DECODER_ERRORS, ET.ParseError):
        return MediaTags()


def _exif(image: Image) -> MediaTags:
    exif = image.getexif()
    details, gps = exif.get_ifd(EXIF_IFD), exif.get_ifd(GPS_IFD)
    times = (parse_time(_text(details.get(tag)), _text(details.get(ZONE_TAKEN))) for tag in (TAKEN, DIGITISED))
    taken = next((time for time in times if time), None)
    title = exif.get(XP_TITLE)
    where = _exif_place(gps)
    return MediaTags(
        taken_at=taken[0] if taken else None,
        utc_offset=taken[1] if taken else None,
        camera=camera_name(_text(exif.get(MAKE)), _text(exif.get(MODEL))),
        latitude=where[0] if where else None,
        longitude=where[1] if where else None,
        title=bytes(title).decode("utf-16-le", "replace").strip("\0 ") if isinstance(title, bytes | tuple) else None,
        description=_text(exif.get(DESCRIPTION)),
        creator=_text(exif.get(CREATOR)),
        copyright=_text(exif.get(COPYRIGHT)),
    )


def _exif_place(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    try:
        latitude = _degrees(gps[2]) * (-1 if _text(gps[1]) == "S" else 1)
        longitude = _degrees(gps[4]) * (-1 if _text(gps[3]) == "W" else 1)
    except DECODER_ERRORS:
        return None
    return checked_place(latitude, longitude)


def _degrees(parts: tuple[Any, ...]) -> float:
    return sum((float(part) / 60.0**power for power, part in enumerate(parts[:3])), 0.0)


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = _decoded(value)
    return value.strip("\0 \t\r\n") or None if isinstance(value, str) else None


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _xmp(image: Image) -> MediaTags:
    data = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    data = data.encode() if isinstance(data, str) else bytes(data)
    # A document of its own types could grow while it is parsed; XMP has none.
    if not data or len(data) > MAX_XMP_BYTES or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        return MediaTags()
    values = _xmp_values(ET.fromstring(data.strip(b"\0 \r\n\t")))  # noqa: S314 - without entities, in the confined child
    names = (f"{_EXIF}DateTimeOriginal", f"{_PHOTOSHOP}DateCreated", f"{_XMP}CreateDate")
    taken = next((time for name in names if (time := parse_time(_one(values, name)))), None)
    where = _xmp_place(_one(values, f"{_EXIF}GPSLatitude"), _one(values, f"{_EXIF}GPSLongitude"))
    return MediaTags(
        taken_at=taken[0] if taken else None,
        utc_offset=taken[1] if taken else None,
        camera=camera_name(_one(values, f"{_TIFF}Make"), _one(values, f"{_TIFF}Model")),
        latitude=where[0] if where else None,
        longitude=where[1] if where else None,
        title=_one(values, f"{_DC}title"),
        description=_one(values, f"{_DC}description"),
        creator=", ".join(values.get(f"{_DC}creator", ())) or None,
        copyright=_one(values, f"{_DC}rights"),
        keywords=tuple(values.get(f"{_DC}subject", ())[:MAX_KEYWORDS]),
    )


def _xmp_values(root: ET.Element) -> dict[str, list[str]]:
    """Return the properties of all descriptions: attributes, plain elements, and items of lists."""
    values: dict[str, list[str]] = {}
    for description in root.iter(f"{_RDF}Description"):
        for name, value in description.attrib.items():
            values.setdefault(name, [value])
        for element in description:
            items = [(item.text or "").strip() for item in element.iter(f"{_RDF}li")]
            values.setdefault(element.tag, [item for item in items or [(element.text or "").strip()] if item])
    return values


def _one(values: Mapping[str, list[str]], name: str) -> str | None:
    return next(iter(values.get(name, ())), None)


def _xmp_place(latitude: str | None, longitude: str | None) -> tuple[float, float] | None:
    """Return a place of XMP: 48,51.5N or 48,51,30N."""
    if not latitude or not longitude:
        return None
    both = []
    for written in (latitude, longitude):
        degrees = _degrees(tuple(written[:-1].split(",")))
        both.append(-degrees if written[-1] in "SW" else degrees)
    return checked_place(*both)


def _iptc(image: Image) -> MediaTags:
    found = (IptcImagePlugin.getiptcinfo(image) if isinstance(image, ImageFile) else None) or {}

    def value(number: int) -> str | None:
        return next(iter(_iptc_texts(found.get((2, number)))), None)

    taken = parse_time(" ".join(filter(None, (value(55), value(60))))) or parse_time(value(55))
    return MediaTags(
        taken_at=taken[0] if taken else None,
        utc_offset=taken[1] if taken else None,
        title=value(5) or value(105),
        description=value(120),
        creator=value(80),
        copyright=value(116),
        keywords=tuple(_iptc_texts(found.get((2, 25)))[:MAX_KEYWORDS]),
    )


def _iptc_texts(value: object) -> list[str]:
    several = value if isinstance(value, list) else [value]
    return [text for one in several if (text := _text(one))]
