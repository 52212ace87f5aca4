"""Regions of digiKam, Lightroom and Windows are read, in the frame that they are stated in."""

from __future__ import annotations

import pytest

from tests.unit.worker.pictures.regions.packets import DIGIKAM, LIGHTROOM, MWG, RDF, WINDOWS
from worker.pictures.regions.boxes import to_stored
from worker.pictures.regions.packet import MAX_REGIONS, read_mp, read_mwg, shown_faces
from worker.pictures.regions.xml_tree import UnreadableXmlError, parse


def edges(box):
    return [round(value, 6) for value in (box.left, box.top, box.width, box.height)]


def faces(text, orientation=1, size=(4000, 3000)):
    found = shown_faces(parse(text.encode()), orientation, size)
    return [(face.name, edges(face.box)) for face in found]


def described(fields, attributes='stArea:x="0.3" stArea:y="0.4" stArea:w="0.1" stArea:h="0.2"', size=""):
    """Return a packet with one region."""
    return (
        f'<rdf:RDF {RDF}><rdf:Description {MWG}><mwg-rs:Regions rdf:parseType="Resource">{size}<mwg-rs:RegionList>'
        f'<rdf:Bag><rdf:li rdf:parseType="Resource"><mwg-rs:Area {attributes}/>{fields}</rdf:li></rdf:Bag>'
        "</mwg-rs:RegionList></mwg-rs:Regions></rdf:Description></rdf:RDF>"
    )


def test_regions_of_digikam_are_read_and_pets_are_none():
    assert faces(DIGIKAM) == [("Søren Kierkegård", [0.25, 0.3, 0.1, 0.2])]


def test_regions_of_lightroom_are_read_with_and_without_a_name():
    assert faces(LIGHTROOM, size=(3000, 4000)) == [
        ("محمد علي", [0.25, 0.3, 0.1, 0.2]), (None, [0.65, 0.55, 0.1, 0.1]),
    ]  # fmt: skip


def test_regions_of_windows_are_read_whatever_their_prefixes():
    assert faces(WINDOWS) == [("王小明", [0.25, 0.3, 0.1, 0.2])]
    assert read_mwg(parse(WINDOWS.encode())) is None
    assert edges(read_mp(parse(DIGIKAM.encode())).faces[0].box) == [0.25, 0.3, 0.1, 0.2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_apply_to_the_stored_image(orientation):
    """A camera stores 4000 x 3000 pixels whatever the orientation, and so do the dimensions that digiKam writes."""
    size = (3000, 4000) if orientation > 4 else (4000, 3000)
    (face,) = shown_faces(parse(DIGIKAM.encode()), orientation, size)
    assert edges(to_stored(face.box, orientation)) == [0.25, 0.3, 0.1, 0.2]
    assert (edges(face.box) == [0.25, 0.3, 0.1, 0.2]) == (orientation == 1)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_regions_drawn_on_the_shown_image_are_recognised_by_their_dimensions(orientation):
    assert faces(DIGIKAM, orientation, (4000, 3000)) == [("Søren Kierkegård", [0.25, 0.3, 0.1, 0.2])]


def test_regions_of_an_image_that_was_cropped_since_are_refused():
    with pytest.raises(UnreadableXmlError, match="4000 x 3000 pixels, which has other proportions than 4000 x 2000"):
        faces(DIGIKAM, 1, (4000, 2000))
    with pytest.raises(UnreadableXmlError, match="cropped"):
        faces(DIGIKAM, 3, (3000, 4000))


def test_regions_in_pixels_need_dimensions():
    area = 'stArea:x="1200" stArea:y="1200" stArea:w="400" stArea:h="600" stArea:unit="pixel"'
    size = '<mwg-rs:AppliedToDimensions stDim:w="4000" stDim:h="3000" stDim:unit="pixel"/>'
    assert faces(described("<mwg-rs:Name>A</mwg-rs:Name>", area, size)) == [("A", [0.25, 0.3, 0.1, 0.2])]
    assert faces(described("<mwg-rs:Name>A</mwg-rs:Name>", area)) == []


@pytest.mark.parametrize(
    "attributes",
    [
        'stArea:x="0.3" stArea:y="0.4" stArea:w="0.1"',
        'stArea:x="nan" stArea:y="0.4" stArea:w="0.1" stArea:h="0.2"',
        'stArea:x="0.3" stArea:y="-1" stArea:w="0.1" stArea:h="0.2"',
        'stArea:x="1e308" stArea:y="0.4" stArea:w="0.1" stArea:h="0.2"',
        'stArea:x="0.3" stArea:y="0.4" stArea:w="0" stArea:h="0.2"',
        'stArea:x="0,3" stArea:y="0.4" stArea:w="0.1" stArea:h="0.2"',
        'stArea:x="0.3" stArea:y="0.4" stArea:d="0.2"',
    ],
)
def test_places_that_are_none_are_left_out(attributes):
    assert faces(described("<mwg-rs:Name>A</mwg-rs:Name>", attributes)) == []


@pytest.mark.parametrize("side", ["0", "-4", "inf", "x"])
def test_dimensions_that_are_none_do_not_count(side):
    size = f'<mwg-rs:AppliedToDimensions stDim:w="{side}" stDim:h="3000"/>'
    assert faces(described("<mwg-rs:Name>A</mwg-rs:Name>", size=size)) == [("A", [0.25, 0.3, 0.1, 0.2])]


def test_names_are_one_line_in_one_form():
    name = "  Andre\u0301\n  Breton  "
    assert faces(described(f"<mwg-rs:Name>{name}</mwg-rs:Name>"))[0][0] == "Andr\u00e9 Breton"
    assert len(faces(described(f"<mwg-rs:Name>{'x' * 9000}</mwg-rs:Name>"))[0][0]) == 500


def test_too_many_regions_are_refused():
    item = "<rdf:li/>" * (MAX_REGIONS + 1)
    text = described("").replace("<rdf:Bag>", f"<rdf:Bag>{item}")
    with pytest.raises(UnreadableXmlError, match="2,002 regions"):
        faces(text)


def test_a_packet_without_regions_has_no_face():
    assert faces(f"<rdf:RDF {RDF}><rdf:Description/></rdf:RDF>") == []
