"""XML of unknown origin is read without document types, entities and files, within bounds of size, depth and time."""

from __future__ import annotations

import time

import pytest

from worker.pictures.regions.xml_tree import MAX_DEPTH, MAX_XML_BYTES, UnreadableXmlError, parse

LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><l>&b;</l>'


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (LAUGHS.encode(), "document type"),
        (LAUGHS.encode("utf-16"), "document type"),
        (b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><x/>', "document type"),
        (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>', "document type"),
        (b"<x>&e;</x>", "undefined entity"),
        (b"<x>" * (MAX_DEPTH + 1), "within each other"),
        (b"<x>" + b"<y/>" * 400_000 + b"</x>", "elements"),
        (b"", "no element"),
        (b"\xff\xfe\x00", "no UTF-8"),
        (b"<x>\xe9</x>", "no UTF-8"),
        (b"<x><y></x>", "mismatched tag"),
        (b"<x:y/>", "unbound prefix"),
        (b" " * (MAX_XML_BYTES + 1), "bytes"),
    ],
)  # fmt: skip
def test_what_is_no_xmp_is_refused(document, message):
    with pytest.raises(UnreadableXmlError, match=message):
        parse(document)


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_are_read(code):
    document = parse('<?xml version="1.0"?>\n<x a="é">写</x>\n\0\0'.encode(code))
    assert (document.root.attributes, document.root.text) == ({"a": "é"}, "写")


def test_each_element_knows_its_bytes():
    text = '<x xmlns="q"><a b="/>"/><c></c><!-- <d/> --><e>é<f/>/></e></x>'
    document = parse(text.encode())
    found = {element.name: document.data[element.start : element.end].decode() for element in document.root.walk()}
    assert found == {
        "q x": text, "q a": '<a b="/>"/>', "q c": "<c></c>", "q e": "<e>é<f/>/></e>", "q f": "<f/>",
    }  # fmt: skip
    assert [element.name for element in document.root.walk() if element.is_empty_tag] == ["q a", "q f"]


def test_text_in_many_pieces_is_read_in_linear_time():
    began = time.process_time()
    document = parse(b"<x>" + b"ab<y/>" * 200_000 + b"</x>")
    assert document.root.text == "ab" * 200_000
    assert time.process_time() - began < 10
