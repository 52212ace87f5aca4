"""Amazon Rekognition: DetectFaces for images; GetFaceDetection, GetPersonTracking and GetFaceSearch for videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from worker.errors import UsageError
from worker.releases.foreign.model import Length, PascalModel, Percent, Place, share
from worker.releases.foreign.results import NO, UNSTATED, YES, ForeignAnswer, ForeignFace, ForeignResults, tracks_of
from worker.types import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.releases.foreign.results import Points

MILLISECONDS = 1000
POINTS = ("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight")
EMOTIONS = {
    "CALM": "neutral", "HAPPY": "happiness", "SURPRISED": "surprise", "SAD": "sadness", "ANGRY": "anger",
    "DISGUSTED": "disgust", "FEAR": "fear", "CONFUSED": "confusion", "UNKNOWN": UNKNOWN,
}  # fmt: skip
"""Label by the service's name; those of Facet where both mean the same."""
REKOGNITION_ATTRIBUTES = {
    "smile": "Smiling", "eyeglasses": "Eyeglasses", "sunglasses": "Sunglasses", "beard": "Beard",
    "mustache": "Mustache", "eyes_open": "Eyes_Open", "mouth_open": "Mouth_Slightly_Open",
    "face_occluded": "Face_Occluded",
}  # fmt: skip
"""Head by field; the names of Facet's attributes where both mean the same."""
REKOGNITION_HEADS = {
    "gender": ("male", "female"),
    "age": (),
    "emotion": tuple(EMOTIONS.values()),
    **dict.fromkeys(REKOGNITION_ATTRIBUTES.values(), (YES, NO)),
}

Timestamp = Annotated[int, Field(ge=0)]


class BoundingBox(PascalModel):
    """A box as parts of the frame."""

    left: Place
    top: Place
    width: Length
    height: Length


class AgeRange(PascalModel):
    """Estimated years."""

    low: Annotated[int, Field(ge=0)]
    high: Annotated[int, Field(ge=0)]


class Gender(PascalModel):
    """A gender."""

    value: Literal["Male", "Female"]
    confidence: Percent


class Presence(PascalModel):
    """Whether an attribute is there, and the confidence in that."""

    value: bool
    confidence: Percent


class Emotion(PascalModel):
    """One of the emotions of a face."""

    type: str
    confidence: Percent


class Landmark(PascalModel):
    """A point as parts of the frame."""

    type: str
    x: Place
    y: Place


class Quality(PascalModel):
    """Quality of the picture of a face."""

    sharpness: Percent | None = None


class FaceDetail(PascalModel):
    """A face; all but the first two fields depend on the attributes that were asked for."""

    bounding_box: BoundingBox
    confidence: Percent
    landmarks: tuple[Landmark, ...] = ()
    quality: Quality | None = None
    age_range: AgeRange | None = None
    gender: Gender | None = None
    emotions: tuple[Emotion, ...] = ()
    smile: Presence | None = None
    eyeglasses: Presence | None = None
    sunglasses: Presence | None = None
    beard: Presence | None = None
    mustache: Presence | None = None
    eyes_open: Presence | None = None
    mouth_open: Presence | None = None
    face_occluded: Presence | None = None


class FaceDetection(PascalModel):
    """A face at a time."""

    timestamp: Timestamp
    face: FaceDetail


class TrackedPerson(PascalModel):
    """A person's path; the face is there where it was seen."""

    index: int
    face: FaceDetail | None = None


class PersonDetection(PascalModel):
    """A person at a time."""

    timestamp: Timestamp
    person: TrackedPerson
    face_matches: tuple[object, ...] | None = None
    """Of a face search, also where no face of the collection matched."""


class ResponsePage(PascalModel):
    """A response, or a page of it."""

    job_status: str | None = None
    next_token: str | None = None
    face_model_version: str | None = None
    orientation_correction: str | None = None
    face_details: tuple[FaceDetail, ...] | None = None
    faces: tuple[FaceDetection, ...] | None = None
    persons: tuple[PersonDetection, ...] | None = None


def convert_rekognition(pages: Sequence[ResponsePage]) -> ForeignResults:
    """Return the results of one image or video.

    Args:
        pages: all pages of one response.

    Raises:
        UsageError: they are not complete, or of several requests.
    """
    _check(pages)
    found = [_face(one, 0) for page in pages for one in page.face_details or ()]
    found += [_face(one.face, one.timestamp) for page in pages for one in page.faces or ()]
    seen = [one for page in pages for one in page.persons or ()]
    found += [_face(one.person.face, one.timestamp, one.person.index) for one in seen if one.person.face]
    faces = tuple(found)
    return ForeignResults(
        service="rekognition",
        operation=_operation(pages),
        model_version=next((page.face_model_version for page in pages if page.face_model_version), UNSTATED),
        kind="video" if pages[0].face_details is None else "image",
        heads=REKOGNITION_HEADS,
        faces=faces,
        tracks=tracks_of(faces),
        left_out=sum(one.person.face is None for one in seen),
    )


def _operation(pages: Sequence[ResponsePage]) -> str:
    if pages[0].face_details is not None:
        return "DetectFaces"
    if pages[0].faces is not None:
        return "GetFaceDetection"
    is_search = any(one.face_matches is not None for page in pages for one in page.persons or ())
    return "GetFaceSearch" if is_search else "GetPersonTracking"


def _check(pages: Sequence[ResponsePage]) -> None:
    kinds = {(page.face_details is None, page.faces is None, page.persons is None) for page in pages}
    if len(kinds) > 1 or sum(not one for one in next(iter(kinds))) != 1:
        raise UsageError(
            "the files hold FaceDetails, Faces and Persons, expected one of them; name those of one request"
        )
    if pages[0].face_details is not None and len(pages) > 1:
        raise UsageError(
            f"{len(pages)} files hold FaceDetails, expected one for an image; import each with its own --media"
        )
    if unended := next((page.job_status for page in pages if page.job_status not in {None, "SUCCEEDED"}), None):
        raise UsageError(f"JobStatus is {unended}, expected SUCCEEDED; fetch the results when the job has ended")
    open_ended = sum(page.next_token is not None for page in pages)
    if open_ended >= len(pages):
        raise UsageError(f"all {len(pages)} files have a NextToken, expected one without; name the last page, too")
    turned = next((p.orientation_correction for p in pages if p.orientation_correction not in {None, "ROTATE_0"}), None)
    if turned:
        raise UsageError(f"OrientationCorrection is {turned}, expected none; the boxes are those of a turned image")


def _face(detail: FaceDetail, timestamp: int, index: int | None = None) -> ForeignFace:
    box = detail.bounding_box
    sharpness = None if detail.quality is None else detail.quality.sharpness
    return ForeignFace(
        at_seconds=timestamp / MILLISECONDS,
        box=(box.left, box.top, box.left + box.width, box.top + box.height),
        score=share(detail.confidence),
        quality=share(sharpness or 0.0),
        points=_points(detail),
        answers=tuple(_answers(detail)),
        track=None if index is None else str(index),
    )


def _points(detail: FaceDetail) -> Points:
    found = {one.type: (one.x, one.y) for one in detail.landmarks}
    return tuple(found[name] for name in POINTS) if found.keys() >= set(POINTS) else ()


def _answers(detail: FaceDetail) -> Iterator[ForeignAnswer]:
    if detail.gender is not None:
        confidence = share(detail.gender.confidence)
        yield ForeignAnswer(task="gender", label=detail.gender.value.lower(), confidence=confidence)
    if detail.age_range is not None:
        yield ForeignAnswer(task="age", low=detail.age_range.low, high=detail.age_range.high)
    if detail.emotions:
        best = max(detail.emotions, key=lambda one: one.confidence)
        if best.type not in EMOTIONS:
            raise UsageError(
                f"the emotion {best.type!r} is unknown, expected one of {', '.join(EMOTIONS)}; update Facet"
            )
        yield ForeignAnswer(task="emotion", label=EMOTIONS[best.type], confidence=share(best.confidence))
    for field, task in REKOGNITION_ATTRIBUTES.items():
        found: Presence | None = getattr(detail, field)
        if found is not None:
            yield ForeignAnswer(task=task, label=YES if found.value else NO, confidence=share(found.confidence))
