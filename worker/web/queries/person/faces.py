"""The appearances of a person, those furthest from its centre first, or in sub-groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from worker.identity.grouping.in_view import connected_components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Connection

FACES_A_PAGE = 60  # faces
MAX_RANKED = 20_000  # appearances, the latest; a sixth of a second
MAX_CENTRED = 2000  # appearances whose mean is the centre, the clearest
MAX_GROUPED = 600  # appearances, the clearest: the page takes a fifth of a second
MAX_SHOWN_OF_GROUP = 60  # faces, the clearest; groups of intruders are smaller
# Cosine from which two appearances are in one sub-group. Above the 0.52 from which identification joins means, so that
# the parts of a person that was joined wrongly come apart.
SUBGROUP = 0.6

# The centre is the mean of the clear appearances, as that of the gallery; without any, of all. Rounded, so that the sum
# in another order gives the same page border; as a float, since numbers in decimals cost more than the cosines.
_RANKED = f"""
    WITH own AS MATERIALIZED (
        SELECT appearance_id, media_id, start_seconds, end_seconds, best_face_id, half_embedding, quality
        FROM appearances WHERE person_id = :person AND half_embedding IS NOT NULL
        ORDER BY appearance_id DESC LIMIT :compared
    ), centre AS (
        SELECT coalesce(
            (SELECT avg(c.half_embedding) FROM (
                SELECT half_embedding FROM own WHERE quality >= 0.3
                ORDER BY quality DESC, appearance_id LIMIT {MAX_CENTRED}) c),
            (SELECT avg(c.half_embedding) FROM (
                SELECT half_embedding FROM own ORDER BY quality DESC, appearance_id LIMIT {MAX_CENTRED}) c)
        ) AS mean
    ), ranked AS (
        SELECT own.*, coalesce(round((1 - (half_embedding <=> mean)) * 100000) / 100000, 0) AS likeness
        FROM own, centre
    )"""  # noqa: S608 - constants
_FURTHEST = text(f"""
    {_RANKED}
    SELECT r.appearance_id, r.media_id, m.uri, m.kind, r.start_seconds, r.end_seconds, r.best_face_id, r.likeness,
           r.quality
    FROM (SELECT * FROM ranked
          WHERE (likeness, appearance_id) > (cast(:likeness AS float8), cast(:appearance AS bigint))
          ORDER BY likeness, appearance_id LIMIT :limit) r
    JOIN media m USING (media_id)
    ORDER BY r.likeness, r.appearance_id""")  # noqa: S608 - constants
_CLEAREST = text(f"""
    {_RANKED}
    SELECT r.appearance_id, r.media_id, m.uri, m.kind, r.start_seconds, r.end_seconds, r.best_face_id, r.likeness,
           r.quality, cast(r.half_embedding AS real[]) AS embedding
    FROM (SELECT * FROM ranked ORDER BY quality DESC NULLS LAST, appearance_id LIMIT :limit) r
    JOIN media m USING (media_id)""")  # noqa: S608 - constants


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFace:
    """An appearance of a person."""

    appearance_id: int
    media_id: int
    uri: str
    kind: str
    start_seconds: float
    end_seconds: float
    best_face_id: int | None
    likeness: float
    """Cosine to the person's centre, rounded."""
    quality: float


@dataclass(frozen=True, slots=True)
class FacePlace:
    """Where a page ends in the order of likeness."""

    likeness: float = -2.0
    """Below every cosine."""
    appearance_id: int = 0

    def __str__(self) -> str:
        return f"{self.likeness:.5f},{self.appearance_id}"


@dataclass(frozen=True, slots=True)
class FacePage:
    """Some faces of a person."""

    faces: tuple[PersonFace, ...]
    after: FacePlace | None
    """Where the next page begins; None on the last one."""


@dataclass(frozen=True, slots=True)
class SubGroup:
    """Appearances of a person that resemble each other."""

    faces: tuple[PersonFace, ...]
    """The clearest first, up to `MAX_SHOWN_OF_GROUP`."""
    count: int
    """Of all its faces."""


def furthest_faces(
    connection: Connection,
    person_id: int,
    after: FacePlace | None = None,
    *,
    limit: int = FACES_A_PAGE,
    compared: int = MAX_RANKED,
) -> FacePage:
    """Return the latest appearances of a person, those least like its mean first."""
    after = after or FacePlace()
    place = {"likeness": after.likeness, "appearance": after.appearance_id}
    bounds = place | {"person": person_id, "limit": limit + 1, "compared": compared}
    found = [PersonFace(**row._mapping) for row in connection.execute(_FURTHEST, bounds)]  # noqa: SLF001 - the documented way
    last = found[limit - 1] if len(found) > limit else None
    return FacePage(tuple(found[:limit]), None if last is None else FacePlace(last.likeness, last.appearance_id))


def face_groups(connection: Connection, person_id: int, *, limit: int = MAX_GROUPED) -> list[SubGroup]:
    """Return the clearest appearances of a person in sub-groups, the smallest first: intruders are few.

    Two appearances are in one sub-group if a chain of similar ones connects them.
    """
    rows = connection.execute(_CLEAREST, {"person": person_id, "limit": limit, "compared": MAX_RANKED}).all()
    if not rows:
        return []
    faces = [
        PersonFace(**{name: value for name, value in row._mapping.items() if name != "embedding"})  # noqa: SLF001 - as above
        for row in rows
    ]
    component = _components(np.array([row.embedding for row in rows], np.float32))
    return sorted(
        (_group(faces, np.flatnonzero(component == number)) for number in np.unique(component)),
        key=lambda group: (group.count, group.faces[0].likeness),
    )


def _components(embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    units = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-6)
    first, second = np.nonzero(np.triu(units @ units.T >= SUBGROUP, 1))
    return connected_components(len(units), np.stack([first, second], axis=1))


def _group(faces: Sequence[PersonFace], rows: NDArray[np.int64]) -> SubGroup:
    return SubGroup(tuple(faces[row] for row in rows[:MAX_SHOWN_OF_GROUP].tolist()), len(rows))
