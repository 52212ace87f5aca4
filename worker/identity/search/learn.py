"""Learns who is who from reference photos: the name of a folder or file is the person that it shows.

The faces of one name are averaged and searched for as a person is. Photos are not stored, and nothing is named here.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worker.errors import FacetError, UsageError
from worker.identity.search.searcher import Probe, SearchOptions
from worker.types import MIN_WEIGHT
from worker.visible import path_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.identity.search.photo import PhotoFace
    from worker.identity.search.searcher import PersonHit, Searcher

MIN_SHARE = 0.5  # the second largest face must be smaller than this share of the largest, or the photo shows several
JUNK = re.compile(r"\.|Thumbs\.db$|desktop\.ini$", re.IGNORECASE)
TRAILING_NUMBER = re.compile(r"[\s_.-]*\(?\d+\)?$")  # behind a name: 'Ada Lovelace 2', 'Ada_Lovelace_0001', 'Ada (3)'


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedPhoto:
    """A photo that nothing was learnt from."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """A name with the mean of its faces."""

    name: str
    photos: int
    """Number of photos whose face is in the mean."""
    probe: Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The person of the archive that a name leads to."""

    name: str
    photos: int
    person_id: int | None
    """None where no person is probable enough, or another name is more probable for the person."""
    probability: float | None
    """That the most similar person is the one on the photos; None where the archive has none."""
    others: tuple[int, ...]
    """Further people who are probable enough: merge candidates."""
    present_name: str | None
    """Name of the person now."""


def photos_by_name(folder: Path) -> dict[str, list[Path]]:
    """Return the files below a folder by the name that they are filed under, names and files in order.

    A file in the folder itself goes by its own name, without a number at its end; files below go by the first folder.

    Raises:
        UsageError: the folder is none, or holds no file.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder, expected one with a folder or a photo for each person")
    found: dict[str, list[Path]] = {}
    for place, _, files in sorted(os.walk(folder)):
        for file in sorted(files):
            path = Path(place, file)
            parts = path.relative_to(folder).parts
            if not any(JUNK.match(part) for part in parts):
                found.setdefault(_name(parts), []).append(path)
    if not found:
        raise UsageError(f"{folder} holds no file, expected a folder or a photo for each person")
    return found


def _name(parts: Sequence[str]) -> str:
    name = path_text(parts[0])
    if len(parts) == 1:
        stem = Path(name).stem
        name = TRAILING_NUMBER.sub("", stem) or stem
    name = name.replace("_", " ") if " " not in name else name
    return unicodedata.normalize("NFC", " ".join(name.split()))


def only_face(faces: Sequence[PhotoFace]) -> PhotoFace | None:
    """Return the face that a reference photo shows: the largest; None where another is about as large."""
    sides = [float(np.sqrt(np.prod(face.box[2:] - face.box[:2]))) for face in faces]
    return faces[0] if len(sides) == 1 or sides[1] < MIN_SHARE * sides[0] else None


def average(name: str, faces: Sequence[PhotoFace]) -> Reference:
    """Return the reference of a name: the mean of its faces by quality."""
    weights = np.maximum([face.probe.quality for face in faces], MIN_WEIGHT)
    total = weights @ np.array([face.probe.embedding for face in faces], np.float64)
    length = float(np.linalg.norm(total))
    probe = Probe(
        embedding=(total / max(length, 1e-12)).astype(np.float32),
        quality=max(face.probe.quality for face in faces),
        agreement=length / float(weights.sum()),
    )
    return Reference(name=name, photos=len(faces), probe=probe)


def match(searcher: Searcher, references: Sequence[Reference], min_probability: float) -> list[Match]:
    """Find the person of each reference; a person whom several names lead to is left to the most probable one.

    Raises:
        UsageError: the release has no calibration, so that no probability is known.
    """
    found = [(one, searcher.search(one.probe, SearchOptions(limit=5)).people) for one in references]
    if any(hits and hits[0].probability is None for _, hits in found):
        raise UsageError("the active release has no calibration of probabilities; name people by number instead")
    best: dict[int, float] = {}
    for _, hits in found:
        if hits:
            best[hits[0].person_id] = max(best.get(hits[0].person_id, 0.0), _chance(hits[0]))
    return [_matched(one, hits, min_probability, best) for one, hits in found]


def _matched(reference: Reference, hits: Sequence[PersonHit], least: float, best: Mapping[int, float]) -> Match:
    first = hits[0] if hits else None
    is_found = first is not None and least <= _chance(first) == best[first.person_id]
    return Match(
        name=reference.name,
        photos=reference.photos,
        person_id=first.person_id if first is not None and is_found else None,
        probability=None if first is None else _chance(first),
        others=tuple(hit.person_id for hit in hits[1:] if is_found and _chance(hit) >= least),
        present_name=first.name if first is not None and is_found else None,
    )


def _chance(hit: PersonHit) -> float:
    return hit.probability or 0.0


def read_references(
    photos: Mapping[str, Sequence[Path]], read_faces: Callable[[Path], Sequence[PhotoFace]]
) -> tuple[list[Reference], list[SkippedPhoto]]:
    """Read reference photos.

    Args:
        photos: files by name.
        read_faces: returns the faces of a photo, the largest first; raises FacetError where it has none.
    """
    references, skipped = list[Reference](), list[SkippedPhoto]()
    for name, paths in photos.items():
        faces = []
        for path in paths:
            face = _face_of(path, read_faces, skipped)
            faces += [] if face is None else [face]
        if faces:
            references.append(average(name, faces))
    return references, skipped


def _face_of(
    path: Path, read_faces: Callable[[Path], Sequence[PhotoFace]], skipped: list[SkippedPhoto]
) -> PhotoFace | None:
    try:
        found = read_faces(path)
    except FacetError as err:
        skipped.append(SkippedPhoto(path=path_text(str(path)), reason=str(err)))
        return None
    face = only_face(found)
    if face is None:
        reason = f"it shows {len(found)} faces of about one size, expected one person; crop it"
        skipped.append(SkippedPhoto(path=path_text(str(path)), reason=reason))
    return face
