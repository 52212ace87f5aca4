"""Where the crop of a face lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

_OF_FACE = text("SELECT crop_uri, crop_index FROM faces WHERE face_id = :id AND crop_index IS NOT NULL")
_OF_APPEARANCE = text("""
    SELECT f.crop_uri, f.crop_index FROM appearances AS a JOIN faces AS f ON f.face_id = a.best_face_id
    WHERE a.appearance_id = :id AND f.crop_index IS NOT NULL""")


@dataclass(frozen=True, slots=True)
class CropPlace:
    """A crop in the store."""

    strip: str
    """Path of its strip below the store."""
    index: int
    """Place in the strip."""


def crop_of_face(connection: Connection, face_id: int) -> CropPlace | None:
    """Return the crop of a face; None where there is no such face, or none was kept."""
    row = connection.execute(_OF_FACE, {"id": face_id}).first()
    return None if row is None else CropPlace(row.crop_uri, row.crop_index)


def crop_of_appearance(connection: Connection, appearance_id: int) -> CropPlace | None:
    """Return the crop of an appearance's best face; None as for `crop_of_face`."""
    row = connection.execute(_OF_APPEARANCE, {"id": appearance_id}).first()
    return None if row is None else CropPlace(row.crop_uri, row.crop_index)
