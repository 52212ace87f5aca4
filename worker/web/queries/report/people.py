"""Reads who is in the files of a report, for how long, with which apparent gender, age and emotion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.visible import visible
from worker.web.queries.media import read_names
from worker.web.queries.timeline import TimeDivision

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from worker.types import MediaKind
    from worker.web.queries.report.scope import ReportScope

MAX_PICTURED_PEOPLE = 60  # with a picture
MAX_MOMENTS = 1000  # appearances that are listed
MAX_VIDEOS = 12  # with a strip of emotions

_PEOPLE = """
    SELECT a.person_id, count(*) AS appearances, count(DISTINCT a.media_id) AS files,
           sum(a.screen_seconds) AS seconds, sum(a.face_count) AS faces,
           (array_agg(a.best_face_id ORDER BY a.quality DESC NULLS LAST, a.appearance_id)
               FILTER (WHERE a.best_face_id IS NOT NULL))[1] AS best_face_id
    FROM appearances AS a WHERE {condition} AND a.person_id IS NOT NULL
    GROUP BY a.person_id ORDER BY seconds DESC, appearances DESC, a.person_id LIMIT :rows"""
_COUNT = """
    SELECT count(DISTINCT person_id) AS people, count(*) AS appearances,
           count(*) FILTER (WHERE person_id IS NULL) AS unassigned
    FROM appearances WHERE {condition}"""
_TOTALS = text("SELECT person_id, age, gender FROM people WHERE person_id = ANY (:ids)")
_SCREEN = """
    SELECT coalesce(gender, 'unknown') AS gender,
           CASE WHEN age < 3 THEN 0 WHEN age < 10 THEN 3 WHEN age IS NOT NULL THEN least(floor(age / 10) * 10, 70)
           END::integer AS age_from,
           sum(screen_seconds) AS seconds, count(*) AS appearances
    FROM appearances WHERE {condition} GROUP BY 1, 2 ORDER BY 2, 1"""
_EMOTIONS = """
    SELECT label, sum(share * weight) AS seconds
    FROM (
        SELECT e.key AS label, e.value::double precision AS share, greatest(a.screen_seconds, 0.5) AS weight
        FROM appearances AS a CROSS JOIN LATERAL jsonb_each_text(a.emotions) AS e
        WHERE {condition}
    ) AS s GROUP BY label ORDER BY seconds DESC"""
_MOMENTS = """
    SELECT a.appearance_id, a.media_id, m.uri, m.kind, a.person_id, a.start_seconds, a.end_seconds,
           a.screen_seconds, a.age, a.gender, a.emotion
    FROM appearances AS a JOIN media AS m USING (media_id)
    WHERE {condition} ORDER BY m.uri, a.start_seconds, a.ordinal LIMIT :rows"""
_VIDEOS = """
    SELECT a.media_id, m.uri, m.duration_seconds, m.sample_interval_seconds, max(a.end_seconds) AS last_seconds
    FROM appearances AS a JOIN media AS m USING (media_id)
    WHERE {condition} AND m.kind = 'video'
    GROUP BY a.media_id, m.uri, m.duration_seconds, m.sample_interval_seconds
    ORDER BY sum(a.screen_seconds) DESC, a.media_id LIMIT :rows"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedPerson:
    """A person in the files of a report."""

    person_id: int
    label: str
    appearances: int
    files: int
    seconds: float
    faces: int
    best_face_id: int | None
    age: float | None
    """Of the person in the whole archive."""
    gender: str | None


@dataclass(frozen=True, slots=True)
class PeopleCount:
    """How many people and appearances there are."""

    people: int
    appearances: int
    unassigned: int
    """Appearances without a person."""


@dataclass(frozen=True, slots=True)
class ScreenTime:
    """Time in view of one gender in one band of ages."""

    gender: str
    age_from: int | None
    """First year of the band; None without an age."""
    seconds: float
    appearances: int


@dataclass(frozen=True, slots=True)
class EmotionTime:
    """Time in view with one expression; an image counts half a second."""

    label: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An appearance that is listed."""

    appearance_id: int
    media_id: int
    uri: str
    kind: MediaKind
    person_id: int | None
    label: str
    start_seconds: float
    end_seconds: float
    screen_seconds: float
    age: float | None
    gender: str | None
    emotion: str | None


@dataclass(frozen=True, slots=True)
class ReportedVideo:
    """A video with appearances."""

    media_id: int
    uri: str
    measure: TimeDivision


def count_people(connection: Connection, scope: ReportScope) -> PeopleCount:
    """Count people and appearances of a subject."""
    return PeopleCount(*connection.execute(text(_COUNT.format(condition=scope.condition)), scope.values).one())


def read_reported_people(connection: Connection, scope: ReportScope) -> list[ReportedPerson]:
    """Return the people of a subject, those longest in view first."""
    query = text(_PEOPLE.format(condition=f"a.{scope.condition}"))
    rows = connection.execute(query, scope.values | {"rows": MAX_PICTURED_PEOPLE}).mappings().all()
    ids = [row["person_id"] for row in rows]
    names = read_names(connection, ids)
    totals = {row.person_id: row for row in connection.execute(_TOTALS, {"ids": ids})}
    return [
        ReportedPerson(
            **row,
            label=person_label(row["person_id"], names),
            age=totals[row["person_id"]].age if row["person_id"] in totals else None,
            gender=totals[row["person_id"]].gender if row["person_id"] in totals else None,
        )
        for row in rows
    ]


def read_screen_time(connection: Connection, scope: ReportScope) -> list[ScreenTime]:
    """Return the time in view by gender and age."""
    rows = connection.execute(text(_SCREEN.format(condition=scope.condition)), scope.values)
    return [ScreenTime(*row) for row in rows]


def read_emotions(connection: Connection, scope: ReportScope) -> list[EmotionTime]:
    """Return the time in view by emotion, the longest first."""
    rows = connection.execute(text(_EMOTIONS.format(condition=f"a.{scope.condition}")), scope.values)
    return [EmotionTime(*row) for row in rows]


def read_moments(connection: Connection, scope: ReportScope) -> list[Moment]:
    """Return appearances by file and time."""
    query = text(_MOMENTS.format(condition=f"a.{scope.condition}"))
    rows = connection.execute(query, scope.values | {"rows": MAX_MOMENTS}).mappings().all()
    names = read_names(connection, [row["person_id"] for row in rows if row["person_id"] is not None])
    return [Moment(**row, label=person_label(row["person_id"], names)) for row in rows]


def read_videos(connection: Connection, scope: ReportScope) -> list[ReportedVideo]:
    """Return the videos with the longest time in view."""
    query = text(_VIDEOS.format(condition=f"a.{scope.condition}"))
    rows = connection.execute(query, scope.values | {"rows": MAX_VIDEOS})
    return [
        ReportedVideo(
            row.media_id,
            row.uri,
            TimeDivision(row.duration_seconds or row.last_seconds or 1.0, row.sample_interval_seconds),
        )
        for row in rows
    ]


def person_label(person_id: int | None, names: dict[int, str]) -> str:
    """Return what a person is called in a report."""
    return "nobody yet" if person_id is None else visible(names.get(person_id) or f"person {person_id}")
