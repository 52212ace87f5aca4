"""Writes appearances as an annotation document of ELAN (EAF 3.0): a tier for each person.

Source: the format of https://www.mpi.nl/tools/elan/EAF_Annotation_Format_3.0_and_ELAN.pdf.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

if TYPE_CHECKING:
    from worker.pictures.exports.segments import MediaSegments, Segment

SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_TYPE = "appearance"
# ELAN plays nothing without the kind of its media.
MIME_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".mpg": "video/mpeg"}
EPOCH = "1970-01-01T00:00:00+00:00"  # the same appearances are the same bytes


def write_eaf(file: MediaSegments) -> str:
    """Return an EAF document; appearances of one person that overlap get a second tier."""
    document = Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "Facet", "DATE": EPOCH, "FORMAT": "3.0", "VERSION": "3.0",
            "xmlns:xsi": _XSI, "xsi:noNamespaceSchemaLocation": SCHEMA,
        },
    )  # fmt: skip
    header = SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    suffix = PurePath(file.uri).suffix.lower()
    kind = MIME_TYPES.get(suffix, "unknown")
    SubElement(header, "MEDIA_DESCRIPTOR", {"MEDIA_URL": _url(file.uri), "MIME_TYPE": kind})
    times = SubElement(document, "TIME_ORDER")
    spans = [(round(s.start_seconds * 1000), round(s.end_seconds * 1000)) for s in file.segments]
    slots = {at: f"ts{number}" for number, at in enumerate(sorted({at for span in spans for at in span}), 1)}
    for at, slot in slots.items():
        SubElement(times, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(at)})
    for name, segments in _tiers(file.segments).items():
        tier = SubElement(document, "TIER", {"LINGUISTIC_TYPE_REF": _TYPE, "TIER_ID": name})
        for segment in segments:
            _annotation(tier, segment, slots)
    SubElement(
        document,
        "LINGUISTIC_TYPE",
        {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": _TYPE, "TIME_ALIGNABLE": "true"},
    )
    indent(document)
    return tostring(document, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _annotation(tier: Element, segment: Segment, slots: dict[int, str]) -> None:
    whole = SubElement(SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION")
    whole.set("ANNOTATION_ID", f"a{segment.appearance_id}")
    whole.set("TIME_SLOT_REF1", slots[round(segment.start_seconds * 1000)])
    whole.set("TIME_SLOT_REF2", slots[round(segment.end_seconds * 1000)])
    SubElement(whole, "ANNOTATION_VALUE").text = segment.text


def _tiers(segments: tuple[Segment, ...]) -> dict[str, list[Segment]]:
    """Return the appearances of each tier: annotations of one tier do not overlap."""
    tiers: dict[str, list[Segment]] = {}
    names: dict[tuple[int | None, int], str] = {}
    for segment in segments:
        for number in range(1, len(segments) + 1):
            key = segment.person_id, number
            if key not in names:
                names[key] = _free_name(segment.label, tiers)
                tiers[names[key]] = []
            tier = tiers[names[key]]
            if not tier or round(tier[-1].end_seconds * 1000) <= round(segment.start_seconds * 1000):
                tier.append(segment)
                break
    return tiers


def _free_name(label: str, taken: dict[str, list[Segment]]) -> str:
    """Return a tier's name that no other tier has: two people may have one name."""
    numbered = (label if number == 1 else f"{label} ({number})" for number in range(1, len(taken) + 2))
    return next(name for name in numbered if name not in taken)


def _url(uri: str) -> str:
    """Return the address of the media; a path becomes a file URL."""
    return uri if "://" in uri else f"file://{quote(uri, errors='surrogateescape')}"
