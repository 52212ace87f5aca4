"""Regions go into the lists of a packet, and every other byte of it stays."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from tests.unit.worker.pictures.regions.packets import DIGIKAM, LIGHTROOM, RDF, WINDOWS
from worker.pictures.regions.boxes import RegionBox
from worker.pictures.regions.editing import ImageFrame, ShownFace, edit_packet, new_packet
from worker.pictures.regions.packet import read_mp, read_mwg, shown_faces
from worker.pictures.regions.xml_tree import UnreadableXmlError, parse

LANDSCAPE = ImageFrame(4000, 3000, 1)
KIERKEGAARD = RegionBox(0.26, 0.31, 0.09, 0.18)  # where the regions of digiKam and Windows have their face
NAMES = ["Ada", "Søren Kierkegård", "محمد علي", "王小明", "<b>\"&'</b>]]>", "a\ufffeb", "{x}", "👩‍🚀"]


def edges(box):
    return [round(value, 5) for value in (box.left, box.top, box.width, box.height)]


def names(data):
    """Return the names of both notations."""
    return [
        [face.name for face in (read(parse(data)).faces if read(parse(data)) else ())] for read in (read_mwg, read_mp)
    ]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_written_is_read_in_the_frame_that_is_shown(orientation):
    frame = ImageFrame(3000, 4000, orientation)
    box = RegionBox(0.5, 0.1, 0.2, 0.3)
    data = new_packet([ShownFace("Ada", box)], frame)
    (read,) = shown_faces(parse(data), orientation, (3000, 4000))
    assert (read.name, edges(read.box)) == ("Ada", edges(box))
    wide, high = (4000, 3000) if orientation > 4 else (3000, 4000)
    assert read_mwg(parse(data)).applied_to == (wide, high)
    assert f"<tiff:Orientation>{orientation}</tiff:Orientation>".encode() in data


def test_both_notations_say_the_same():
    data = new_packet([ShownFace(None, KIERKEGAARD), ShownFace("Ada", RegionBox(0.6, 0.6, 0.1, 0.1))], LANDSCAPE)
    mwg, mp = read_mwg(parse(data)), read_mp(parse(data))
    assert [(face.name, edges(face.box)) for face in mwg.faces] == [(face.name, edges(face.box)) for face in mp.faces]
    assert [face.name for face in mwg.faces] == [None, "Ada"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text_whatever_they_hold(name):
    data = new_packet([ShownFace(name, KIERKEGAARD)], LANDSCAPE)
    assert names(data) == [[name.replace("\ufffe", "\ufffd")]] * 2


@pytest.mark.parametrize("packet", [DIGIKAM, LIGHTROOM, WINDOWS])
def test_a_new_face_is_added_and_nothing_else_changes(packet):
    size = ImageFrame(3000, 4000, 1) if packet is LIGHTROOM else LANDSCAPE
    before = names(packet.encode())
    data = edit_packet(packet.encode(), [ShownFace("Ada", RegionBox(0.5, 0.1, 0.05, 0.05))], size)
    assert names(data) == [[*notation, "Ada"] for notation in before]
    kept = re.sub(
        r"<rdf:li xmlns:rdf=[^>]*>.*?</rdf:li>|<rdf:Description xmlns:rdf=[^>]* rdf:about=.*</rdf:Description>\n", "",
        data.decode(), flags=re.DOTALL,
    )  # fmt: skip
    assert kept == packet.lstrip("\ufeff")


def test_a_face_of_another_name_replaces_the_region_there_alone():
    data = edit_packet(DIGIKAM.encode(), [ShownFace("Søren K.", KIERKEGAARD)], LANDSCAPE)
    assert names(data) == [["Søren K."]] * 2
    assert b'mwg-rs:Name="Rex"' in data
    assert b"digiKam:TagsList" in data


@pytest.mark.parametrize("name", ["Søren Kierkegård", None])
def test_a_face_of_the_same_or_no_name_leaves_the_region_as_it_is(name):
    assert edit_packet(DIGIKAM.encode(), [ShownFace(name, KIERKEGAARD)], LANDSCAPE) == DIGIKAM.encode()


def test_writing_twice_changes_nothing():
    faces = [ShownFace("Ada", KIERKEGAARD), ShownFace(None, RegionBox(0.7, 0.1, 0.1, 0.1))]
    once = edit_packet(DIGIKAM.encode(), faces, LANDSCAPE)
    assert edit_packet(once, faces, LANDSCAPE) == once


@pytest.mark.parametrize("empty", ["<rdf:Bag/>", "<rdf:Bag></rdf:Bag>", ""])
def test_an_empty_list_is_filled(empty):
    whole = re.sub(r"<rdf:Bag>.*?</rdf:Bag>", empty, DIGIKAM.split("<mwg-rs:RegionList>")[1], flags=re.DOTALL)
    packet = DIGIKAM.split("<mwg-rs:RegionList>")[0] + "<mwg-rs:RegionList>" + whole
    assert names(edit_packet(packet.encode(), [ShownFace("Ada", KIERKEGAARD)], LANDSCAPE)) == [["Ada"]] * 2


def test_a_list_that_was_drawn_on_the_shown_image_stays_in_its_frame():
    frame = ImageFrame(4000, 3000, 6)  # the packet states 4000 x 3000, while 3000 x 4000 are stored
    face = ShownFace("Ada", RegionBox(0.5, 0.1, 0.05, 0.05))
    data = edit_packet(DIGIKAM.encode(), [face], frame)
    found = shown_faces(parse(data), 6, (4000, 3000))
    assert [(one.name, edges(one.box)) for one in found][1:] == [("Ada", [0.5, 0.1, 0.05, 0.05])]


@pytest.mark.parametrize("packet", ["<a/>", f"<rdf:RDF {RDF}/>", "not XML"])
def test_what_is_no_packet_is_refused(packet):
    with pytest.raises(UnreadableXmlError):
        edit_packet(packet.encode(), [ShownFace("Ada", KIERKEGAARD)], LANDSCAPE)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("packet", [None, DIGIKAM, LIGHTROOM, WINDOWS])
def test_another_program_reads_the_same(packet, tmp_path):
    size = ImageFrame(3000, 4000, 1) if packet is LIGHTROOM else LANDSCAPE
    faces = [ShownFace(name, RegionBox(0.4 + place / 20, 0.1, 0.04, 0.05)) for place, name in enumerate(NAMES[:5])]
    data = new_packet(faces, size) if packet is None else edit_packet(packet.encode(), faces, size)
    (tmp_path / "a.xmp").write_bytes(data)
    command = ["exiftool", "-json", "-struct", "-charset", "utf8", "-XMP:all", "a.xmp"]
    (read,) = json.loads(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout)
    assert "Warning" not in read
    mwg = {one.get("Name"): one["Area"] for one in read["RegionInfo"]["RegionList"]}
    mp = {one.get("PersonDisplayName"): one["Rectangle"] for one in read["RegionInfoMP"]["Regions"]}
    for place, name in enumerate(NAMES[:5]):
        assert mwg[name] == {"X": round(0.42 + place / 20, 6), "Y": 0.125, "W": 0.04, "H": 0.05, "Unit": "normalized"}
        assert [float(one) for one in mp[name].split(", ")] == pytest.approx([0.4 + place / 20, 0.1, 0.04, 0.05])
