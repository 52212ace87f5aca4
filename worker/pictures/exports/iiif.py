"""Writes appearances as web annotations of IIIF Presentation 3: a page of annotations for each file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.pictures.exports.segments import MediaSegments, Segment, ShareBox

CONTEXT = "http://iiif.io/api/presentation/3/context.json"


def write_iiif(file: MediaSegments, base_url: str) -> str:
    """Return an annotation page whose targets are parts of a canvas: ``#xywh=`` in pixels and ``#t=`` in seconds."""
    media = f"{base_url.rstrip('/')}/media/{file.media_id}"
    page: dict[str, Any] = {
        "@context": CONTEXT,
        "id": f"{media}/people",
        "type": "AnnotationPage",
        "label": {"none": [f"People in {file.uri}"]},
        "items": [_annotation(file, segment, media) for segment in file.segments],
    }
    return json.dumps(page, indent=1, ensure_ascii=True) + "\n"


def _annotation(file: MediaSegments, segment: Segment, media: str) -> dict[str, Any]:
    parts = [] if segment.box is None else [_xywh(segment.box, file)]
    if file.kind == "video":
        parts.append(f"t={_seconds(segment.start_seconds)},{_seconds(segment.end_seconds)}")
    fragment = f"#{'&'.join(parts)}" if parts else ""
    return {
        "id": f"{media}/people/{segment.appearance_id}",
        "type": "Annotation",
        "motivation": "tagging",
        "body": {"type": "TextualBody", "value": segment.text, "format": "text/plain", "purpose": "tagging"},
        "target": f"{media}/canvas{fragment}",
    }


def _xywh(box: ShareBox, file: MediaSegments) -> str:
    """Return the best face in pixels of the canvas, which has the size of the file's first frame."""
    left, top = round(box.left * file.width), round(box.top * file.height)
    width = max(1, round(box.width * file.width))
    height = max(1, round(box.height * file.height))
    return f"xywh={left},{top},{width},{height}"


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
