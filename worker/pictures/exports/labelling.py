"""Writes faces in images for labelling by hand: the detections of COCO, and tasks of Label Studio.

Boxes lie in the upright image, which both show: viewers turn an image by its EXIF orientation.

Sources: https://cocodataset.org/#format-data and https://labelstud.io/guide/predictions.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.pictures.exports.segments import MediaSegments, Segment, ShareBox

CATEGORY = {"id": 1, "name": "face", "supercategory": "person"}
LOCAL_FILES = "/data/local-files/?d="  # Label Studio's address of files below LOCAL_FILES_DOCUMENT_ROOT


def coco_pieces(files: Iterable[MediaSegments]) -> Iterator[str]:
    """Yield a COCO document: its head, each face of an image, and the list of images."""
    head = {"info": {"description": "Faces found by Facet"}, "licenses": [], "categories": [CATEGORY]}
    yield f'{json.dumps(head)[:-1]}, "annotations": ['
    images, mark = list[str](), "\n"
    for file, faces in _images(files):
        images.append(_json({"id": file.media_id, "file_name": file.uri, "width": file.width, "height": file.height}))
        for face, box in faces:
            yield mark + _json(_annotation(file, face, box))
            mark = ",\n"
    yield '\n], "images": [\n' + ",\n".join(images) + "\n]}\n"


def _annotation(file: MediaSegments, face: Segment, box: ShareBox) -> dict[str, Any]:
    left, top, width, height = (
        round(share * side, 2)
        for share, side in (
            (box.left, file.width), (box.top, file.height), (box.width, file.width), (box.height, file.height),
        )
    )  # fmt: skip
    return {
        "id": face.appearance_id,
        "image_id": file.media_id,
        "category_id": CATEGORY["id"],
        "bbox": [left, top, width, height],
        "area": round(width * height, 2),
        "segmentation": [],
        "iscrowd": 0,
        "attributes": {
            "person_id": face.person_id,
            "name": face.name,
            "age": face.age,
            "gender": face.gender,
            "emotion": face.emotion,
        },
    }


def label_studio_pieces(files: Iterable[MediaSegments], base_url: str | None) -> Iterator[str]:
    """Yield a list of tasks, one an image, whose faces are predictions that a user corrects.

    Args:
        files: with their appearances.
        base_url: to which the path of an image is added; None for the local files of Label Studio.
    """
    yield "["
    mark = "\n"
    for file, faces in _images(files):
        yield mark + _json(_task(file, faces, base_url))
        mark = ",\n"
    yield "\n]\n"


def _task(file: MediaSegments, faces: list[tuple[Segment, ShareBox]], base_url: str | None) -> dict[str, Any]:
    path = quote(file.uri.removeprefix("/"), errors="surrogateescape")
    address = LOCAL_FILES + path if base_url is None else f"{base_url.rstrip('/')}/{path}"
    results = [one for face, box in faces for one in _results(file, face, box)]
    return {
        "data": {"image": address, "media_id": file.media_id, "uri": file.uri},
        "predictions": [{"model_version": "facet", "result": results}],
    }


def _results(file: MediaSegments, face: Segment, box: ShareBox) -> list[dict[str, Any]]:
    """Return the box of a face, and its person as text of the same region."""
    place = {
        "x": box.left * 100, "y": box.top * 100, "width": box.width * 100, "height": box.height * 100, "rotation": 0,
    }  # fmt: skip
    region = {
        "id": f"a{face.appearance_id}",
        "to_name": "image",
        "original_width": file.width,
        "original_height": file.height,
        "image_rotation": 0,
    }
    boxed = {"from_name": "face", "type": "rectanglelabels", "value": place | {"rectanglelabels": ["Face"]}}
    named = {"from_name": "person", "type": "textarea", "value": place | {"text": [face.name]}}
    return [region | boxed, *([region | named] if face.name else [])]


def _images(files: Iterable[MediaSegments]) -> Iterator[tuple[MediaSegments, list[tuple[Segment, ShareBox]]]]:
    """Yield images with the faces of their first frame."""
    for file in files:
        if file.kind == "image":
            faces = [(one, one.box) for one in file.segments if one.box is not None and one.box.at_seconds == 0]
            if faces:
                yield file, faces


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True)
