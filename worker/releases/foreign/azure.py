"""Azure Video Indexer: the faces of a video's insights, which have times and thumbnails, and no boxes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from worker.errors import UsageError
from worker.releases.foreign.model import CamelModel
from worker.releases.foreign.results import UNSTATED, ForeignResults, ForeignTrack

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIME = re.compile(r"(?:(?P<days>\d+)\.)?(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d+)?)")


def _seconds(time: object) -> object:
    """Return a time such as ``"0:00:05.033"`` or ``"1.02:00:00"`` (with days) in seconds."""
    found = _TIME.fullmatch(time) if isinstance(time, str) else None
    if found is None:
        raise ValueError('expected a time such as "0:00:05.033"')
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


Time = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]


class Instance(CamelModel):
    """From when to when, in this video."""

    start: Time
    end: Time


class FaceInstance(Instance):
    """A time in view; older files name its thumbnails here."""

    thumbnails_ids: tuple[str, ...] = ()


class Thumbnail(CamelModel):
    """A picture of the face, and when it was taken."""

    instances: tuple[Instance, ...] = ()


class Face(CamelModel):
    """A face of the video, with all of its times in view."""

    id: int
    instances: tuple[FaceInstance, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()


class Insights(CamelModel):
    """The insights of a video."""

    version: str | None = None
    faces: tuple[Face, ...] = ()


class IndexedVideo(CamelModel):
    """A video of the index."""

    state: str | None = None
    insights: Insights


class Index(CamelModel):
    """The answer of Get Video Index, or the file of the download."""

    videos: tuple[IndexedVideo, ...]


def convert_azure(indexes: Sequence[Index]) -> ForeignResults:
    """Return the results of one video.

    Raises:
        UsageError: the files are of several videos, or the video is not processed.
    """
    videos = [video for index in indexes for video in index.videos]
    if len(videos) != 1:
        raise UsageError(f"the files hold {len(videos)} videos, expected one; import each with its own --media")
    video = videos[0]
    if video.state not in {None, "Processed"}:
        raise UsageError(f"the state of the video is {video.state}, expected Processed; download the file when it is")
    return ForeignResults(
        service="azure",
        operation="faces",
        model_version=video.insights.version or UNSTATED,
        kind="video",
        heads={},
        faces=(),
        tracks=tuple(
            _track(face, number, one) for face in video.insights.faces for number, one in enumerate(face.instances)
        ),
    )


def _track(face: Face, number: int, one: FaceInstance) -> ForeignTrack:
    if one.end < one.start:
        raise UsageError(f"face {face.id} ends at {one.end:g} s and begins at {one.start:g} s; export it again")
    taken = [moment.start for thumbnail in face.thumbnails for moment in thumbnail.instances]
    seen = len(one.thumbnails_ids) or sum(one.start <= at <= one.end for at in taken)
    return ForeignTrack(name=f"{face.id}-{number}", start_seconds=one.start, end_seconds=one.end, moments=max(1, seen))
