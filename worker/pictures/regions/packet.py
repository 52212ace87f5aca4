"""Face regions of an XMP packet: of the Metadata Working Group (MWG-RS), or else of Microsoft (MP).

Sources: Metadata Working Group, Guidelines for Handling Image Metadata 2.0, section 5.9; Microsoft, People Tagging
(https://learn.microsoft.com/windows/win32/wic/-wic-people-tagging).
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.pictures.regions.boxes import RegionBox, exchanges_sides, to_shown
from worker.pictures.regions.xml_tree import UnreadableXmlError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.pictures.regions.xml_tree import Document, Element

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
MWG, AREA = "http://www.metadataworkinggroup.com/schemas/regions/", "http://ns.adobe.com/xmp/sType/Area#"
DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
MP, MPRI = "http://ns.microsoft.com/photo/1.2/", "http://ns.microsoft.com/photo/1.2/t/RegionInfo#"
MPREG = "http://ns.microsoft.com/photo/1.2/t/Region#"
MAX_REGIONS = 2_000  # of one image
MAX_NAME_CHARACTERS = 500
SAME_RATIO = 0.02  # difference of two ratios of sides that counts as rounding


@dataclass(frozen=True, slots=True)
class FaceRegion:
    """A face that another program marked."""

    name: str | None
    box: RegionBox
    """In the frame in which the packet states it."""
    element: Element
    """The item of its list."""


@dataclass(frozen=True, slots=True)
class RegionList:
    """The regions of one notation in a packet."""

    owner: Element
    """The property that holds them."""
    items: Element | None
    """The list, where there is one."""
    faces: tuple[FaceRegion, ...]
    applied_to: tuple[float, float] | None
    """Width and height of the image that they were drawn on, as far as they are stated."""


def read_mwg(document: Document) -> RegionList | None:
    """Return the regions of the Metadata Working Group; None where the packet has none.

    Raises:
        UnreadableXmlError: there are too many.
    """
    owner = _find(document, f"{MWG} Regions")
    if owner is None:
        return None
    applied_to = _applied_to(_child(owner, f"{MWG} AppliedToDimensions"))
    listed = _child(owner, f"{MWG} RegionList")
    faces = [_mwg_face(item, applied_to) for item in _items(listed)]
    found = tuple(face for face in faces if face is not None)
    return RegionList(owner, _bag(listed), found, applied_to)


def read_mp(document: Document) -> RegionList | None:
    """Return the regions of Microsoft; None where the packet has none.

    Raises:
        UnreadableXmlError: there are too many.
    """
    owner = _find(document, f"{MP} RegionInfo")
    if owner is None:
        return None
    listed = _child(owner, f"{MPRI} Regions")
    faces = [_mp_face(item) for item in _items(listed)]
    return RegionList(owner, _bag(listed), tuple(face for face in faces if face is not None), None)


def shown_faces(document: Document, orientation: int, shown_size: tuple[int, int]) -> list[FaceRegion]:
    """Return the faces of a packet in the frame that is shown.

    Args:
        document: the packet.
        orientation: EXIF orientation of the image.
        shown_size: its width and height, upright.

    Raises:
        UnreadableXmlError: the regions were drawn on an image of other proportions, or are too many.
    """
    mwg = read_mwg(document)
    found = mwg if mwg is not None and mwg.faces else read_mp(document)
    if found is None:
        return []
    turn = turn_of(found, orientation, shown_size)
    return [FaceRegion(face.name, to_shown(face.box, turn), face.element) for face in found.faces]


def turn_of(listed: RegionList, orientation: int, shown_size: tuple[int, int]) -> int:
    """Return the orientation that leads from the frame of regions to the frame that is shown.

    Regions apply to the stored frame. Some programs draw them on the frame that they show, which is recognised by the
    dimensions that they state, where the orientation exchanges the sides.

    Raises:
        UnreadableXmlError: the proportions are neither those of the stored nor those of the shown frame.
    """
    if listed.applied_to is None:
        return orientation
    width, height = shown_size
    shown, stated = width / height, listed.applied_to[0] / listed.applied_to[1]
    if math.isclose(stated, 1 / shown if exchanges_sides(orientation) else shown, rel_tol=SAME_RATIO):
        return orientation
    if exchanges_sides(orientation) and math.isclose(stated, shown, rel_tol=SAME_RATIO):
        return 1
    wide, high = listed.applied_to
    raise UnreadableXmlError(
        f"its regions were drawn on an image of {wide:g} x {high:g} pixels, which has other proportions than "
        f"{width} x {height}: the image was cropped since"
    )


def _applied_to(size: Element | None) -> tuple[float, float] | None:
    """Return width and height in pixels; None where they are not stated as such."""
    sides = None if size is None else _numbers(*(_value(size, f"{DIMENSIONS} {side}") for side in "wh"))
    return None if sides is None or min(sides) < 1 else (sides[0], sides[1])


def _find(document: Document, name: str) -> Element | None:
    return next((element for element in document.root.walk() if element.name == name), None)


def _mwg_face(item: Element, applied_to: tuple[float, float] | None) -> FaceRegion | None:
    area = _child(item, f"{MWG} Area")
    if area is None or (_value(item, f"{MWG} Type") or "Face").strip().lower() != "face":
        return None
    numbers = _numbers(*(_value(area, f"{AREA} {part}") for part in "xywh"))
    if numbers is None:
        return None
    x, y, width, height = numbers
    if (_value(area, f"{AREA} unit") or "normalized").strip().lower() == "pixel":
        if applied_to is None:
            return None
        x, width, y, height = x / applied_to[0], width / applied_to[0], y / applied_to[1], height / applied_to[1]
    return _face(_value(item, f"{MWG} Name"), RegionBox(x - width / 2, y - height / 2, width, height), item)


def _mp_face(item: Element) -> FaceRegion | None:
    parts = (_value(item, f"{MPREG} Rectangle") or "").split(",")
    numbers = _numbers(*parts) if len(parts) == 4 else None
    if numbers is None:
        return None
    return _face(_value(item, f"{MPREG} PersonDisplayName"), RegionBox(*numbers), item)


def _face(name: str | None, box: RegionBox, item: Element) -> FaceRegion | None:
    """Return a region that lies in its image; None for another."""
    fits = -0.5 <= box.left <= 1 and -0.5 <= box.top <= 1 and 0 < box.width <= 1.5 and 0 < box.height <= 1.5
    called = unicodedata.normalize("NFC", " ".join((name or "").split()))[:MAX_NAME_CHARACTERS]
    return FaceRegion(called or None, box, item) if fits else None


def _numbers(*written: str | None) -> tuple[float, ...] | None:
    """Return finite numbers that are not negative; None where one is missing."""
    try:
        numbers = tuple(float(one or "") for one in written)
    except ValueError:
        return None
    return numbers if all(math.isfinite(one) and one >= 0 for one in numbers) else None


def _fields(node: Element) -> Element:
    """Return the element that holds the fields of a structure: itself, or the description in it."""
    inside = [child for child in node.children if child.name == f"{RDF} Description"]
    return inside[0] if inside else node


def _value(node: Element, name: str) -> str | None:
    """Return a plain field, which is an attribute or an element."""
    for holder in (node, _fields(node)):
        if name in holder.attributes:
            return holder.attributes[name]
    child = _child(node, name)
    return None if child is None else child.text


def _child(node: Element, name: str) -> Element | None:
    return next((child for child in _fields(node).children if child.name == name), None)


def _bag(listed: Element | None) -> Element | None:
    kinds = {f"{RDF} Bag", f"{RDF} Seq"}
    return None if listed is None else next((child for child in listed.children if child.name in kinds), None)


def _items(listed: Element | None) -> Iterator[Element]:
    bag = _bag(listed)
    items = [] if bag is None else [child for child in bag.children if child.name == f"{RDF} li"]
    if len(items) > MAX_REGIONS:
        raise UnreadableXmlError(f"it has {len(items):,} regions, at most {MAX_REGIONS:,} are read")
    yield from items
