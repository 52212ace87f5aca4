"""Reads the subjects of an annotated file: its appearances with their faces, as the views show them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from worker.errors import UsageError
from worker.pictures.annotate import Subject
from worker.storage.stamps import Expected
from worker.types import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from worker.types import MediaKind

_MEDIA = "SELECT media_id, kind, location, uri, sha256, byte_size, stamp FROM media_file "
_BY_ID = text(_MEDIA + "WHERE media_id = :id AND kind IS NOT NULL")
_BY_HASH = text(_MEDIA + "WHERE sha256 = :sha256 AND kind IS NOT NULL")
_ANALYSED = text("""
    SELECT EXISTS (SELECT FROM analysis JOIN release USING (finder_id)
                   WHERE media_id = :id AND release.active AND analysis.is_current)""")
_APPEARANCES = text("""
    SELECT a.appearance_id, a.person_id, p.name, a.age, a.gender, a.emotion FROM appearances a
    LEFT JOIN person p USING (person_id) WHERE a.media_id = :id ORDER BY a.ordinal""")
_FACES = text("""
    SELECT appearance_id, at_seconds, x1, y1, x2, y2, frame_width AS width, frame_height AS height
    FROM faces WHERE media_id = :id AND appearance_id IS NOT NULL
    ORDER BY appearance_id, at_seconds, quality DESC""")


@dataclass(frozen=True, slots=True)
class StoredMedia:
    """A file that was analysed."""

    media_id: int
    kind: MediaKind
    location: str
    uri: str
    expected: Expected
    """Hash, size and stamp that the file should have."""


def media_by_id(session: Session, media_id: int) -> StoredMedia:
    """Find a file by its number.

    Raises:
        UsageError: there is no such file, or it was not analysed.
    """
    row = session.execute(_BY_ID, {"id": media_id}).one_or_none()
    if row is None:
        raise UsageError(f"there is no file {media_id}; the view media lists the numbers of files")
    return _analysed(session, row)


def media_by_hash(session: Session, sha256: str, path: str) -> StoredMedia:
    """Find a file by the hash of its bytes, whatever its path was when it was analysed.

    Raises:
        UsageError: these bytes were not analysed.
    """
    row = session.execute(_BY_HASH, {"sha256": sha256}).one_or_none()
    if row is None:
        raise UsageError(f"{path} was not analysed; run `facet analyze {path}` first")
    return _analysed(session, row)


def _analysed(session: Session, row: Row[tuple[object, ...]]) -> StoredMedia:
    is_image = row.kind == "image"
    expected = Expected(sha256=row.sha256, byte_size=row.byte_size, stamp=row.stamp, is_image=is_image)
    media = StoredMedia(int(row.media_id), row.kind, row.location, row.uri, expected)
    if not session.execute(_ANALYSED, {"id": media.media_id}).scalar_one():
        raise UsageError(
            f"{media.uri} has no complete analysis under the active release; run `facet analyze {media.location}` first"
        )
    return media


def load_subjects(session: Session, media_id: int) -> list[Subject]:
    """Read the appearances of a file with their faces, in order of first sight."""
    faces = {
        appearance: list(rows)
        for appearance, rows in groupby(session.execute(_FACES, {"id": media_id}), key=lambda row: row.appearance_id)
    }
    rows = session.execute(_APPEARANCES, {"id": media_id}).all()
    return [_subject(row, faces[row.appearance_id]) for row in rows if row.appearance_id in faces]


def _subject(row: Row[tuple[object, ...]], faces: Sequence[Row[tuple[object, ...]]]) -> Subject:
    at_seconds, first = np.unique(np.array([face.at_seconds for face in faces], np.float64), return_index=True)
    boxes = np.array([(face.x1, face.y1, face.x2, face.y2) for face in faces], np.float32)
    sizes = np.array([(face.width, face.height) for face in faces], np.float32)
    return Subject(
        number=int(row.appearance_id if row.person_id is None else row.person_id),
        lines=_lines(row),
        at_seconds=at_seconds,
        boxes=boxes[first],
        frame_sizes=sizes[first],
    )


def _lines(row: Row[tuple[object, ...]]) -> tuple[str, ...]:
    who = "nobody yet" if row.person_id is None else row.name or f"person {row.person_id}"
    facts = [] if row.age is None else [f"{row.age:.0f} y"]
    facts += [str(label) for label in (row.gender, row.emotion) if label not in {None, UNKNOWN}]
    return (who, ", ".join(facts)) if facts else (who,)
