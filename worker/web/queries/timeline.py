"""Reads a video over time: a lane for each person, and strips of emotion and age."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from worker.web.queries.media import SeenAppearance

MAX_STEPS = 200  # of a strip, at most: a few pixels each
MAX_STEP_FACES = 100_000  # that a strip is made of: a day of video with one person
LANE_STEPS = 1000  # parts of a lane: segments that are less than one apart are drawn as one

_STRIP = text("""
    SELECT least(floor((at_seconds + 0.000001) / :step)::integer, :last) AS place, emotion,
           sum(greatest(hold_seconds, 0.001)) AS seconds, sum(age * greatest(hold_seconds, 0.001)) AS ages,
           sum(greatest(hold_seconds, 0.001)) FILTER (WHERE age IS NOT NULL) AS aged, min(age) AS youngest,
           max(age) AS oldest
    FROM (
        SELECT at_seconds, hold_seconds, emotion, age FROM faces
        WHERE media_id = :id AND dropped_reason IS NULL
            AND (cast(:person AS bigint) IS NULL OR person_id = :person)
        LIMIT :rows
    ) AS f
    GROUP BY place, emotion ORDER BY place""")
_MOMENTS = text("""
    SELECT DISTINCT at_seconds FROM faces WHERE media_id = :id ORDER BY at_seconds LIMIT :rows""")
_SIZE = text("""
    SELECT frame_width, frame_height FROM faces
    WHERE media_id = :id AND at_seconds BETWEEN :at - 0.001 AND :at + 0.001 LIMIT 1""")


@dataclass(frozen=True, slots=True)
class TimeInView:
    """A time in view, drawn as one."""

    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A person over the time of a video."""

    person_id: int | None
    """None for appearances without a person, which share a lane."""
    label: str
    best_face_id: int | None
    screen_seconds: float
    appearance_count: int
    age: float | None
    """Mean over time in view."""
    gender: str | None
    segments: tuple[TimeInView, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a strip: all faces in view in a stretch of time."""

    start_seconds: float
    end_seconds: float
    emotions: tuple[tuple[str, float], ...]
    """Labels with their shares of the time in view, the largest first; unknown is among them."""
    age: float | None
    """Mean."""
    youngest: float | None
    oldest: float | None


def make_lanes(seen: Iterable[SeenAppearance], duration_seconds: float) -> list[Lane]:
    """Return a lane for each person, those longest in view first; appearances without a person come last.

    Args:
        seen: appearances of a video in order of time.
        duration_seconds: of the video.
    """
    people: dict[int | None, list[SeenAppearance]] = defaultdict(list)
    for one in seen:
        people[one.person_id].append(one)
    lanes = [_lane(own, duration_seconds / LANE_STEPS) for own in people.values()]
    return sorted(lanes, key=lambda lane: (lane.person_id is None, -lane.screen_seconds, lane.person_id or 0))


@dataclass(frozen=True, slots=True)
class TimeDivision:
    """How finely the time of a video is divided."""

    duration_seconds: float
    sample_interval_seconds: float | None
    """Between two analysed frames; None where every frame was analysed."""

    @property
    def steps(self) -> int:
        """Parts of a strip: no more than frames were analysed, so that none is empty between two."""
        frames = self.duration_seconds / (self.sample_interval_seconds or 0.001)
        return max(min(MAX_STEPS, round(frames)), 1)


def read_strip(
    connection: Connection, media_id: int, division: TimeDivision, person_id: int | None = None
) -> list[Step]:
    """Return emotion and age over the time of a video; stretches without a face are left out.

    Args:
        connection: of the reader.
        media_id: the video.
        division: its duration and sampling.
        person_id: only of this person; None for all.
    """
    step = max(division.duration_seconds, 0.001) / division.steps
    values = {"id": media_id, "step": step, "last": division.steps - 1, "person": person_id, "rows": MAX_STEP_FACES}
    places = defaultdict(list)
    for row in connection.execute(_STRIP, values):
        places[row.place].append(row)
    return [_step(place * step, (place + 1) * step, rows) for place, rows in sorted(places.items())]


def read_frame_times(connection: Connection, media_id: int, rows: int = 500) -> list[float]:
    """Return the times of those frames of a file that show faces: pages of an image, frames of an animation."""
    return list(connection.scalars(_MOMENTS, {"id": media_id, "rows": rows}))


def read_frame_size(connection: Connection, media_id: int, at_seconds: float) -> tuple[int, int] | None:
    """Return width and height of the frame at a time; None where no face was found in it."""
    row = connection.execute(_SIZE, {"id": media_id, "at": at_seconds}).one_or_none()
    return None if row is None or not row.frame_width or not row.frame_height else (row.frame_width, row.frame_height)


def _lane(own: Sequence[SeenAppearance], gap_seconds: float) -> Lane:
    best = max(own, key=lambda one: (one.best_face_id is not None, one.quality or 0.0))
    aged = [one for one in own if one.age is not None]
    weight = sum(one.screen_seconds or 0.001 for one in aged)
    return Lane(
        person_id=best.person_id,
        label=best.label,
        best_face_id=best.best_face_id,
        screen_seconds=sum(one.screen_seconds for one in own),
        appearance_count=len(own),
        age=sum((one.age or 0.0) * (one.screen_seconds or 0.001) for one in aged) / weight if aged else None,
        gender=best.gender,
        segments=_joined(own, gap_seconds),
    )


def _joined(own: Sequence[SeenAppearance], gap_seconds: float) -> tuple[TimeInView, ...]:
    """Join times in view that a reader could not tell apart; a face stands until the end of its frame."""
    segments: list[TimeInView] = []
    for one in own:
        end = max(one.end_seconds, one.start_seconds + one.screen_seconds)
        if segments and one.start_seconds - segments[-1].end_seconds <= gap_seconds:
            segments[-1] = TimeInView(segments[-1].start_seconds, max(segments[-1].end_seconds, end))
        else:
            segments.append(TimeInView(one.start_seconds, end))
    return tuple(segments)


def _step(start: float, end: float, rows: Sequence[Any]) -> Step:
    whole = sum(row.seconds for row in rows)
    emotions = sorted(((row.emotion, row.seconds / whole) for row in rows if row.emotion), key=lambda pair: -pair[1])
    ages, aged = sum(row.ages or 0.0 for row in rows), sum(row.aged or 0.0 for row in rows)
    young = [row.youngest for row in rows if row.youngest is not None]
    old = [row.oldest for row in rows if row.oldest is not None]
    return Step(
        start, end, tuple(emotions), ages / aged if aged else None, min(young, default=None), max(old, default=None)
    )
