"""Files of what was erased: noted in the erasure's transaction, removed after it, and again after a crash."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.erasure.receipt import BlankedStrip, RemovedFiles
from worker.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker

    from worker.crops import CropStore

FILES_LOCK = 0x66696C65  # "file": two processes that blanked crops of one strip at once would undo each other's work
STRAGGLER_HOURS = 24
"""How long a worker that held a file may still write crops of it: a unit takes minutes, and a task is killed after an
hour."""
YOUNG = timedelta(hours=1)
"""A staged copy newer than the erasure, but no older than this, belongs to a submission that is being written."""

_NOTES = (
    # Of each analysis that goes, the folder of its crops. Where a worker holds a unit, it is looked into again later.
    """INSERT INTO file_removal (kind, path, again_until)
        SELECT 'crops', left(m.sha256, 2) || '/' || m.sha256 || '/' || a.analysis_id,
               CASE WHEN EXISTS (SELECT FROM unit u WHERE u.analysis_id = a.analysis_id AND u.state = 'leased')
                    THEN now() + make_interval(hours => :hours) END
        FROM analysis a JOIN doomed_analysis ON id = a.analysis_id JOIN media_file m USING (media_id)
        WHERE m.sha256 IS NOT NULL RETURNING removal_id""",
    # Of analyses that stay, the crops of faces that go; a strip that holds nobody else's is removed whole.
    """INSERT INTO file_removal (kind, path, crops)
       SELECT 'strip', f.crop_uri, CASE WHEN count(*) = count(d.id) THEN '{}'
                                        ELSE array_agg(f.crop_index ORDER BY f.crop_index)
                                             FILTER (WHERE d.id IS NOT NULL) END
       FROM face f LEFT JOIN doomed_face d ON d.id = f.face_id
       WHERE f.crop_uri IS NOT NULL AND f.analysis_id NOT IN (SELECT id FROM doomed_analysis)
         AND f.analysis_id IN (SELECT analysis_id FROM face JOIN doomed_face ON id = face_id)
       GROUP BY f.crop_uri HAVING count(d.id) > 0 RETURNING removal_id""",
    # Copies of members of archives: here, and on the host whose staging folder the file's place names.
    """INSERT INTO file_removal (kind, path)
       SELECT 'staged', path FROM (
           SELECT :staging || '/' || left(sha256, 2) || '/' || sha256 AS path
           FROM media_file JOIN doomed_media ON id = media_id WHERE sha256 IS NOT NULL
           UNION
           SELECT regexp_replace(location, '[.][^./]*$', '') FROM media_file JOIN doomed_media ON id = media_id
           WHERE location ~ ('/staging/' || left(sha256, 2) || '/' || sha256 || '[.][^./]*$')
       ) AS place RETURNING removal_id""",
)


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a deployment keeps files of its own."""

    crops: CropStore
    staging: Path


def note_files(session: Session, staging: Path) -> list[int]:
    """Write down the files of what is doomed, before its rows go; returns the numbers of the entries."""
    values = {"staging": str(staging), "hours": STRAGGLER_HOURS}
    return [int(number) for note in _NOTES for number in session.scalars(text(note), values)]


def list_files(session: Session, stores: Stores, removals: Iterable[int]) -> RemovedFiles:
    """Say what `remove_files` would do."""
    found = RemovedFiles()
    for number in removals:
        row = session.execute(text("SELECT * FROM file_removal WHERE removal_id = :id"), {"id": number}).one()
        found += _find(stores, row.kind, row.path, row.crops or [])
    return found


def _find(stores: Stores, kind: str, path: str, crops: list[int]) -> RemovedFiles:
    if kind == "staged":
        return RemovedFiles(staged=tuple(str(one.relative_to(stores.staging)) for one in _copies(stores, path)))
    names = tuple(stores.crops.find(path))
    if crops and names:
        return RemovedFiles(blanked=(BlankedStrip(path=path, crops=len(crops)),))
    return RemovedFiles(crops=names)


def _copies(stores: Stores, stem: str) -> list[Path]:
    folder, _, name = stem.rpartition("/")
    here = folder.rpartition("/")[0] == str(stores.staging)
    return sorted((stores.staging / name[:2]).glob(f"{name}.*")) if here else []


def remove_file(sessions: sessionmaker[Session], stores: Stores, removal: int) -> RemovedFiles:
    """Remove what an entry names, and forget the entry once it is gone.

    Raises:
        RetryableError: the crop store or the disk is away; the entry waits.
    """
    with sessions.begin() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": FILES_LOCK})
        row = session.execute(
            text("SELECT *, coalesce(again_until > now(), false) AS again FROM file_removal WHERE removal_id = :id"),
            {"id": removal},
        ).first()
        if row is None:  # somebody else was faster
            return RemovedFiles()
        found = _find(stores, row.kind, row.path, row.crops or [])
        if row.kind != "staged":
            _remove_crops(stores.crops, row.path, row.crops or [])
            if row.again:
                return found + RemovedFiles(watched=1)
        elif _remove_copies(session, stores, row.path, row.created_at):
            return RemovedFiles(left=1)
        session.execute(text("DELETE FROM file_removal WHERE removal_id = :id"), {"id": removal})
        return found


def _remove_crops(store: CropStore, path: str, crops: list[int]) -> None:
    if crops:
        store.blank(path, crops)
    else:
        store.remove(path)


def _remove_copies(session: Session, stores: Stores, stem: str, erased_at: datetime) -> bool:
    """Remove staged copies; True where they have to wait: they are another host's, or were just staged again."""
    if stem.rpartition("/")[0].rpartition("/")[0] != str(stores.staging):
        return True
    named = text("SELECT EXISTS (SELECT FROM media_file WHERE sha256 = :sha256)")
    if session.execute(named, {"sha256": stem.rpartition("/")[2]}).scalar_one():
        return False  # submitted again: the copy is that one's
    now = session.execute(text("SELECT now()")).scalar_one().timestamp()
    try:
        for copy in _copies(stores, stem):
            written = copy.stat().st_mtime
            if written > erased_at.timestamp() and now - written < YOUNG.total_seconds():
                return True
            copy.unlink(missing_ok=True)
    except OSError as err:
        raise RetryableError(f"{err.strerror}: a copy below {stores.staging} cannot be removed; give rights") from err
    return False
