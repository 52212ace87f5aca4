"""Google Video Intelligence: the annotation results of FACE_DETECTION; bodies of PERSON_DETECTION are no faces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from worker.errors import UsageError
from worker.releases.foreign.model import CamelModel, Place, Share
from worker.releases.foreign.results import NO, UNSTATED, YES, ForeignFace, ForeignResults, ForeignTrack, presence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NANOS = 1_000_000_000
GOOGLE_ATTRIBUTES = {
    "glasses": "Eyeglasses", "headwear": "Wearing_Hat", "smiling": "Smiling", "mouth_open": "Mouth_Slightly_Open",
    "eyes_visible": "Eyes_Visible", "frontal_gaze": "Frontal_Gaze",
}  # fmt: skip
"""Head by the service's name; the names of Facet's attributes where both mean the same."""
GOOGLE_HEADS = dict.fromkeys(GOOGLE_ATTRIBUTES.values(), (YES, NO))
_OFFSET = re.compile(r"\d+(?:\.\d+)?s")


def _seconds(offset: object) -> object:
    """Return an offset in seconds: ``"1.5s"``, or ``{"seconds": 1, "nanos": 500000000}``."""
    if isinstance(offset, str) and _OFFSET.fullmatch(offset):
        return float(offset[:-1])
    if isinstance(offset, dict):
        return int(offset.get("seconds", 0)) + int(offset.get("nanos", 0)) / NANOS
    raise ValueError('expected "1.5s" or {"seconds": 1, "nanos": 500000000}')


Offset = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]


class NormalizedBox(CamelModel):
    """Edges as parts of the frame; an edge at 0 is left out of the file."""

    left: Place = 0.0
    top: Place = 0.0
    right: Place = 0.0
    bottom: Place = 0.0


class Attribute(CamelModel):
    """An attribute, and how probable it is that it is there."""

    name: str
    confidence: Share = 0.0


class TimestampedObject(CamelModel):
    """A face at a time."""

    normalized_bounding_box: NormalizedBox
    time_offset: Offset = 0.0
    attributes: tuple[Attribute, ...] = ()


class TimeSegment(CamelModel):
    """From when to when."""

    start_time_offset: Offset = 0.0
    end_time_offset: Offset = 0.0


class Track(CamelModel):
    """A face from when to when."""

    segment: TimeSegment
    timestamped_objects: tuple[TimestampedObject, ...] = ()
    confidence: Share = 0.0


class FaceDetectionAnnotation(CamelModel):
    """The tracks of a face."""

    tracks: tuple[Track, ...] = ()
    version: str | None = None


class Status(CamelModel):
    """An error of the service."""

    message: str = ""


class VideoResults(CamelModel):
    """Results of a video, or of one feature for it."""

    input_uri: str | None = None
    face_detection_annotations: tuple[FaceDetectionAnnotation, ...] = ()
    person_detection_annotations: tuple[object, ...] = ()
    error: Status | None = None


class Response(CamelModel):
    """The answer to a request."""

    annotation_results: tuple[VideoResults, ...]


class Operation(CamelModel):
    """An operation that has ended."""

    response: Response


def convert_google(responses: Sequence[Response]) -> ForeignResults:
    """Return the results of one video.

    Raises:
        UsageError: they are of several videos, or report an error.
    """
    results = [one for response in responses for one in response.annotation_results]
    if failed := next((one.error for one in results if one.error is not None), None):
        raise UsageError(f"the service reports an error ({failed.message}), expected results; repeat the request")
    places = sorted({one.input_uri for one in results if one.input_uri})
    if len(places) > 1:
        raise UsageError(f"the files hold results of {', '.join(places)}, expected one video; split them")
    found = [one for result in results for one in result.face_detection_annotations]
    named = [(f"{n}-{m}", track) for n, one in enumerate(found) for m, track in enumerate(one.tracks)]
    return ForeignResults(
        service="google",
        operation="FACE_DETECTION",
        model_version=next((one.version for one in found if one.version), UNSTATED),
        kind="video",
        heads=GOOGLE_HEADS,
        faces=tuple(face for name, track in named for face in _faces(name, track)),
        tracks=tuple(_track(name, track) for name, track in named),
        left_out=sum(len(one.person_detection_annotations) for one in results),
    )


def _track(name: str, track: Track) -> ForeignTrack:
    start, end = track.segment.start_time_offset, track.segment.end_time_offset
    if end < start:
        raise UsageError(f"a track ends at {end:g} s and begins at {start:g} s, expected a later end; export it again")
    return ForeignTrack(name=name, start_seconds=start, end_seconds=end, moments=max(1, len(track.timestamped_objects)))


def _faces(name: str, track: Track) -> Iterator[ForeignFace]:
    for one in track.timestamped_objects:
        box = one.normalized_bounding_box
        yield ForeignFace(
            at_seconds=one.time_offset,
            box=(box.left, box.top, max(box.left, box.right), max(box.top, box.bottom)),
            score=track.confidence,
            answers=tuple(
                presence(GOOGLE_ATTRIBUTES[a.name], a.confidence) for a in one.attributes if a.name in GOOGLE_ATTRIBUTES
            ),
            track=name,
        )
