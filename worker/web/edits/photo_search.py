"""Searches for the faces of a photo that a user sent; nothing of it is kept."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO

from sqlalchemy import text

from worker.analysis.runner import decode_limits
from worker.identity.search.photo import find_faces, read_photo
from worker.identity.search.searcher import Searcher, SearchOptions
from worker.releases.folders import ReleaseFolders
from worker.storage.sources import Sources

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.release import Release
    from worker.identity.search.photo import PhotoFace
    from worker.identity.search.searcher import PersonHit
    from worker.web.desk import Desk

_MAX_FACES = 5  # of a photo that are searched for, the largest
HITS = SearchOptions(limit=12)
SEARCH_SECONDS = 60.0

_ONE_AT_A_TIME = Lock()  # each takes all threads of the model


@dataclass(frozen=True, slots=True, eq=False)
class FaceHits:
    """The people who resemble one face of a photo."""

    number: int
    """Of the face, from 1, the largest first."""
    crop: NDArray[np.uint8]
    """(S, S, 3) RGB, aligned."""
    people: tuple[PersonHit, ...]
    best_faces: dict[int, int]
    """Best face of each person, by person."""


def search_photo(desk: Desk, photo: BinaryIO) -> list[FaceHits]:
    """Find the people who resemble the largest faces of a photo.

    Raises:
        UsageError: it is no photo, or nothing was analysed yet.
        FacetError: it cannot be decoded, or shows no face that can be compared.
    """
    searcher = Searcher(desk.reader_url, SEARCH_SECONDS)
    trunk = searcher.trunk_sha256()
    with _ONE_AT_A_TIME:
        faces = _faces(desk, photo, trunk)[:_MAX_FACES]
    found = [searcher.search(face.probe, HITS).people for face in faces]
    best = _best_faces(desk, [hit.person_id for hits in found for hit in hits])
    return [FaceHits(face.number, face.crop, hits, best) for face, hits in zip(faces, found, strict=True)]


def _faces(desk: Desk, photo: BinaryIO, trunk: str) -> tuple[PhotoFace, ...]:
    settings = desk.settings
    settings.staging.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="upload-", dir=settings.staging) as folder:
        path = Path(folder).resolve() / "the photo"
        with path.open("wb") as file:
            shutil.copyfileobj(photo, file)
        pixels = read_photo(str(path), Sources(staging=settings.staging), settings.staging, decode_limits(settings))
    return find_faces(pixels, _embedder(desk, trunk), settings.max_tiles)


@lru_cache(maxsize=1)
def _embedder(desk: Desk, trunk: str) -> Release:
    return ReleaseFolders(desk.settings, desk.database.sessions).load_embedder(trunk)


def _best_faces(desk: Desk, person_ids: list[int]) -> dict[int, int]:
    statement = text("SELECT person_id, best_face_id FROM people WHERE person_id = ANY(:ids)")
    with desk.reading() as connection:
        return {row.person_id: row.best_face_id or 0 for row in connection.execute(statement, {"ids": person_ids})}
