"""Draws a stratified random sample of faces: at most one an appearance, as many of each stratum as possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.errors import QueryError
from db.reader.run_query import run_query
from worker.errors import UsageError
from worker.types import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STRATA: Mapping[str, str] = {
    "gender": "coalesce(f.gender, 'none')",
    "ethnicity": "coalesce(f.ethnicity, 'none')",
    "emotion": "coalesce(f.emotion, 'none')",
    "age": "CASE WHEN f.age IS NULL THEN 'none' WHEN f.age >= 70 THEN '70 and more' "
    "ELSE (floor(f.age / 10) * 10)::integer || ' to ' || (floor(f.age / 10) * 10)::integer + 9 END",
    "quality": "CASE WHEN f.quality IS NULL THEN 'none' "
    "ELSE (least(floor(f.quality * 4), 3) * 0.25)::numeric(3, 2) || ' and more' END",
    "kind": "m.kind",
}
"""Properties that a sample can be stratified by: name, and expression over a face and its file."""

# One face of each appearance, at random: the frames of an appearance are nearly the same. The order of the hashes is
# that of the draw, so that a seed gives the same sample as long as the archive stays the same.
_QUERY = """
WITH one AS (
    SELECT DISTINCT ON (f.appearance_id)
        f.face_id, f.media_id, m.uri, f.at_seconds, f.crop_uri, f.crop_index, ARRAY[{strata}]::text[] AS stratum
    FROM faces AS f JOIN media AS m USING (media_id)
    WHERE f.appearance_id IS NOT NULL AND f.dropped_reason IS NULL AND f.crop_uri IS NOT NULL {conditions}
    ORDER BY f.appearance_id, md5(%(seed)s || ' face ' || f.face_id)
), ranked AS (
    SELECT one.*, count(*) OVER (PARTITION BY stratum) AS population,
        row_number() OVER (PARTITION BY stratum ORDER BY md5(%(seed)s || ' draw ' || face_id), face_id) AS place
    FROM one
)
SELECT face_id, media_id, uri, at_seconds, crop_uri, crop_index, stratum, population, place
FROM ranked WHERE place <= %(count)s ORDER BY stratum, place
"""
_HEADS = "SELECT DISTINCT head, labels FROM predictions WHERE face_id = ANY(%(faces)s) AND head = ANY(%(heads)s)"
LABELLED_HEADS = ("gender", "ethnicity", "emotion", "age")
_JOB = "AND f.media_id IN (SELECT i.media_id FROM files AS i WHERE i.job_id = %(job)s)"
_WHERE = "AND f.face_id IN (SELECT face_id FROM faces JOIN media USING (media_id) WHERE ({where}\n))"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """Which faces are drawn."""

    count: int
    stratify: tuple[str, ...] = ()
    """Names of ``STRATA``; none: a simple random sample."""
    seed: str = "1"
    job_id: int | None = None
    where: str | None = None
    """SQL condition over the columns of faces and media."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledFace:
    """A face of the sample."""

    face_id: int
    media_id: int
    uri: str
    at_seconds: float
    crop_uri: str
    crop_index: int
    stratum: int
    """Place of its stratum in the list of strata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """A part of the archive from which faces are drawn on their own."""

    values: tuple[str, ...]
    """In the order of the request."""
    population: int
    """Number of its appearances."""
    sampled: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Faces with the strata that they stand for."""

    faces: tuple[SampledFace, ...]
    strata: tuple[Stratum, ...]


def draw_sample(url: str, request: SampleRequest, timeout_seconds: float = 600.0) -> Sample:
    """Draw a sample as the reader.

    Raises:
        UsageError: a stratum has no such name, or there is no face to draw.
        QueryError: the condition is wrong.
    """
    if unknown := [name for name in request.stratify if name not in STRATA]:
        raise UsageError(f"{', '.join(unknown)} is nothing to stratify by, expected some of {', '.join(STRATA)}")
    conditions = [_JOB] if request.job_id is not None else []
    if request.where is not None:
        conditions.append(_WHERE.format(where=request.where.replace("%", "%%")))
    strata = ", ".join(STRATA[name] for name in request.stratify)
    query = _QUERY.format(strata=strata, conditions=" ".join(conditions))
    given = {"seed": request.seed, "job": request.job_id, "count": request.count}
    try:
        with run_query(url, query, parameters=given, timeout_seconds=timeout_seconds) as rows:
            found = [dict(zip(rows.columns, row, strict=True)) for row in rows]
    except QueryError as err:
        if request.where is None:
            raise
        raise QueryError(
            f"{' '.join(str(err).split())}; expected a condition over the columns of faces and media (docs/sql.md), "
            "such as: kind = 'image' AND quality > 0.5"
        ) from err
    if not found:
        raise UsageError("no face with a crop is selected; the views faces and media show what there is")
    return _chosen(found, request.count)


def _chosen(rows: Sequence[Mapping[str, object]], count: int) -> Sample:
    populations = {tuple(str(value) for value in _list(row["stratum"])): int(str(row["population"])) for row in rows}
    sizes = dict(zip(populations, allocate(list(populations.values()), count), strict=True))
    kept = [values for values in populations if sizes[values]]
    numbers = {values: number for number, values in enumerate(kept)}
    columns = ("face_id", "media_id", "uri", "at_seconds", "crop_uri", "crop_index")
    faces = []
    for row in rows:
        values = tuple(str(value) for value in _list(row["stratum"]))
        if int(str(row["place"])) <= sizes[values]:
            facts = {name: row[name] for name in columns}
            faces.append(SampledFace(**facts, stratum=numbers[values]))  # type: ignore[arg-type]
    strata = tuple(Stratum(values=one, population=populations[one], sampled=sizes[one]) for one in kept)
    return Sample(tuple(faces), strata)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def allocate(populations: Sequence[int], count: int) -> list[int]:
    """Return how many are drawn of each stratum: as many of each, and of small ones all.

    Where fewer are wanted than there are strata, the largest strata have one each.
    """
    sizes = [0] * len(populations)
    order = sorted(range(len(populations)), key=lambda place: -populations[place])
    left = min(count, sum(populations))
    while left:
        open_places = [place for place in order if sizes[place] < populations[place]]
        share = max(left // len(open_places), 1)
        for place in open_places:
            more = min(share, populations[place] - sizes[place], left)
            sizes[place] += more
            left -= more
    return sizes


def read_labelled_heads(url: str, sample: Sample) -> dict[str, tuple[str, ...]]:
    """Return the labels of the heads that people label and the active release has; none for the age.

    Raises:
        UsageError: it has no such head.
    """
    given = {"faces": [face.face_id for face in sample.faces], "heads": list(LABELLED_HEADS)}
    with run_query(url, _HEADS, parameters=given, timeout_seconds=300.0) as rows:
        found = {str(head): _list(labels) for head, labels in rows}
    if not found:
        raise UsageError("the active release has no head for gender, ethnicity, emotion or age; activate another")
    return {
        head: () if head == "age" else tuple(str(label) for label in found[head] if label != UNKNOWN)
        for head in LABELLED_HEADS
        if head in found
    }
