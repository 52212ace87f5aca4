"""Stores foreign results: media, analysis, faces, answers and appearances, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from db.bulk.codes import encode_landmarks, to_bytes
from db.bulk.rows import allocate_ids, copy_rows
from worker.errors import UsageError
from worker.ledger.locks import lock_media
from worker.ledger.submission.accept import OF_IMAGES
from worker.ledger.submission.submit import lock_submissions
from worker.releases.foreign.registering import register_foreign

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.ingest import FoundFile
    from worker.ledger.releases import ReleaseIds
    from worker.releases.foreign.results import ForeignAnswer, ForeignFace, ForeignResults
    from worker.types import MediaInfo

SECONDS_OFF = 1.0  # beyond the end of a video that a time may lie, by rounding
NO_POINTS = bytes(20)  # codes of landmarks of a face that has none: all lie one length before its box
VIDEO_SAMPLING, VIDEO_INTERVAL = "2/s", 0.5
"""Not the service's, which states none, but what `facet reprocess` takes where an own release lacks the file."""

_MEDIA = text("SELECT media_id, reason, sealed_at FROM media_file WHERE sha256 = :sha256")
_INSERT_MEDIA = text("""
    INSERT INTO media_file (sha256, uri, location, stamp, kind, format, byte_size, width, height, duration_seconds,
                            frames_per_second)
    VALUES (:sha256, :uri, :location, :stamp, :kind, :format, :size, :width, :height, :duration, :fps)
    RETURNING media_id""")
_KNOWN = text("""
    SELECT a.face_count, r.name FROM analysis a JOIN release r USING (finder_id)
    WHERE a.media_id = :media_id AND r.release_id = :release_id""")
_INSERT_ANALYSIS = text("""
    INSERT INTO analysis (media_id, finder_id, sampling, sample_interval_seconds, state, is_current, frame_count,
                          face_count, finished_at)
    VALUES (:media_id, :finder, :sampling, :interval, 'done', true, :frames, :faces, now()) RETURNING analysis_id""")
_INSERT_UNIT = text("""
    INSERT INTO unit (analysis_id, release_id, ordinal, state, frame_count, face_count, finished_at)
    VALUES (:analysis_id, :release_id, 0, 'done', :frames, :faces, now()) RETURNING unit_id""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The rows that an import stored."""

    release_id: int
    release: str
    media_id: int
    faces: int
    appearances: int
    predictions: int
    left_out: int
    """Persons without a face."""


@dataclass(frozen=True, slots=True)
class _Owner:
    """The rows that faces belong to, and the media's description."""

    ids: ReleaseIds
    media_id: int
    analysis_id: int
    unit_id: int
    info: MediaInfo


def store_results(session: Session, results: ForeignResults, file: FoundFile, info: MediaInfo) -> Imported:
    """Store the results of a file under their foreign release; a file that is new to the archive gets a row.

    Args:
        session: an open session that holds no lock.
        results: of the file.
        file: the media.
        info: its size, in whose pixels boxes are stored.

    Raises:
        UsageError: the results are of other media or stored already, or the file takes none.
    """
    _check(results, file, info)
    ids = register_foreign(session, results)
    lock_submissions(session)
    media_id = _media(session, file, info)
    known = session.execute(_KNOWN, {"media_id": media_id, "release_id": ids.release_id}).first()
    if known is not None:
        raise UsageError(
            f"{file.uri} has {known.face_count} faces of release {known.name}, expected none; results are imported "
            f"once: retire the release with `facet releases retire {known.name}` to import its files again"
        )
    owner = _insert(session, results, ids, media_id, info)
    faces = allocate_ids(session, "face", len(results.faces))
    _copy_faces(session, results, owner, faces)
    appearances = _copy_appearances(session, results, owner, faces)
    predictions = _copy_predictions(session, results, ids, faces)
    name = session.execute(text("SELECT name FROM release WHERE release_id = :id"), {"id": ids.release_id}).scalar_one()
    return Imported(
        release_id=ids.release_id, release=name, media_id=media_id, faces=len(faces), appearances=appearances,
        predictions=predictions, left_out=results.left_out,
    )  # fmt: skip


def _check(results: ForeignResults, file: FoundFile, info: MediaInfo) -> None:
    if file.kind != results.kind:
        raise UsageError(
            f"{file.uri} is of the kind {file.kind}, and {results.operation} takes a file of the kind {results.kind}; "
            "name the file that the results are of"
        )
    duration = info.duration_seconds
    if duration is not None and results.last_seconds > duration + SECONDS_OFF:
        raise UsageError(
            f"the results reach to {results.last_seconds:g} s, and {file.uri} ends at {duration:g} s; name the file "
            "that they are of"
        )


def _media(session: Session, file: FoundFile, info: MediaInfo) -> int:
    """Return the number of the file, which is inserted if it is new; the caller holds the lock of submissions."""
    known = session.execute(_MEDIA, {"sha256": file.sha256}).first()
    if known is None:
        values = {
            "sha256": file.sha256, "uri": file.uri, "location": str(file.location), "stamp": file.stamp,
            "kind": file.kind, "format": file.format, "size": file.byte_size, "width": info.width,
            "height": info.height, "duration": info.duration_seconds, "fps": info.frames_per_second,
        }  # fmt: skip
        return int(session.execute(_INSERT_MEDIA, values).scalar_one())
    lock_media(session, [known.media_id])
    if known.sealed_at is not None:
        raise UsageError(f"a person in {file.uri} was erased, so no results of it are taken in; leave it out")
    if known.reason is not None:
        raise UsageError(f"{file.uri} was refused ({known.reason}), expected a file that can be read; mend it")
    return int(known.media_id)


def _insert(session: Session, results: ForeignResults, ids: ReleaseIds, media_id: int, info: MediaInfo) -> _Owner:
    is_image = results.kind == "image"
    counts = {"frames": len({face.at_seconds for face in results.faces}), "faces": len(results.faces)}
    values = {
        "media_id": media_id,
        "finder": ids.finder_id,
        "sampling": OF_IMAGES if is_image else VIDEO_SAMPLING,
        "interval": None if is_image else VIDEO_INTERVAL,
    }
    analysis_id = int(session.execute(_INSERT_ANALYSIS, values | counts).scalar_one())
    unit = {"analysis_id": analysis_id, "release_id": ids.release_id}
    unit_id = int(session.execute(_INSERT_UNIT, unit | counts).scalar_one())
    return _Owner(ids, media_id, analysis_id, unit_id, info)


def _copy_faces(session: Session, results: ForeignResults, owner: _Owner, ids: list[int]) -> None:
    fps = owner.info.frames_per_second or 0.0
    taken: dict[int, int] = {}
    rows = []
    for face_id, face in zip(ids, results.faces, strict=True):
        frame = round(face.at_seconds * fps)
        number = taken[frame] = taken.get(frame, -1) + 1
        rows.append((
            face_id, owner.analysis_id, owner.unit_id, face.at_seconds, frame, 0.0, *_box(face, owner.info), face.score,
            face.quality, owner.info.width, owner.info.height, number, _landmarks(face, owner.info),
        ))  # fmt: skip
    columns = (
        "face_id", "analysis_id", "unit_id", "at_seconds", "frame_index", "hold_seconds", "x1", "y1", "x2", "y2",
        "detection_score", "quality", "frame_width", "frame_height", "face_no", "landmarks",
    )  # fmt: skip
    copy_rows(session, "face", columns, rows)


def _box(face: ForeignFace, info: MediaInfo) -> tuple[float, ...]:
    """Return the box in pixels."""
    return tuple(part * size for part, size in zip(face.box, (info.width, info.height) * 2, strict=True))


def _landmarks(face: ForeignFace, info: MediaInfo) -> bytes:
    if not face.points:
        return NO_POINTS
    points = np.array([face.points]) * (info.width, info.height)
    return to_bytes(encode_landmarks(points, np.array([_box(face, info)])))[0]


def _copy_appearances(session: Session, results: ForeignResults, owner: _Owner, faces: list[int]) -> int:
    """Copy tracks as appearances, and the place of each face in them."""
    members: dict[str | None, list[tuple[int, ForeignFace]]] = {}
    for face_id, face in zip(faces, results.faces, strict=True):
        members.setdefault(face.track, []).append((face_id, face))
    rows: list[tuple[Any, ...]] = []
    places: list[tuple[int, int, int]] = []
    numbers = allocate_ids(session, "appearance", len(results.tracks))
    for ordinal, (number, track) in enumerate(zip(numbers, results.tracks, strict=True)):
        own = members.get(track.name, [])
        best = max(own, key=lambda one: (one[1].quality, one[1].score, -one[0]), default=None)
        start, end = track.start_seconds, track.end_seconds
        rows.append((
            number, owner.analysis_id, owner.media_id, start, end, end - start, None if best is None else best[0],
            owner.ids.trunk_id, ordinal, track.moments, 0.0 if best is None else best[1].quality,
        ))  # fmt: skip
        places += [(face_id, owner.ids.trunk_id, number) for face_id, _ in own]
    columns = (
        "appearance_id", "analysis_id", "media_id", "start_seconds", "end_seconds", "screen_seconds", "best_face_id",
        "trunk_id", "ordinal", "face_count", "quality",
    )  # fmt: skip
    copy_rows(session, "appearance", columns, rows)
    copy_rows(session, "face_embedding", ("face_id", "trunk_id", "appearance_id"), places)
    return len(rows)


def _copy_predictions(session: Session, results: ForeignResults, ids: ReleaseIds, faces: list[int]) -> int:
    rows = [
        (face_id, ids.readings[one.task], one.label, one.confidence, *_range(one))
        for face_id, face in zip(faces, results.faces, strict=True)
        for one in face.answers
    ]
    columns = ("face_id", "reading_id", "label", "confidence", "value", "low", "high")
    return copy_rows(session, "prediction", columns, rows)


def _range(answer: ForeignAnswer) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high; the value is the middle of the range, which is all that a service states."""
    if answer.low is None or answer.high is None:
        return None, None, None
    return (answer.low + answer.high) / 2, answer.low, answer.high
