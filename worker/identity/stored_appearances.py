"""Stored appearances, as identification reads them from the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from db.bulk.arrays import read_rows
from worker.identity.grouping.assign import AppearanceEmbeddings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.arrays import ColumnType

    Ids = NDArray[np.int64]

COLUMN_TYPES: Mapping[str, ColumnType] = {
    "appearance_id": "bigint", "person_id": "bigint", "media_id": "bigint", "start_seconds": "double precision",
    "end_seconds": "double precision", "quality": "real", "embedding": "vector",
}  # fmt: skip
STORED_COLUMNS = (  # embeddings are stored in 16 bits a number
    "s.appearance_id, coalesce(s.person_id, -1), s.media_id, s.start_seconds, s.end_seconds, s.quality, "
    "s.embedding::vector"
)
_BY_ID = f"""
    SELECT {STORED_COLUMNS} FROM facet.appearance s
    WHERE s.appearance_id = ANY(%(appearances)s) ORDER BY s.appearance_id"""  # noqa: S608 - constant columns


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StoredAppearances(AppearanceEmbeddings):
    """Appearances with their ids and the people that they have."""

    appearance: Ids
    """(N,) id of the appearance."""
    person: Ids
    """(N,) id of its person, -1 for none."""

    @classmethod
    def from_rows(cls, rows: NDArray[np.void]) -> Self:
        """Build the value from rows with the fields of `COLUMN_TYPES`."""
        return cls(
            appearance=rows["appearance_id"],
            person=rows["person_id"],
            embeddings=np.ascontiguousarray(rows["embedding"]),
            quality=rows["quality"],
            media=rows["media_id"],
            start_seconds=rows["start_seconds"],
            end_seconds=rows["end_seconds"],
        )


def read_stored_appearances(session: Session, appearances: Ids) -> StoredAppearances:
    """Read appearances by id, in order of id."""
    return StoredAppearances.from_rows(read_rows(session, _BY_ID, COLUMN_TYPES, {"appearances": appearances.tolist()}))
