"""Writes face regions into an XMP packet: into its lists where it has some, and everything else stays byte for byte."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from worker.pictures.regions.boxes import exchanges_sides, match_boxes, to_shown, to_stored
from worker.pictures.regions.packet import AREA, DIMENSIONS, MP, MPREG, MPRI, MWG, RDF, read_mp, read_mwg, turn_of
from worker.pictures.regions.xml_tree import UnreadableXmlError, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.pictures.regions.boxes import RegionBox
    from worker.pictures.regions.packet import RegionList
    from worker.pictures.regions.xml_tree import Document, Element

_PACKET_ID = "W5M0MpCehiHzreSzNTczkc9d"  # the constant by which packets are recognised
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that XML cannot hold
DIGITS = 6  # of a share: a hundredth of a pixel of the largest images


@dataclass(frozen=True, slots=True)
class ShownFace:
    """A face of the archive, in the frame that is shown."""

    name: str | None
    """None for a person without a name: its region has none."""
    box: RegionBox


@dataclass(frozen=True, slots=True)
class ImageFrame:
    """How an image lies in its file."""

    width: int
    """Upright."""
    height: int
    orientation: int

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in the file."""
        return (self.height, self.width) if exchanges_sides(self.orientation) else (self.width, self.height)


@dataclass(frozen=True, slots=True)
class _Splice:
    """New bytes for a part of a document."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class _Notation:
    """One way of writing regions."""

    read: Callable[[Document], RegionList | None]
    item: Callable[[str | None, RegionBox], str]
    whole: Callable[[str, ImageFrame], str]
    """Returns the property around a list."""


def new_packet(faces: Sequence[ShownFace], frame: ImageFrame, *, is_sidecar: bool = True) -> bytes:
    """Return a packet of its own; that of a sidecar has the orientation, by which its readers turn the regions."""
    orientation = f"<tiff:Orientation>{frame.orientation}</tiff:Orientation>" if is_sidecar else ""
    empty = (
        f'<?xpacket begin="\ufeff" id="{_PACKET_ID}"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Facet">\n'
        f' <rdf:RDF xmlns:rdf="{RDF}">\n  <rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/">'
        f'{orientation}</rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>\n'
    )
    return edit_packet(empty.encode(), faces, frame)


def edit_packet(raw: bytes, faces: Sequence[ShownFace], frame: ImageFrame) -> bytes:
    """Return a packet with the faces of the archive, in both notations.

    A region that is there already and is of one of the faces is kept, unless the archive has another name for the face.
    All other regions are kept.

    Raises:
        UnreadableXmlError: it is no XMP, or its regions were drawn on another image.
    """
    document = parse(raw)
    rdf = next((element for element in document.root.walk() if element.name == f"{RDF} RDF"), None)
    if rdf is None or rdf.is_empty_tag:
        raise UnreadableXmlError("it has no RDF description, which XMP consists of")
    about = next((one.attributes.get(f"{RDF} about", "") for one in rdf.children), "")
    splices, added = list[_Splice](), list[str]()
    for notation in _NOTATIONS:
        listed = notation.read(document)
        if listed is None:
            items = (notation.item(face.name, to_stored(face.box, frame.orientation)) for face in faces)
            added.append(notation.whole("".join(items), frame))
        else:
            splices += _into_list(notation, listed, faces, frame)
    if added:
        text = f"<rdf:Description xmlns:rdf={quoteattr(RDF)} rdf:about={quoteattr(about)}>{''.join(added)}"
        splices.append(_Splice(rdf.inner_end, rdf.inner_end, f"{text}</rdf:Description>\n"))
    return _spliced(document.data, splices)


def _spliced(data: bytes, splices: Sequence[_Splice]) -> bytes:
    for one in sorted(splices, key=lambda one: one.start, reverse=True):
        data = data[: one.start] + one.text.encode() + data[one.end :]
    return data


def _into_list(notation: _Notation, listed: RegionList, faces: Sequence[ShownFace], frame: ImageFrame) -> list[_Splice]:
    turn = turn_of(listed, frame.orientation, (frame.width, frame.height))
    places = [to_shown(region.box, turn) for region in listed.faces]
    there = {face: listed.faces[region] for region, face in match_boxes(places, [one.box for one in faces]).items()}
    changed = [place for place, face in enumerate(faces) if place not in there or _renames(face, there[place].name)]
    new = [notation.item(faces[place].name, to_stored(faces[place].box, turn)) for place in changed]
    if not new:
        return []
    if listed.items is None or listed.items.is_empty_tag:
        return [_whole(notation, listed.owner, "".join(new), frame)]
    gone = [there[place].element for place in changed if place in there]
    removed = [_Splice(element.start, element.end, "") for element in gone]
    return [*removed, _Splice(listed.items.inner_end, listed.items.inner_end, "".join(new))]


def _renames(face: ShownFace, present: str | None) -> bool:
    return face.name is not None and face.name != present


def _whole(notation: _Notation, owner: Element, items: str, frame: ImageFrame) -> _Splice:
    return _Splice(owner.start, owner.end, notation.whole(items, frame))


def _mwg_item(name: str | None, box: RegionBox) -> str:
    called = f"<mwg-rs:Name>{_text(name)}</mwg-rs:Name>" if name else ""
    x, y = box.left + box.width / 2, box.top + box.height / 2
    area = "".join(
        f" stArea:{part}={quoteattr(value)}"
        for part, value in (("x", _share(x)), ("y", _share(y)), ("w", _share(box.width)), ("h", _share(box.height)))
    )
    return (
        f"<rdf:li xmlns:rdf={quoteattr(RDF)} xmlns:mwg-rs={quoteattr(MWG)} xmlns:stArea={quoteattr(AREA)}"
        f' rdf:parseType="Resource">{called}<mwg-rs:Type>Face</mwg-rs:Type>'
        f'<mwg-rs:Area{area} stArea:unit="normalized"/></rdf:li>'
    )


def _mwg_whole(items: str, frame: ImageFrame) -> str:
    width, height = frame.stored_size
    return (
        f"<mwg-rs:Regions xmlns:rdf={quoteattr(RDF)} xmlns:mwg-rs={quoteattr(MWG)} xmlns:stDim={quoteattr(DIMENSIONS)}"
        f' rdf:parseType="Resource"><mwg-rs:AppliedToDimensions stDim:w="{width}" stDim:h="{height}"'
        f' stDim:unit="pixel"/><mwg-rs:RegionList><rdf:Bag>{items}</rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>'
    )


def _mp_item(name: str | None, box: RegionBox) -> str:
    called = f"<MPReg:PersonDisplayName>{_text(name)}</MPReg:PersonDisplayName>" if name else ""
    place = ", ".join(map(_share, (box.left, box.top, box.width, box.height)))
    return (
        f'<rdf:li xmlns:rdf={quoteattr(RDF)} xmlns:MPReg={quoteattr(MPREG)} rdf:parseType="Resource">'
        f"<MPReg:Rectangle>{place}</MPReg:Rectangle>{called}</rdf:li>"
    )


def _mp_whole(items: str, _frame: ImageFrame) -> str:
    return (
        f"<MP:RegionInfo xmlns:rdf={quoteattr(RDF)} xmlns:MP={quoteattr(MP)} xmlns:MPRI={quoteattr(MPRI)}"
        f' rdf:parseType="Resource"><MPRI:Regions><rdf:Bag>{items}</rdf:Bag></MPRI:Regions></MP:RegionInfo>'
    )


def _text(name: str) -> str:
    return escape(_NO_XML.sub("\ufffd", name))


def _share(value: float) -> str:
    return f"{min(max(value, 0.0), 1.0):.{DIGITS}f}"


_NOTATIONS = (_Notation(read_mwg, _mwg_item, _mwg_whole), _Notation(read_mp, _mp_item, _mp_whole))
