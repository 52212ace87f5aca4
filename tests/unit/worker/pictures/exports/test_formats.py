"""Every document is read by a parser that is not ours: times, names and places come back, whatever the names hold."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from worker.pictures.exports.elan import write_eaf
from worker.pictures.exports.iiif import write_iiif
from worker.pictures.exports.segments import MediaSegments, Segment, ShareBox
from worker.pictures.exports.subtitles import write_ass, write_srt, write_vtt
from worker.pictures.exports.table import csv_lines

HOSTILE = '<b>Ann</b> & {\\b1}Bo\\N "x" --> \u202eevil\n\n9, ]]>\x1b'
SHOWN = '<b>Ann</b> & {\\b1}Bo\\N "x" --> \\u202eevil\\n\\n9, ]]>\\x1b'
NAMES = ["Grace Hopper", HOSTILE, "محمد", "\u4e2d\u6587", "WEBVTT", "NOTE", "-->", "=1+1", "a" * 300]


def segment(number, person=1, name="Grace Hopper", start=1.0, end=2.5, **facts):
    box = ShareBox(0.25, 0.5, 0.125, 0.25, start)
    known = {"age": 34.4, "gender": "female", "emotion": "unknown", "face_count": 3, "quality": 0.9, "box": box}
    return Segment(
        appearance_id=number, person_id=person, name=name, start_seconds=start, end_seconds=end, **known | facts
    )


def media(*segments, kind="video"):
    return MediaSegments(
        media_id=7, uri='/a/<clip> & "x".mp4', kind=kind, width=640, height=360, duration_seconds=9.0, segments=segments
    )


def vtt(document):
    """Return identifier, milliseconds of start and end, and text of each cue."""
    cues = pytest.importorskip("webvtt").from_buffer(io.StringIO(document))
    return [(c.identifier, c.start_time.in_milliseconds(), c.end_time.in_milliseconds(), c.raw_text) for c in cues]


def events(document, form):
    pysubs2 = pytest.importorskip("pysubs2")
    return list(pysubs2.SSAFile.from_string(document, format_=form))


def elan(document, tmp_path):
    pympi = pytest.importorskip("pympi")
    (tmp_path / "a.eaf").write_text(document, encoding="utf-8")
    return pympi.Elan.Eaf(str(tmp_path / "a.eaf"))


def test_a_cue_has_times_number_and_facts():
    assert vtt(write_vtt(media(segment(5, start=3661.0014, end=3662.5)))) == [
        ("5", 3_661_001, 3_662_500, "Grace Hopper (34 y, female)")
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_a_vtt_file(name):
    cues = vtt(write_vtt(media(segment(1, name=name), segment(2, 2, "after", 3.0, 4.0))))
    assert [cue[:3] for cue in cues] == [("1", 1000, 2500), ("2", 3000, 4000)]
    text = cues[0][3]
    assert not {"<", ">"} & set(text)
    plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert plain == f"{SHOWN if name == HOSTILE else name} (34 y, female)"


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_an_srt_file(name):
    cues = events(write_srt(media(segment(1, name=name), segment(2, 2, "after", 3.0, 4.0))), "srt")
    assert [(cue.start, cue.end) for cue in cues] == [(1000, 2500), (3000, 4000)]
    assert not set("<>{}") & set(cues[0].plaintext)
    assert cues[1].plaintext == "after (34 y, female)"


def test_people_in_view_together_share_srt_cues():
    together = media(segment(1, 1, "Ann", 0, 4), segment(2, 2, "Bo", 2, 6), segment(3, 3, "Cy", 8, 9))
    cues = events(write_srt(together), "srt")
    assert [(cue.start, cue.end, cue.plaintext.replace(" (34 y, female)", "")) for cue in cues] == [
        (0, 2000, "Ann"), (2000, 4000, "Ann\nBo"), (4000, 6000, "Bo"), (8000, 9000, "Cy"),
    ]  # fmt: skip


def test_people_in_view_together_have_vtt_cues_that_overlap():
    cues = vtt(write_vtt(media(segment(1, 1, "Ann", 0, 4), segment(2, 2, "Bo", 2, 6))))
    assert [cue[1:3] for cue in cues] == [(0, 4000), (2000, 6000)]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_an_ass_file(name):
    first, second = events(write_ass(media(segment(1, name=name), segment(2, 2, "after", 3.0, 3.001))), "ass")
    assert (first.start, first.end, second.start, second.end) == (1000, 2500, 3000, 3010)
    assert first.text.startswith("{\\an2\\pos(200,180)}")
    rest = first.text.removeprefix("{\\an2\\pos(200,180)}")
    assert not set("{}\\") & set(rest)
    assert "," not in first.name
    assert second.plaintext == "after (34 y, female)"


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_an_elan_file(name, tmp_path):
    eaf = elan(write_eaf(media(segment(1, name=name), segment(2, 2, "after", 3.0, 4.0))), tmp_path)
    label = SHOWN if name == HOSTILE else name
    assert list(eaf.get_tier_names()) == [label, "after"]
    assert eaf.get_annotation_data_for_tier(label) == [(1000, 2500, f"{label} (34 y, female)")]
    assert eaf.media_descriptors[0]["MEDIA_URL"] == "file:///a/%3Cclip%3E%20%26%20%22x%22.mp4"


def test_annotations_of_one_elan_tier_never_overlap(tmp_path):
    twice = media(
        segment(1, 1, "Ann", 0, 4), segment(2, 1, "Ann", 2, 6), segment(3, 1, "Ann", 4, 5), segment(4, 9, "Ann", 0, 1),
        segment(5, None, None, 0, 1),
    )  # fmt: skip
    eaf = elan(write_eaf(twice), tmp_path)
    spans = {name: [one[:2] for one in eaf.get_annotation_data_for_tier(name)] for name in eaf.get_tier_names()}
    assert spans == {
        "Ann": [(0, 4000), (4000, 5000)], "Ann (2)": [(2000, 6000)], "Ann (3)": [(0, 1000)], "nobody yet": [(0, 1000)],
    }  # fmt: skip


def test_an_elan_file_lists_its_times_once_and_in_order():
    tree = ET.fromstring(write_eaf(media(segment(1, start=2, end=3), segment(2, 2, "B", 2, 5))))
    assert [slot.get("TIME_VALUE") for slot in tree.iter("TIME_SLOT")] == ["2000", "3000", "5000"]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_of_web_annotations_is_valid(name):
    document = write_iiif(media(segment(4, name=name)), "https://archive.test/x/")
    page = json.loads(document)
    # What IIIF Presentation 3 and the Web Annotation model require; iiif-prezi3 cannot check it beside Pillow 13.
    assert page["@context"] == "http://iiif.io/api/presentation/3/context.json"
    assert page["type"] == "AnnotationPage"
    assert page["id"].startswith("https://archive.test/x/")
    (note,) = page["items"]
    assert (note["type"], note["motivation"]) in {("Annotation", "tagging"), ("Annotation", "commenting")}
    assert note["id"].startswith("https://archive.test/x/")
    assert note["id"] != page["id"]
    assert note["body"]["type"] == "TextualBody"
    assert note["body"]["value"] == f"{SHOWN if name == HOSTILE else name} (34 y, female)"
    assert note["target"] == "https://archive.test/x/media/7/canvas#xywh=160,180,80,90&t=1,2.5"


def test_an_image_has_a_place_and_no_time():
    page = json.loads(write_iiif(media(segment(4, start=0.0, end=0.0), kind="image"), "https://a.test"))
    assert page["items"][0]["target"] == "https://a.test/media/7/canvas#xywh=160,180,80,90"


def test_a_table_gives_names_back_as_they_are():
    lines = "".join(csv_lines([media(segment(1, name=HOSTILE)), media(segment(2, None, None, box=None))]))
    first, second = csv.DictReader(io.StringIO(lines))
    assert (first["name"], first["start_seconds"], first["end_seconds"], first["left"]) == (
        HOSTILE,
        "1.0",
        "2.5",
        "0.25",
    )
    assert (second["appearance_id"], second["name"], second["left"]) == ("2", "", "")


def test_unknown_facts_are_left_out():
    bare = replace(segment(1), age=None, gender=None, emotion=None, name=None)
    assert (bare.text, replace(bare, person_id=None).text) == ("person 1", "nobody yet")
