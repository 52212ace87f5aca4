"""Writes a batch of a submission: files, analyses, units and items, table after table in the order of locks.

Known files are read without a lock: while the lock of submissions is held, no other transaction adds, seals, cancels
or erases files. Rows that have to change are locked first, in the order of ``worker.ledger.locks``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import MediaError
from worker.ingest import FoundFile, RefusedFile
from worker.ledger import analyses
from worker.ledger.changed import is_of_the_place, retry_found
from worker.ledger.locks import lock_analyses, lock_media, lock_units
from worker.ledger.submission.former_refusals import merge_refusals, read_former_refusals
from worker.types import TimeRange

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from worker.ledger.submission.job import Writing

SEALED_REASON = "erased: a person in this file was erased from the results, so it is not analysed again"
"""Reason of an analysis of a sealed file."""
OF_IMAGES = "every"
"""Sampling of an image: all of its pages are analysed, whatever the job's sampling of videos."""

_KNOWN_MEDIA = text("""
    SELECT media_id, sha256, location, stamp, kind, reason, sealed_at IS NOT NULL AS is_sealed,
           EXISTS (SELECT FROM analysis a WHERE a.media_id = m.media_id) AS is_analysed
    FROM media_file m WHERE sha256 = ANY(:hashes)""")
_CHANGE_MEDIA = text("""
    UPDATE media_file SET location = :location, stamp = :stamp, kind = :kind, reason = :reason
    WHERE media_id = :media_id""")
_INSERT_MEDIA = text("""
    INSERT INTO media_file (sha256, uri, location, stamp, kind, format, byte_size, reason,
                            duration_seconds)
    VALUES (:sha256, :uri, :location, :stamp, :kind, :format, :size, :reason, :duration) RETURNING media_id""")

# By the hash of the address, which may be longer than an index takes.
_KNOWN_REFUSALS = text("""
    SELECT w.uri, w.reason, (
        SELECT media_id FROM media_file m
        WHERE m.sha256 IS NULL AND md5(m.uri) = md5(w.uri) AND m.uri = w.uri AND m.reason = w.reason
        LIMIT 1) AS media_id
    FROM unnest(cast(:uris AS text[]), cast(:reasons AS text[])) AS w(uri, reason)""")
_INSERT_REFUSAL = text("""
    INSERT INTO media_file (uri, byte_size, reason) VALUES (:uri, :size, :reason) RETURNING media_id""")

_KNOWN_ANALYSES = text("""
    SELECT analysis_id, media_id, sampling, state, reason FROM analysis
    WHERE finder_id = :finder_id AND media_id = ANY(:ids)
    ORDER BY is_current DESC, state = 'done' DESC, state = 'pending' DESC, analysis_id""")
_INSERT_ANALYSIS = text("""
    INSERT INTO analysis (media_id, finder_id, sampling, sample_interval_seconds, state, reason, finished_at)
    VALUES (:media_id, :finder_id, :sampling, :interval, :state, :reason,
            CASE WHEN :state = 'rejected' THEN now() END)
    RETURNING analysis_id""")

_ENDED_UNITS = text("""
    SELECT analysis_id, unit_id FROM unit
    WHERE analysis_id = ANY(:open) AND state = 'cancelled' OR analysis_id = ANY(:lost)""")
_OVERTAKEN = text("""
    SELECT unit_id FROM unit
    WHERE analysis_id = ANY(:ids) AND state = 'pending' AND attempts = 0
      AND (shelved OR priority < :priority OR priority = :priority AND turn > :turn)""")
_INSERT_UNITS = text("""
    INSERT INTO unit (analysis_id, release_id, ordinal, start_seconds, end_seconds, priority, turn)
    SELECT :id, :release_id, ordinal - 1, start_seconds, end_seconds, :priority, turn
    FROM unnest(cast(:starts AS double precision[]), cast(:ends AS double precision[]), cast(:turns AS bigint[]))
         WITH ORDINALITY AS part(start_seconds, end_seconds, turn, ordinal)
    RETURNING unit_id""")
_INSERT_ITEM = text("""
    INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id, reason)
    VALUES (:job_id, :item_no, :uri, :media_id, :analysis_id, :reason)""")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a file is cut."""

    ranges: Sequence[TimeRange]
    duration_seconds: float | None = None
    """As the container states it."""


Plans = Mapping[str, Plan | MediaError]
"""By hash, the plans of new videos, or the reason why they are refused."""
_Ends = tuple[int | None, int | None, str | None]
"""Of an item: its file, its analysis, and the reason if it has none."""
WHOLE = Plan([TimeRange()])
"""The range of an image, and of a file that could not be opened now: a worker tries it."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the batch with the media row and the analysis that it joins."""

    item: FoundFile
    plan: Plan | MediaError
    """Its ranges, or the reason why it cannot be opened."""
    media_id: int | None = None
    is_sealed: bool = False
    analysis_id: int | None = None
    is_waiting: bool = False
    """The analysis that it joins has not ended, or was cancelled."""
    is_ended: bool = False
    """Units of that analysis were cancelled, or ended because the file was not found."""

    @property
    def refusal(self) -> str | None:
        """Reason why the file is not analysed; a sealed file joins an analysis all the same."""
        return self.plan.reason if isinstance(self.plan, MediaError) and not self.is_sealed else None


def write_batch(session: Session, batch: Sequence[FoundFile | RefusedFile], plans: Plans, writing: Writing) -> None:
    """Write files in their order; the caller holds the lock of submissions.

    Args:
        session: an open session.
        batch: found and refused files.
        plans: by hash, the ranges of new files, or the reason why they cannot be opened.
        writing: the job; its counts and its fair queue advance.
    """
    found = {item.sha256: item for item in batch if isinstance(item, FoundFile)}
    files = {key: _File(item, plans.get(key, WHOLE)) for key, item in found.items()}
    former = read_former_refusals(session, [item.uri for item in batch if isinstance(item, FoundFile)])
    files = _join_media(session, files, former)
    files = _join_analyses(session, files, writing)
    refusals = _known_refusals(session, [item for item in batch if isinstance(item, RefusedFile)])
    items = []
    for item in batch:
        writing.counts.files += 1
        if isinstance(item, RefusedFile):
            ends: _Ends = (_write_refused(session, item, refusals), None, _reason(item))
        else:
            files[item.sha256] = file = _write_found(session, files[item.sha256], writing)
            ends = (file.media_id, file.analysis_id, file.refusal)
        items.append(_item(writing, item.uri, ends))
    if items:
        session.execute(_INSERT_ITEM, items)
    media = {item.uri: files[item.sha256].media_id for item in batch if isinstance(item, FoundFile)}
    merge_refusals(session, former, {uri: media_id for uri, media_id in media.items() if media_id is not None})


def _join_media(session: Session, files: Mapping[str, _File], former: Collection[int]) -> dict[str, _File]:
    """Find known files; of one that moved the new place is written. Lock these, and rows of former refusals."""
    rows = session.execute(_KNOWN_MEDIA, {"hashes": list(files)}).all()
    joined = {row.sha256: replace(files[row.sha256], media_id=row.media_id, is_sealed=row.is_sealed) for row in rows}
    changes = {int(row.media_id): new for row in rows if (new := _change(joined[row.sha256], row)) is not None}
    if changes or former:
        lock_media(session, [*changes, *former])
    if changes:
        session.execute(_CHANGE_MEDIA, [{"media_id": media_id} | new for media_id, new in changes.items()])
    return {**files, **joined}


def _change(file: _File, row: Row[tuple[object, ...]]) -> dict[str, object] | None:
    """Return the columns of a known file that have to change.

    A refusal does not change a file that was ever analysed: other jobs have its results, or wait for them at its
    former place.
    """
    item = file.item
    if row.is_analysed and file.refusal is not None:
        return None
    wanted: dict[str, object] = {
        "location": str(item.location),
        "stamp": item.stamp,
        "kind": item.kind,
        "reason": file.refusal,
    }
    return None if all(getattr(row, column) == value for column, value in wanted.items()) else wanted


def _join_analyses(session: Session, files: Mapping[str, _File], writing: Writing) -> dict[str, _File]:
    """Find the analyses that files join, and lock those of their rows that will change."""
    known = {file.media_id: key for key, file in files.items() if file.media_id is not None and not file.refusal}
    submission = writing.submission
    rows = session.execute(_KNOWN_ANALYSES, {"finder_id": submission.release.finder_id, "ids": list(known)}).all()
    joined = dict(files)
    for row in rows:
        file = joined[known[row.media_id]]
        if file.analysis_id is None and (file.item.kind == "image" or row.sampling == submission.sampling):
            is_waiting = row.state in {"pending", "cancelled"}
            joined[known[row.media_id]] = replace(file, analysis_id=row.analysis_id, is_waiting=is_waiting)
    taken = {file.analysis_id for file in joined.values() if not file.is_sealed}
    ended = _lock_joined(session, [row for row in rows if row.analysis_id in taken], writing)
    return {key: replace(file, is_ended=file.analysis_id in ended) for key, file in joined.items()}


def _lock_joined(session: Session, analyses: Sequence[Row[tuple[object, ...]]], writing: Writing) -> set[int]:
    """Lock analyses to be requeued, then units to be requeued or moved forward; return those analyses."""
    waiting = [row.analysis_id for row in analyses if row.state in {"pending", "cancelled"}]
    lost = [row.analysis_id for row in analyses if row.state == "rejected" and is_of_the_place(row.reason)]
    ended = session.execute(_ENDED_UNITS, {"open": waiting, "lost": lost}).all()
    first = {"priority": writing.submission.priority, "turn": writing.queue.next}
    overtaken = session.scalars(_OVERTAKEN, {"ids": waiting} | first).all()
    again = {int(row.analysis_id) for row in ended}
    lock_analyses(session, again)
    lock_units(session, [*(row.unit_id for row in ended), *overtaken])
    return again


def _known_refusals(session: Session, items: Sequence[RefusedFile]) -> dict[tuple[str, str], int]:
    """Find files that were refused for the same reason before."""
    if not items:
        return {}
    asked = {"uris": [item.uri for item in items], "reasons": [_reason(item) for item in items]}
    rows = session.execute(_KNOWN_REFUSALS, asked).all()
    return {(row.uri, row.reason): int(row.media_id) for row in rows if row.media_id is not None}


def _write_refused(session: Session, item: RefusedFile, known: dict[tuple[str, str], int]) -> int:
    key = (item.uri, _reason(item))
    if key not in known:
        values = {"uri": item.uri, "size": item.byte_size, "reason": _reason(item)}
        known[key] = int(session.execute(_INSERT_REFUSAL, values).scalar_one())
    return known[key]


def _reason(item: RefusedFile) -> str:
    return f"{item.code}: {item.message}"


def _write_found(session: Session, file: _File, writing: Writing) -> _File:
    """Insert the rows of a new file, or join the existing ones."""
    if file.media_id is None:
        file = replace(file, media_id=_insert_media(session, file))
    if file.refusal is not None:
        return file
    if file.analysis_id is not None:
        requeued = _join(session, file.analysis_id, file, writing)
        writing.counts.units += requeued
        writing.counts.known += not requeued
        return replace(file, is_waiting=False, is_ended=False)  # a second time in this batch, it is done already
    analysis_id = _insert_analysis(session, file, writing)
    if isinstance(file.plan, Plan) and not file.is_sealed:
        writing.counts.units += _insert_units(session, analysis_id, file, writing)
    return replace(file, analysis_id=analysis_id)


def _insert_media(session: Session, file: _File) -> int:
    item = file.item
    values = {
        "sha256": item.sha256,
        "uri": item.uri,
        "location": str(item.location),
        "stamp": item.stamp,
        "kind": item.kind,
        "format": item.format,
        "size": item.byte_size,
        "reason": file.refusal,
        "duration": file.plan.duration_seconds if isinstance(file.plan, Plan) else None,
    }
    return int(session.execute(_INSERT_MEDIA, values).scalar_one())


def _insert_analysis(session: Session, file: _File, writing: Writing) -> int:
    """Insert an analysis; that of a sealed file ends at once, since it would find the person who was erased."""
    fps = writing.submission.frames_per_second
    is_image = file.item.kind == "image"
    values = {
        "media_id": file.media_id,
        "finder_id": writing.submission.release.finder_id,
        "sampling": OF_IMAGES if is_image else writing.submission.sampling,
        "interval": None if fps is None or is_image else 1 / fps,
        "state": "rejected" if file.is_sealed else "pending",
        "reason": SEALED_REASON if file.is_sealed else None,
    }
    return int(session.execute(_INSERT_ANALYSIS, values).scalar_one())


def _join(session: Session, analysis_id: int, file: _File, writing: Writing) -> int:
    """Join an analysis of another job and expedite it to this job's turn; return how many units were requeued.

    Cancelled units are requeued, and so is a file that was rejected only because of its place.
    """
    requeued = 0
    if file.is_ended:
        requeued = analyses.revive_analysis(session, analysis_id) + retry_found(session, analysis_id)
    if file.is_ended or file.is_waiting:
        writing.queue.expedite(session, analysis_id, file.item.kind)
    return requeued


def _insert_units(session: Session, analysis_id: int, file: _File, writing: Writing) -> int:
    ranges = file.plan.ranges if isinstance(file.plan, Plan) else ()
    values = {
        "id": analysis_id,
        "release_id": writing.submission.release.release_id,
        "starts": [one.start_seconds for one in ranges],
        "ends": [one.end_seconds for one in ranges],
        "turns": writing.queue.assign(len(ranges), file.item.kind),
        "priority": writing.submission.priority,
    }
    writing.queue.note(max(session.scalars(_INSERT_UNITS, values)))
    return len(ranges)


def _item(writing: Writing, uri: str, ends: _Ends) -> dict[str, object]:
    media_id, analysis_id, reason = ends
    writing.counts.refused += analysis_id is None
    return {
        "job_id": writing.counts.job_id,
        "item_no": writing.counts.files,
        "uri": uri,
        "media_id": media_id,
        "analysis_id": analysis_id,
        "reason": reason,
    }
