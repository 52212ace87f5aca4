"""Reads the names that other programs gave to faces as statements about appearances of the archive."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import FacetError
from worker.pictures.regions.boxes import RegionBox, match_boxes
from worker.pictures.regions.marks import UnreadableMarks, find_marked
from worker.pictures.regions.packet import shown_faces
from worker.storage.stamps import hash_file
from worker.visible import path_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker

    from worker.pictures.regions.images import ArchiveImages
    from worker.pictures.regions.marks import MarkedImage

# The bytes of an image name it; a program that embeds regions changes them, so that its place comes second.
_MEDIA = text("""
    SELECT media_id FROM media WHERE kind = 'image' AND (sha256 = cast(:sha256 AS text) OR uri = :uri)
    ORDER BY sha256 IS DISTINCT FROM cast(:sha256 AS text), media_id DESC LIMIT 1""")
_FACES = text("""
    SELECT f.appearance_id, f.person_id, p.name, f.x1 / f.frame_width AS x1, f.y1 / f.frame_height AS y1,
           f.x2 / f.frame_width AS x2, f.y2 / f.frame_height AS y2
    FROM faces f LEFT JOIN people p USING (person_id)
    WHERE f.media_id = :media_id AND f.at_seconds = 0 AND f.person_id IS NOT NULL ORDER BY f.face_id""")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPlace:
    """An appearance to which another program gave a name."""

    name: str
    appearance_id: int
    person_id: int
    present_name: str | None
    """Name of the person now."""
    source: str
    """The file that states it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutRegion:
    """A named region, or all those of a file, that led to no appearance."""

    source: str
    name: str | None
    reason: str


@dataclass(slots=True)
class ReadNames:
    """The statements of the files."""

    places: list[NamedPlace] = field(default_factory=list)
    left_out: list[LeftOutRegion] = field(default_factory=list)
    without_name: int = 0
    """Number of regions that state no name."""


def read_region_names(paths: Sequence[Path], sessions: sessionmaker[Session], images: ArchiveImages) -> ReadNames:
    """Read the named regions of all images below some paths, and find the appearances that they are about.

    Raises:
        UsageError: a path does not exist.
    """
    found = ReadNames()
    for marked in find_marked(paths):
        source = path_text(str(marked.source))
        if isinstance(marked, UnreadableMarks):
            found.left_out.append(LeftOutRegion(source=source, name=None, reason=marked.reason))
            continue
        try:
            _read_image(marked, source, sessions, images, found)
        except FacetError as err:
            found.left_out.append(LeftOutRegion(source=source, name=None, reason=str(err)))
    _drop_contradictions(found)
    return found


def _read_image(
    marked: MarkedImage, source: str, sessions: sessionmaker[Session], images: ArchiveImages, found: ReadNames
) -> None:
    place = {"sha256": _hash(marked.image), "uri": path_text(os.path.normpath(marked.image.absolute()))}
    with sessions.begin() as session:
        media_id = session.scalar(_MEDIA, place)
        faces = [] if media_id is None else session.execute(_FACES, {"media_id": media_id}).all()
    if media_id is None:
        raise FacetError(f"its image {path_text(str(marked.image))} is not in the archive; analyze it first")
    frame = images.frame_of(int(media_id))
    regions = shown_faces(marked.document, frame.orientation, (frame.width, frame.height))
    boxes = [RegionBox(row.x1, row.y1, row.x2 - row.x1, row.y2 - row.y1) for row in faces]
    matched = match_boxes([region.box for region in regions], boxes)
    for number, region in enumerate(regions):
        if region.name is None:
            found.without_name += 1
        elif number not in matched:
            found.left_out.append(LeftOutRegion(source=source, name=region.name, reason="no single face lies there"))
        else:
            row = faces[matched[number]]
            found.places.append(
                NamedPlace(
                    name=region.name,
                    appearance_id=row.appearance_id,
                    person_id=row.person_id,
                    present_name=row.name,
                    source=source,
                )
            )


def _hash(image: Path) -> str | None:
    """Return the hash of an image; None where it cannot be read, so that its place alone names it."""
    try:
        descriptor = os.open(image, os.O_RDONLY)
    except OSError:
        return None
    try:
        return hash_file(descriptor)
    finally:
        os.close(descriptor)


def _drop_contradictions(found: ReadNames) -> None:
    """Leave out the appearances to which files give different names."""
    names: dict[int, set[str]] = {}
    for place in found.places:
        names.setdefault(place.appearance_id, set()).add(key_of(place.name))
    reason = "other files give this face another name"
    found.left_out += [
        LeftOutRegion(source=one.source, name=one.name, reason=reason)
        for one in found.places
        if len(names[one.appearance_id]) > 1
    ]
    found.places[:] = [one for one in found.places if len(names[one.appearance_id]) == 1]


def key_of(name: str) -> str:
    """Return what equal names have in common: upper and lower case are alike."""
    return unicodedata.normalize("NFC", name).casefold()
