"""Documents go into the files that their users asked for, whole or not at all."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from worker.errors import FacetError, UsageError
from worker.pictures.exports.registry import (
    document_formats,
    document_name,
    whole_formats,
    write_documents,
    write_one_document,
)
from worker.pictures.exports.segments import MediaSegments, Segment

FORMATS = document_formats("https://a.test")
WHOLE = whole_formats(None)


def media(number=7, uri="/films/clip.mp4", kind="video", label="Ann"):
    shown = Segment(
        appearance_id=number, person_id=1, name=label, start_seconds=0.5, end_seconds=2.0, age=None, gender=None,
        emotion=None, face_count=1, quality=None, box=None,
    )  # fmt: skip
    return MediaSegments(
        media_id=number, uri=uri, kind=kind, width=64, height=48, duration_seconds=3.0, segments=(shown,)
    )


@pytest.mark.parametrize("name", FORMATS)
def test_several_files_go_into_a_folder(name, tmp_path):
    assert write_documents(FORMATS[name], [media(7), media(8)], tmp_path / "out") == 2
    suffix = FORMATS[name].suffix
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"clip-7{suffix}", f"clip-8{suffix}"]
    assert all("Ann" in path.read_text() for path in (tmp_path / "out").iterdir())


def test_one_file_goes_where_it_was_wanted(tmp_path):
    assert write_documents(FORMATS["vtt"], [media()], tmp_path / "new" / "out.vtt") == 1
    assert (tmp_path / "new" / "out.vtt").read_text().startswith("WEBVTT\n\n7\n00:00:00.500 --> 00:00:02.000\nAnn")


def test_several_files_do_not_overwrite_each_other(tmp_path):
    with pytest.raises(UsageError, match="expected a folder"):
        write_documents(FORMATS["vtt"], [media(7), media(8)], tmp_path / "out.vtt")
    assert list(tmp_path.iterdir()) == []


def test_images_have_no_subtitles(tmp_path):
    with pytest.raises(UsageError, match="no appearance in a video"):
        write_documents(FORMATS["srt"], [media(kind="image")], tmp_path / "out.srt")
    assert list(tmp_path.iterdir()) == []
    assert write_documents(FORMATS["iiif"], [media(kind="image")], tmp_path / "out.json") == 1


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/a/b.zip!/../../etc/passwd.jpg", "passwd-7.vtt"),
        ("/a/..", "media-7.vtt"),
        ("s3://bucket/été 写真.mp4", "été_写真-7.vtt"),
        ("/a/" + "x" * 300 + ".mp4", "x" * 60 + "-7.vtt"),
        ("/a/\u202egpj\n.mp4", "_gpj_-7.vtt"),
    ],
)
def test_names_of_documents_are_safe(uri, expected):
    assert document_name(media(uri=uri), ".vtt") == expected


def test_a_table_holds_all_files(tmp_path):
    assert write_one_document(WHOLE["csv"], [media(7), media(8, kind="image")], tmp_path / "out.csv") == 2
    with (tmp_path / "out.csv").open(newline="") as stream:
        assert [row["media_id"] for row in csv.DictReader(stream)] == ["7", "8"]


def test_an_empty_table_is_not_written(tmp_path):
    for name, item in (("csv", "appearance"), ("coco", "face"), ("label-studio", "task")):
        with pytest.raises(UsageError, match=f"no {item} is selected"):
            write_one_document(WHOLE[name], [], tmp_path / "out")
    with pytest.raises(UsageError, match="expected a file"):
        write_one_document(WHOLE["csv"], [media()], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FacetError, match="cannot be written"):
        write_documents(FORMATS["vtt"], [media()], tmp_path / "file" / "out.vtt")


def test_a_failure_leaves_the_document_of_before(tmp_path):
    def broken():
        yield replace(media())
        raise RuntimeError

    (tmp_path / "out.csv").write_text("before")
    with pytest.raises(RuntimeError):
        write_one_document(WHOLE["csv"], broken(), tmp_path / "out.csv")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
