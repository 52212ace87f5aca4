"""Results of a cloud service for one file, in the terms of all services."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.types import MediaKind

Service = Literal["rekognition", "google", "azure"]
Box = tuple[float, float, float, float]
Points = tuple[tuple[float, float], ...]

YES, NO = "yes", "no"
"""Labels of a head that states whether an attribute is there."""
UNSTATED = "unstated"
"""Version of a model that the files do not state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignAnswer:
    """One answer for a face: a label with its confidence, or a range of values."""

    task: str
    label: str | None = None
    confidence: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignFace:
    """A face at one moment."""

    at_seconds: float
    box: Box
    """x1, y1, x2, y2 as parts of the frame; beyond 0 and 1 for a face that is cut off."""
    score: float
    """0 to 1."""
    quality: float = 0.0
    """0 to 1; 0 where the service states none."""
    points: Points = ()
    """Left eye, right eye, nose, left and right corner of the mouth, as parts of the frame; or none."""
    answers: tuple[ForeignAnswer, ...] = ()
    track: str | None = None
    """The track that it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignTrack:
    """A person in view, from when to when."""

    name: str
    """Unique in the results."""
    start_seconds: float
    end_seconds: float
    moments: int
    """Faces or thumbnails in it, at least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignResults:
    """Everything that the files of one file of media hold about faces."""

    service: Service
    operation: str
    """The request that was answered, by the service's own name."""
    model_version: str
    kind: MediaKind
    """Of the media that the operation takes."""
    heads: Mapping[str, tuple[str, ...]]
    """Labels of each head that the operation may answer; none for ages."""
    faces: tuple[ForeignFace, ...]
    tracks: tuple[ForeignTrack, ...] = ()
    left_out: int = 0
    """Persons without a face."""

    def with_version(self, version: str) -> ForeignResults:
        """Return the same results under another version of the model.

        Raises:
            UsageError: the files state one.
        """
        if self.model_version not in {UNSTATED, version}:
            raise UsageError(
                f"--model-version is {version!r}, and the files state {self.model_version!r}; leave the option out"
            )
        return replace(self, model_version=version)

    @property
    def last_seconds(self) -> float:
        """The latest time that the results name."""
        return max([face.at_seconds for face in self.faces] + [track.end_seconds for track in self.tracks], default=0.0)


def presence(task: str, probability: float) -> ForeignAnswer:
    """Return the answer whether an attribute is there.

    Args:
        task: name of the attribute; that of Facet's where both mean the same.
        probability: that it is there, 0 to 1.
    """
    is_there = probability >= 0.5
    return ForeignAnswer(task=task, label=YES if is_there else NO, confidence=max(probability, 1 - probability))


def tracks_of(faces: tuple[ForeignFace, ...]) -> tuple[ForeignTrack, ...]:
    """Return the tracks that faces name, each from its first to its last face."""
    times: dict[str, list[float]] = {}
    for face in faces:
        if face.track is not None:
            times.setdefault(face.track, []).append(face.at_seconds)
    return tuple(
        ForeignTrack(name=name, start_seconds=min(found), end_seconds=max(found), moments=len(found))
        for name, found in times.items()
    )
