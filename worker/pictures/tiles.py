"""Reads the tiles of contact sheets: the best face of each appearance, with facts about the person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from worker.pictures.sheets import Tile
from worker.visible import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Row, TextClause
    from sqlalchemy.orm import Session

    from worker.identity.merge_candidates import MergeCandidate
    from worker.identity.search.searcher import AppearanceHit, PersonHit, SearchResult
    from worker.storage.crops import CropStore

    Crop = NDArray[np.uint8]
    TileRow = Row[tuple[object, ...]]

CROP_SIZE = 112  # pixels; aligned crops are squares of this side

_NO_CROP = np.full((CROP_SIZE, CROP_SIZE, 3), 200, np.uint8)  # plain grey, where the crop store no longer has the face

# A crop is gone where its strip has no row.
_WITH_CROP = "face_embedding e JOIN face f USING (face_id) JOIN crop_strip s USING (unit_id, strip_no)"
_HAS_CROP = f"EXISTS (SELECT FROM {_WITH_CROP} WHERE e.appearance_id = a.appearance_id)"
_OF_JOB = "SELECT DISTINCT media_id FROM job_item WHERE job_id = :job"
_ORDER = "appearance_count DESC NULLS LAST, a.person_id, a.quality DESC, a.appearance_id"

# Appearances are chosen first, and their crops and predictions are read for the chosen ones alone. Each way starts from
# what it has little of: the job's files, the person's appearances, or the people who appear most.
_CHOSEN_OF_PERSON = f"""
    SELECT a.appearance_id, p.name, p.appearance_count
    FROM appearances a JOIN people p USING (person_id)
    WHERE a.person_id = :person AND (cast(:job AS bigint) IS NULL OR a.media_id IN ({_OF_JOB})) AND {_HAS_CROP}
    ORDER BY a.quality DESC, a.appearance_id LIMIT :limit"""  # noqa: S608 - the constants above
_CHOSEN_OF_JOB = f"""
    SELECT a.appearance_id, p.name, p.appearance_count
    FROM ({_OF_JOB}) j
    CROSS JOIN LATERAL (
        SELECT appearance_id, person_id, quality FROM appearances a
        WHERE a.media_id = j.media_id AND {_HAS_CROP} OFFSET 0
    ) a
    LEFT JOIN people p USING (person_id)
    ORDER BY p.{_ORDER} LIMIT :limit"""  # noqa: S608 - the constants above
_FEW_OF_JOB = f"""
    SELECT appearance_id, name, appearance_count FROM (
        SELECT a.*, p.name, p.appearance_count, row_number() OVER of_person AS place FROM ({_OF_JOB}) j
        CROSS JOIN LATERAL (
            SELECT appearance_id, person_id, quality FROM appearances a
            WHERE a.media_id = j.media_id AND {_HAS_CROP} OFFSET 0
        ) a
        LEFT JOIN people p USING (person_id)
        WINDOW of_person AS (PARTITION BY a.person_id ORDER BY a.quality DESC, a.appearance_id)
    ) a
    WHERE place <= :per_person OR person_id IS NULL
    ORDER BY a.{_ORDER} LIMIT :limit"""  # noqa: S608 - the constants above
_CHOSEN_OF_GIVEN = f"""
    SELECT appearance_id, name, appearance_count FROM (
        SELECT a.appearance_id, a.person_id, a.quality, p.name, p.appearance_count, row_number() OVER of_person AS place
        FROM (SELECT DISTINCT unnest(cast(:given AS bigint[])) AS appearance_id) g
        JOIN appearances a USING (appearance_id) LEFT JOIN people p USING (person_id)
        WHERE (cast(:job AS bigint) IS NULL OR a.media_id IN ({_OF_JOB})) AND {_HAS_CROP}
        WINDOW of_person AS (PARTITION BY a.person_id ORDER BY a.quality DESC, a.appearance_id)
    ) a
    WHERE place <= :per_person OR person_id IS NULL
    ORDER BY a.{_ORDER} LIMIT :limit"""  # noqa: S608 - the constants above
_CHOSEN_OF_ALL = f"""
    SELECT a.appearance_id, p.name, p.appearance_count
    FROM (SELECT person_id, name, appearance_count FROM people ORDER BY appearance_count DESC, person_id) p
    CROSS JOIN LATERAL (
        SELECT appearance_id, quality FROM appearances a WHERE a.person_id = p.person_id AND {_HAS_CROP}
        ORDER BY quality DESC, appearance_id LIMIT :per_person
    ) a
    ORDER BY p.appearance_count DESC, p.person_id, a.quality DESC, a.appearance_id LIMIT :limit"""  # noqa: S608 - the constants above
_CHOSEN_OF_NOBODY = f"""
    SELECT a.appearance_id, NULL::text AS name, NULL::integer AS appearance_count
    FROM appearances a WHERE a.person_id IS NULL AND {_HAS_CROP}
    ORDER BY a.quality DESC, a.appearance_id LIMIT :limit"""  # noqa: S608 - the constants above


def _tile_query(chosen: str) -> TextClause:
    """Return the query of the tiles of chosen appearances: people by the number of theirs, each the best face first."""
    return text(f"""
    WITH chosen AS MATERIALIZED ({chosen})
    SELECT a.appearance_id, a.media_id, a.person_id, c.name, c.appearance_count, a.quality, a.gender,
           a.gender_confidence, a.age, a.age_low, a.age_high, a.emotion, a.emotion_confidence, a.ethnicity,
           a.ethnicity_confidence, a.start_seconds, m.kind, m.uri, best.crop_uri, best.crop_index
    FROM chosen c JOIN appearances a USING (appearance_id)
    JOIN LATERAL (
        SELECT s.uri AS crop_uri, f.crop_index FROM {_WITH_CROP} WHERE e.appearance_id = a.appearance_id
        ORDER BY f.face_id = a.best_face_id DESC, f.quality DESC, f.face_id LIMIT 1
    ) best ON true
    JOIN media m ON m.media_id = a.media_id
    ORDER BY c.{_ORDER}""")  # noqa: S608 - constants of this module


_OF_PERSON = _tile_query(_CHOSEN_OF_PERSON)
_OF_A_JOB = _tile_query(_CHOSEN_OF_JOB)
_FEW_OF_A_JOB = _tile_query(_FEW_OF_JOB)
_OF_GIVEN = _tile_query(_CHOSEN_OF_GIVEN)
_OF_ALL = _tile_query(_CHOSEN_OF_ALL)
_OF_NOBODY = _tile_query(_CHOSEN_OF_NOBODY)

_CROPS = text(f"""
    SELECT DISTINCT ON (a.appearance_id) a.appearance_id, s.uri AS crop_uri, f.crop_index
    FROM appearances a JOIN ({_WITH_CROP}) ON e.appearance_id = a.appearance_id
    WHERE a.appearance_id = ANY(:appearances)
    ORDER BY a.appearance_id, f.face_id = a.best_face_id DESC, f.quality DESC, f.face_id""")  # noqa: S608 - a constant

_BEST = text("""
    SELECT DISTINCT ON (person_id) person_id, appearance_id FROM appearances
    WHERE person_id = ANY(:people) ORDER BY person_id, quality DESC, appearance_id""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which appearances are drawn."""

    job_id: int | None = None
    """Of the files of this job."""
    person_id: int | None = None
    """Of this person."""
    appearances: Sequence[int] | None = None
    """Of these; None for all."""
    per_person: int | None = None
    """Largest number of each person, the best ones; appearances without a person are not counted together."""
    limit: int = 200
    """Largest number of all."""


class TileReader:
    """Reads crops and facts, and makes tiles of them.

    Args:
        session: a session that may read the tables.
        crops: the crop store of the same deployment.
    """

    def __init__(self, session: Session, crops: CropStore) -> None:
        self._session = session
        # Crops of one strip follow each other where they belong to one file.
        self._strip = lru_cache(maxsize=8)(lambda name: crops.read(name, CROP_SIZE))

    def tiles(self, choice: Choice) -> list[Tile]:
        """Return the best face of each appearance: best first within a person, the most seen person first."""
        rows = read_tile_rows(self._session, choice)
        return [
            Tile(pixels=self._strip(row.crop_uri)[row.crop_index], captions=_captions(row), group=_group(row))
            for row in rows
        ]

    def best_of_person(self, person_id: int) -> Crop | None:
        """Return the best face of a person, None where its crop is gone."""
        rows = self._session.execute(_BEST, {"people": [person_id]}).all()
        return self.best_of_appearance(int(rows[0].appearance_id)) if rows else None

    def best_of_appearance(self, appearance_id: int) -> Crop | None:
        """Return the best face of an appearance, None where its crop is gone."""
        return self._crops([appearance_id]).get(appearance_id)

    def of_pairs(self, pairs: Sequence[MergeCandidate]) -> list[Tile]:
        """Return the tiles of merge candidates: the best face of the one person, then of the other."""
        ids = sorted({side.person_id for pair in pairs for side in (pair.first, pair.second)})
        best = {row.person_id: row.appearance_id for row in self._session.execute(_BEST, {"people": ids})}
        crops = self._crops(list(best.values()))
        return [
            Tile(
                pixels=crops.get(best.get(side.person_id, -1), _NO_CROP),
                captions=(side.name or f"person {side.person_id}", counted(side.appearances, "appearance")),
                group=f"{pair.first.person_id} and {pair.second.person_id}: similarity {pair.similarity:.2f}",
            )
            for pair in pairs
            for side in (pair.first, pair.second)
        ]

    def of_search(self, result: SearchResult) -> list[Tile]:
        """Return the tiles of a search result: people by their best face, then appearances."""
        ids = [hit.person_id for hit in result.people]
        best = {row.person_id: row.appearance_id for row in self._session.execute(_BEST, {"people": ids})}
        crops = self._crops([*best.values(), *(hit.appearance_id for hit in result.appearances)])
        people = [(crops.get(best.get(hit.person_id, -1)), "people", _person_captions(hit)) for hit in result.people]
        seen = [(crops.get(hit.appearance_id), "appearances", _hit_captions(hit)) for hit in result.appearances]
        return [
            Tile(pixels=_NO_CROP if crop is None else crop, captions=captions, group=group)
            for crop, group, captions in (*people, *seen)
        ]

    def _crops(self, appearances: Sequence[int]) -> dict[int, Crop]:
        rows = self._session.execute(_CROPS, {"appearances": list(appearances)}).all()
        rows = sorted(rows, key=lambda row: str(row.crop_uri))
        return {row.appearance_id: self._strip(row.crop_uri)[row.crop_index] for row in rows}


def read_tile_rows(session: Session, choice: Choice) -> Sequence[TileRow]:
    """Return the facts of the best face of each chosen appearance.

    Best first within a person, the person with most appearances first, appearances without a person last.
    """
    few = min(choice.limit, choice.per_person or choice.limit)
    values = {"job": choice.job_id, "person": choice.person_id, "limit": choice.limit, "per_person": few}
    if choice.appearances is not None:
        return session.execute(_OF_GIVEN, values | {"given": list(choice.appearances)}).all()
    if choice.person_id is not None:
        return session.execute(_OF_PERSON, values | {"limit": few}).all()
    if choice.job_id is not None:
        return session.execute(_OF_A_JOB if choice.per_person is None else _FEW_OF_A_JOB, values).all()
    rows = session.execute(_OF_ALL, values).all()
    left = choice.limit - len(rows)
    return [*rows, *session.execute(_OF_NOBODY, {"limit": left})] if left else rows


def _group(row: TileRow) -> str:
    if row.person_id is None:
        return "nobody yet"
    who = f"{row.person_id} {row.name}" if row.name else f"person {row.person_id}"  # the number in front is never cut
    return f"{who}: {row.appearance_count}"


def _captions(row: TileRow) -> tuple[str, ...]:
    lines = [_position(row.uri, row.kind, row.start_seconds)]
    if row.age is not None:
        lines.append(f"{row.age:.0f} y ({row.age_low:.0f}-{row.age_high:.0f})")
    for what, label, confidence in (
        ("gender", row.gender, row.gender_confidence),
        ("ethnicity", row.ethnicity, row.ethnicity_confidence),
        ("emotion", row.emotion, row.emotion_confidence),
    ):
        if label is not None:
            lines.append(f"{what if label == 'unknown' else label} {'? ' * (label == 'unknown')}{confidence:.2f}")
    return (*lines, f"quality {row.quality:.2f}", f"appearance {row.appearance_id}", f"media {row.media_id}")


def _person_captions(hit: PersonHit) -> tuple[str, ...]:
    return (
        hit.name or f"person {hit.person_id}",
        *_likeness(hit),
        counted(hit.appearance_count, "appearance"),
    )


def _hit_captions(hit: AppearanceHit) -> tuple[str, ...]:
    who = hit.name or ("nobody yet" if hit.person_id is None else f"person {hit.person_id}")
    return (who, *_likeness(hit), _position(hit.uri, hit.kind, hit.start_seconds))


def _likeness(hit: PersonHit | AppearanceHit) -> tuple[str, ...]:
    chance = () if hit.probability is None else (f"same: {100 * hit.probability:.1f} %",)
    return (f"similarity {hit.similarity:.2f}", *chance)


def _position(uri: str, kind: str, start_seconds: float) -> str:
    name = uri.replace("\\", "/").rpartition("/")[2]
    return name if kind == "image" else f"{_clock(start_seconds)} {name}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
