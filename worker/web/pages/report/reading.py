"""Puts a report together from the queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.types import UNKNOWN
from worker.visible import visible
from worker.web.pages.media.drawing import STRIP_HEIGHT, WIDTH, age_strip, emotion_strip, emotion_tone
from worker.web.pages.report.groups import group_errors
from worker.web.queries.media import read_facts, read_names
from worker.web.queries.report.method import read_release
from worker.web.queries.report.outcomes import (
    count_left_out,
    read_dropped_reasons,
    read_failures,
    read_job,
    read_outcomes,
    read_reasons,
)
from worker.web.queries.report.people import (
    count_people,
    read_emotions,
    read_moments,
    read_reported_people,
    read_screen_time,
    read_videos,
)
from worker.web.queries.timeline import read_strip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from worker.web.pages.media.drawing import Strip
    from worker.web.pages.report.groups import GroupErrors
    from worker.web.queries.report.method import ReportedRelease
    from worker.web.queries.report.outcomes import Failure, OutcomeCount, ReasonCount
    from worker.web.queries.report.people import (
        EmotionTime,
        Moment,
        PeopleCount,
        ReportedPerson,
        ReportedVideo,
        ScreenTime,
    )
    from worker.web.queries.report.scope import ReportScope

GENDERS = ("female", "male", UNKNOWN)


@dataclass(frozen=True, slots=True)
class VideoStrips:
    """Emotion and age over the time of a video."""

    video: ReportedVideo
    emotions: Strip
    ages: Strip


@dataclass(frozen=True, slots=True)
class ScreenBar:
    """Time in view in one band of ages, with the share of the longest bar for each gender."""

    band: str
    parts: tuple[tuple[str, ScreenTime, float], ...]
    """Gender, its time, and its length from 0 to 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a report shows."""

    scope: ReportScope
    title: str
    subtitle: str
    made_at: datetime
    outcomes: tuple[OutcomeCount, ...]
    left_out: int
    """Later files of a large job, which the report says nothing about."""
    reasons: tuple[ReasonCount, ...]
    failures: tuple[Failure, ...]
    dropped: tuple[ReasonCount, ...]
    counts: PeopleCount
    people: tuple[ReportedPerson, ...]
    screen: tuple[ScreenBar, ...]
    is_counted: bool
    """Whether bars show appearances, because all of them are in images."""
    emotions: tuple[tuple[EmotionTime, str, float], ...]
    """With the class of the colour and the share."""
    strips: tuple[VideoStrips, ...]
    moments: tuple[Moment, ...]
    release: ReportedRelease | None
    groups: tuple[GroupErrors, ...]
    width: float = WIDTH
    height: float = STRIP_HEIGHT

    @property
    def files(self) -> int:
        """Number of files."""
        return sum(one.files for one in self.outcomes)

    @property
    def analysed(self) -> int:
        """Number of files that were analysed."""
        return sum(one.files for one in self.outcomes if one.status == "done")

    @property
    def seconds(self) -> float:
        """Duration of the videos that were analysed."""
        return sum(one.seconds for one in self.outcomes if one.status == "done")

    @property
    def faces(self) -> int:
        """Faces that were found in the files, dropped ones included."""
        return sum(one.faces for one in self.outcomes)


def read_report(connection: Connection, scope: ReportScope) -> Report:
    """Read a report.

    Args:
        connection: of the reader.
        scope: the subject.

    Raises:
        UsageError: there is no such subject.
    """
    title, subtitle = _title(connection, scope)
    screen = read_screen_time(connection, scope)
    is_counted = not any(one.seconds for one in screen)
    release = read_release(connection)
    return Report(
        scope=scope,
        title=title,
        subtitle=subtitle,
        made_at=datetime.now(UTC),
        outcomes=tuple(read_outcomes(connection, scope)),
        left_out=count_left_out(connection, scope),
        reasons=tuple(read_reasons(connection, scope)),
        failures=tuple(read_failures(connection, scope)),
        dropped=() if scope.kind == "person" else tuple(read_dropped_reasons(connection, scope)),
        counts=count_people(connection, scope),
        people=tuple(read_reported_people(connection, scope)),
        screen=_bars(screen, is_counted=is_counted),
        is_counted=is_counted,
        emotions=_shares(read_emotions(connection, scope)),
        strips=tuple(_strips(connection, one, scope) for one in read_videos(connection, scope)),
        moments=tuple(read_moments(connection, scope)),
        release=release,
        groups=() if release is None else group_errors(release.files),
    )


def _title(connection: Connection, scope: ReportScope) -> tuple[str, str]:
    """Return what a report is about, in a title and a line.

    Raises:
        UsageError: there is no such subject.
    """
    if scope.kind == "job":
        job = read_job(connection, scope.number)
        if job is None:
            raise UsageError(f"there is no job {scope.number}; `facet status` lists the jobs")
        return f"Job {job.job_id}: {visible(job.name)}", f"submitted {job.submitted_at:%Y-%m-%d %H:%M} UTC"
    if scope.kind == "media":
        facts = read_facts(connection, scope.number)
        if facts is None:
            raise UsageError(f"there is no file {scope.number}; the view media lists the numbers of files")
        return visible(facts.uri.rstrip("/").rpartition("/")[2]), visible(facts.uri)
    name = read_names(connection, [scope.number]).get(scope.number)
    if not count_people(connection, scope).appearances:
        raise UsageError(f"there is no person {scope.number}; see `facet people list`")
    return visible(name or f"Person {scope.number}"), f"person {scope.number}" if name else "without a name"


def _bars(screen: Sequence[ScreenTime], *, is_counted: bool) -> tuple[ScreenBar, ...]:
    """Return a bar for each band of ages, all in proportion to the longest one."""

    def length(one: ScreenTime) -> float:
        return one.appearances if is_counted else one.seconds

    bands = list(dict.fromkeys(one.age_from for one in screen))
    longest = max((sum(length(one) for one in screen if one.age_from == band) for band in bands), default=0.0) or 1.0
    bars = []
    for band in bands:
        own = sorted(
            (one for one in screen if one.age_from == band), key=lambda one: (one.gender not in GENDERS, one.gender)
        )
        parts = tuple((one.gender, one, round(100 * length(one) / longest, 2)) for one in own)
        bars.append(ScreenBar(_band(band), parts))
    return tuple(bars)


def _band(first: int | None) -> str:
    ends = {0: 2, 3: 9}
    if first is None:
        return "no age"
    return "70 and older" if first == 70 else f"{first} to {ends.get(first, first + 9)}"


def _shares(emotions: Sequence[EmotionTime]) -> tuple[tuple[EmotionTime, str, float], ...]:
    whole = sum(one.seconds for one in emotions) or 1.0
    return tuple((one, emotion_tone(one.label), one.seconds / whole) for one in emotions)


def _strips(connection: Connection, video: ReportedVideo, scope: ReportScope) -> VideoStrips:
    person = scope.number if scope.kind == "person" else None
    steps = read_strip(connection, video.media_id, video.measure, person)
    return VideoStrips(
        video, emotion_strip(steps, video.measure.duration_seconds), age_strip(steps, video.measure.duration_seconds)
    )
