"""The page of one video or image: the picture with boxes, and who is in it when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from worker.web.forms import choice_of, decimal_of, whole_of
from worker.web.pages.media.content import frame_size
from worker.web.pages.media.drawing import (
    STRIP_HEIGHT,
    WIDTH,
    age_strip,
    emotion_strip,
    lane_bars,
    person_tone,
)
from worker.web.queries.media import count_dropped, read_facts, read_jobs, read_seen
from worker.web.queries.timeline import TimeDivision, make_lanes, read_frame_size, read_frame_times, read_strip
from worker.web.queries.tracks import FrameSize, read_dropped, read_tracks
from worker.web.rendering import page as render
from worker.web.visits import page

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.responses import Response

    from worker.web.pages.media.drawing import Bar, Strip
    from worker.web.queries.media import MediaFacts, SeenAppearance
    from worker.web.queries.timeline import Lane
    from worker.web.queries.tracks import DroppedFace, FaceBox
    from worker.web.visits import Visit

PLAYABLE = frozenset({"matroska", "mov", "mp4", "ogg", "webm"})
"""Containers that browsers may play; whether they know the codec is seen in the browser."""
MAX_LANES = 30  # that are drawn unless all are asked for
MAX_ALL_LANES = 500
MAX_LISTED_APPEARANCES = 500  # appearances in the table


@dataclass(frozen=True, slots=True)
class FileView:
    """The part of a file that an address asks for."""

    at_seconds: float
    is_still: bool
    """One frame instead of the player."""
    person_id: int | None
    """Whose emotions and ages the strips show; None for all."""
    has_dropped: bool
    has_all: bool
    """Lanes of all people."""


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box in one frame."""

    seen: SeenAppearance
    box: FaceBox
    tone: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame with its boxes."""

    size: FrameSize
    boxes: tuple[DrawnBox, ...]
    dropped: tuple[DroppedFace, ...]
    moments: tuple[float, ...] = ()
    """Of an image with pages or frames: those that show faces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTimeline:
    """A video over time."""

    lanes: tuple[tuple[Lane, tuple[Bar, ...]], ...]
    hidden: int
    """Lanes that are left out."""
    emotions: Strip
    ages: Strip
    width: float = WIDTH
    height: float = STRIP_HEIGHT


def media_file(visit: Visit) -> Response:
    """Show a file."""
    media_id = visit.number("media_id")
    with visit.desk.reading() as connection:
        facts = read_facts(connection, media_id)
        if facts is None:
            raise HTTPException(404)
        view = _view(visit, facts)
        seen = read_seen(connection, media_id)
        is_video = facts.kind == "video"
        duration = length_of(facts, seen)
        return render(
            visit,
            "media/file.html",
            facts=facts,
            view=view,
            seen=seen[:MAX_LISTED_APPEARANCES],
            more=max(len(seen) - MAX_LISTED_APPEARANCES, 0),
            lanes=make_lanes(seen, duration),
            picture=_picture(connection, facts, view, seen) if view.is_still else Picture(frame_size(facts), (), ()),
            timeline=_timeline(connection, facts, seen, view) if is_video else None,
            duration_seconds=duration,
            dropped=count_dropped(connection, media_id),
            jobs=read_jobs(connection, media_id),
            query=dict(visit.request.query_params),
        )


def length_of(facts: MediaFacts, seen: list[SeenAppearance]) -> float:
    """Return the duration of a file; where the container does not state it, the time of the last face."""
    return facts.duration_seconds or max((one.end_seconds for one in seen), default=0.0) or 1.0


def _timeline(connection: Connection, facts: MediaFacts, seen: list[SeenAppearance], view: FileView) -> DrawnTimeline:
    """Return lanes and strips of a video."""
    duration = length_of(facts, seen)
    measure = TimeDivision(duration, facts.sample_interval_seconds)
    lanes = make_lanes(seen, duration)
    shown = lanes[: MAX_ALL_LANES if view.has_all else MAX_LANES]
    steps = read_strip(connection, facts.media_id, measure, view.person_id) if seen else []
    return DrawnTimeline(
        lanes=tuple((lane, tuple(lane_bars(lane, duration))) for lane in shown),
        hidden=len(lanes) - len(shown),
        emotions=emotion_strip(steps, duration),
        ages=age_strip(steps, duration),
    )


def _view(visit: Visit, facts: MediaFacts) -> FileView:
    """Read what the address asks for.

    Raises:
        UsageError: a value is none of those that can be asked for.
    """
    query = visit.request.query_params
    wanted = choice_of(query, "view", ("still", "video"))
    default = "video" if facts.kind == "video" and facts.format in PLAYABLE else "still"
    return FileView(
        at_seconds=decimal_of(query, "at") or 0.0,
        is_still=(wanted or default) == "still" or facts.kind != "video",
        person_id=whole_of(query, "person", least=1),
        has_dropped=choice_of(query, "dropped", ("1",)) is not None,
        has_all=choice_of(query, "people", ("all",)) is not None,
    )


def _picture(connection: Connection, facts: MediaFacts, view: FileView, seen: list[SeenAppearance]) -> Picture:
    """Return the boxes of one frame."""
    at, size = view.at_seconds, frame_size(facts)
    moments: tuple[float, ...] = ()
    if facts.kind == "image" and (facts.frame_count or 0) > 1:
        moments = tuple(read_frame_times(connection, facts.media_id))
        found = read_frame_size(connection, facts.media_id, at)
        size = size if found is None else FrameSize(*found)
    tracks = read_tracks(connection, seen, size, at, at)
    drawn = [(track.appearance, box) for track in tracks if (box := track.box_at(at)) is not None]
    dropped = read_dropped(connection, facts.media_id, size, at, at) if view.has_dropped else []
    boxes = tuple(DrawnBox(one, box, person_tone(number_of(one))) for one, box in drawn)
    return Picture(size, boxes, tuple(dropped), moments)


def number_of(seen: SeenAppearance) -> int:
    """Return the number that decides a colour: that of the person, or of the appearance where there is none."""
    return seen.appearance_id if seen.person_id is None else seen.person_id


ROUTES = [page("/media/{media_id:int}", media_file)]
