"""Faces in images for labelling: documents of COCO and Label Studio."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from worker.pictures.exports.labelling import coco_pieces, label_studio_pieces
from worker.pictures.exports.segments import MediaSegments, Segment, ShareBox

NAME = 'Søren "<b>" \u202e\ud800'


def face(number, box, name=None):
    return Segment(
        appearance_id=number, person_id=3, name=name, start_seconds=0, end_seconds=0, age=34.5, gender="female",
        emotion=None, face_count=1, quality=0.9, box=box,
    )  # fmt: skip


def image(number, *faces, kind="image"):
    return MediaSegments(
        media_id=number, uri=f"/photos/à b/{number}.jpg", kind=kind, width=400, height=300, duration_seconds=None,
        segments=faces, orientation=6,
    )  # fmt: skip


BOX = ShareBox(0.25, 0.5, 0.125, 0.25, 0.0)
FILES = (
    image(7, face(1, BOX, NAME), face(2, None), face(3, replace(BOX, at_seconds=1.0))),
    image(8, face(4, BOX), kind="video"),
    image(9, face(5, BOX)),
)


def test_coco_has_each_face_of_the_first_frame_in_pixels():
    document = json.loads("".join(coco_pieces(FILES)))
    assert document["images"] == [
        {"id": 7, "file_name": "/photos/à b/7.jpg", "width": 400, "height": 300},
        {"id": 9, "file_name": "/photos/à b/9.jpg", "width": 400, "height": 300},
    ]
    first, second = document["annotations"]
    assert (first["id"], first["image_id"], second["id"], second["image_id"]) == (1, 7, 5, 9)
    assert first["bbox"] == [100, 150, 50, 75]
    assert (first["area"], first["iscrowd"], first["category_id"]) == (3750, 0, document["categories"][0]["id"])
    assert first["attributes"] == {"person_id": 3, "name": NAME, "age": 34.5, "gender": "female", "emotion": None}


@pytest.mark.parametrize(
    ("base", "address"),
    [
        (None, "/data/local-files/?d=photos/%C3%A0%20b/7.jpg"),
        ("https://a.test/files/", "https://a.test/files/photos/%C3%A0%20b/7.jpg"),
    ],
)
def test_a_task_of_label_studio_has_its_image_and_boxes_in_percent(base, address):
    tasks = json.loads("".join(label_studio_pieces(FILES, base)))
    assert [task["data"]["media_id"] for task in tasks] == [7, 9]
    assert tasks[0]["data"]["image"] == address
    boxed, named = tasks[0]["predictions"][0]["result"]
    assert boxed["value"] == {
        "x": 25, "y": 50, "width": 12.5, "height": 25, "rotation": 0, "rectanglelabels": ["Face"],
    }  # fmt: skip
    assert (boxed["id"], boxed["to_name"], boxed["original_width"], boxed["original_height"]) == (
        named["id"], "image", 400, 300,
    )  # fmt: skip
    assert (named["type"], named["value"]["text"]) == ("textarea", [NAME])
    assert len(tasks[1]["predictions"][0]["result"]) == 1


def test_an_empty_document_is_one():
    assert json.loads("".join(coco_pieces([])))["annotations"] == []
    assert json.loads("".join(label_studio_pieces([], None))) == []
