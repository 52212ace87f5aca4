"""Reads XML of unknown origin: no document type, no entities of its own, no other files, bounded in every direction.

Each element keeps its place in the bytes, so that a document is changed at single places and stays as it is elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.parsers import expat

from worker.errors import FacetError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_XML_BYTES = 32 << 20  # sidecars of edited raw images have several megabytes of masks
MAX_DEPTH = 100
MAX_ELEMENTS = 300_000  # some 200 MB of elements
_SIGNS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class UnreadableXmlError(FacetError):
    """A document that is no XML, or not of the kind that is read."""


@dataclass(slots=True, eq=False)
class Element:
    """An element: names are a namespace, a blank and a local name."""

    name: str
    attributes: dict[str, str]
    start: int
    """Place of its first byte."""
    inner_end: int = 0
    """Place behind its content: of its end tag, or of the end of an empty element."""
    end: int = 0
    """Place behind its last byte."""
    parts: list[str] = field(default_factory=list)
    """Its text, in pieces."""
    children: list[Element] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Text directly in it."""
        return "".join(self.parts)

    @property
    def is_empty_tag(self) -> bool:
        """Whether it is one tag, ``<name/>``."""
        return self.inner_end == self.end

    def walk(self) -> Iterator[Element]:
        """Yield it and all elements in it."""
        waiting = [self]
        while waiting:
            one = waiting.pop()
            yield one
            waiting += reversed(one.children)


@dataclass(frozen=True, slots=True)
class Document:
    """A document as UTF-8, with its elements."""

    data: bytes
    root: Element


def parse(raw: bytes) -> Document:
    """Parse a document.

    Raises:
        UnreadableXmlError: it is damaged, too large, or has a document type.
    """
    if len(raw) > MAX_XML_BYTES:
        raise UnreadableXmlError(f"it has {len(raw):,} bytes, at most {MAX_XML_BYTES:,} are read")
    data = _as_utf8(raw)
    reader = _Reader(data)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as err:
        raise UnreadableXmlError(f"it is no well-formed XML: {err}") from err
    if reader.root is None:
        raise UnreadableXmlError("it has no element")
    return Document(data, reader.root)


def _as_utf8(raw: bytes) -> bytes:
    code = next((code for sign, code in _SIGNS if raw.startswith(sign)), "utf-8")
    try:
        return raw.decode(code).strip("\0 \t\r\n\ufeff").encode()
    except UnicodeDecodeError as err:
        raise UnreadableXmlError("it holds bytes that are no UTF-8") from err


class _Reader:
    """Builds the elements while expat reads."""

    def __init__(self, data: bytes) -> None:
        self.root: Element | None = None
        self._data = data
        self._open: list[Element] = []
        self._count = 0
        self.parser = expat.ParserCreate("utf-8", " ")
        self.parser.buffer_text = True
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text

    def _refuse(self, *_declaration: object) -> None:
        raise UnreadableXmlError("it has a document type, which XMP has not")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._open) >= MAX_DEPTH:
            raise UnreadableXmlError(f"it has more than {MAX_ELEMENTS:,} elements, or {MAX_DEPTH} within each other")
        element = Element(name, attributes, self.parser.CurrentByteIndex)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _text(self, text: str) -> None:
        self._open[-1].parts.append(text)

    def _end(self, _name: str) -> None:
        element, place = self._open.pop(), self.parser.CurrentByteIndex
        element.inner_end = place
        # The end of <name/> is reported behind it, that of <name></name> before its end tag.
        is_empty = not element.children and not element.parts and self._data[element.start : place].endswith(b"/>")
        element.end = place if is_empty else self._data.index(b">", place) + 1
