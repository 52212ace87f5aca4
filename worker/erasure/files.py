"""Files of what was erased: noted in the erasure's transaction, removed after it, and again after a crash."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.erasure.receipt import BlankedStrip, RemovedFiles
from worker.errors import RetryableError
from worker.ledger.upkeep.crop_walk import find_orphans_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker

    from worker.storage.crops import CropStore

FILES_LOCK = 0x66696C65  # "file": two processes that blanked crops of one strip at once would undo each other's work
STRAGGLER_HOURS = 24
"""How long a worker that held a file may still write crops of it: a unit takes minutes, and a task is killed after an
hour."""
YOUNG = timedelta(hours=1)
"""A staged copy newer than the erasure, but no older than this, belongs to a submission that is being written."""

FIRST_LOOK_SECONDS = 300.0
"""Until a folder is looked into again for what such a worker wrote; each further pause is four times as long."""

_NOTES = (
    # Of each analysis that goes, the folder of its crops. Where another attempt than the one that was stored may still
    # be under way, it is looked into again later.
    """INSERT INTO file_removal (kind, path, is_named, again_until)
        SELECT 'crops', left(m.sha256, 2) || '/' || m.sha256 || '/' || a.analysis_id,
               EXISTS (SELECT FROM face f WHERE f.analysis_id = a.analysis_id AND f.crop_uri IS NOT NULL),
               CASE WHEN EXISTS (SELECT FROM unit u WHERE u.analysis_id = a.analysis_id
                                 AND (u.state = 'leased' OR u.token > 1))
                    THEN now() + make_interval(hours => :hours) END
        FROM analysis a JOIN target_analysis ON id = a.analysis_id JOIN media_file m USING (media_id)
        WHERE m.sha256 IS NOT NULL RETURNING removal_id""",
    # Of analyses that stay, the crops of faces that go; a strip that holds nobody else's is removed whole.
    """INSERT INTO file_removal (kind, path, is_named, crops)
       WITH losing AS MATERIALIZED (
           SELECT DISTINCT analysis_id FROM face JOIN target_face ON id = face_id
           WHERE analysis_id NOT IN (SELECT id FROM target_analysis))
       SELECT 'strip', f.crop_uri, true, CASE WHEN count(*) = count(d.id) THEN '{}'
                                        ELSE array_agg(f.crop_index ORDER BY f.crop_index)
                                             FILTER (WHERE d.id IS NOT NULL) END
       FROM losing JOIN face f USING (analysis_id) LEFT JOIN target_face d ON d.id = f.face_id
       WHERE f.crop_uri IS NOT NULL
       GROUP BY f.crop_uri HAVING count(d.id) > 0 RETURNING removal_id""",
)
# Every analysis of a file that loses somebody: strips that no row names may show them too.
_CHECKS = text("""
    INSERT INTO crop_check (analysis_id)
    SELECT analysis_id FROM analysis JOIN target_sealed s ON s.id = media_id
    WHERE analysis_id NOT IN (SELECT id FROM target_analysis)
    ON CONFLICT DO NOTHING""")
_CHECKED = text("""
    SELECT analysis_id FROM crop_check JOIN analysis USING (analysis_id) JOIN target_sealed s ON s.id = media_id
    ORDER BY analysis_id""")
_PLACES = text("""
    SELECT sha256, location FROM media_file JOIN target_media ON id = media_id WHERE sha256 IS NOT NULL
    ORDER BY media_id""")
_STAGED = text("""
    INSERT INTO file_removal (kind, path) SELECT 'staged', unnest(cast(:stems AS text[])) RETURNING removal_id""")


_LOOK_AGAIN = text("""
    UPDATE file_removal SET attempts = attempts + 1,
        not_before = least(again_until, now() + make_interval(secs => :seconds * 4 ^ least(attempts, 9)))
    WHERE removal_id = :id""")


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a deployment keeps files of its own."""

    crops: CropStore
    staging: Path


@dataclass(frozen=True, slots=True)
class NotedFiles:
    """What an erasure wrote down to be done to files once it is committed."""

    removals: tuple[int, ...] = ()
    """Numbers of entries of ``file_removal``."""
    checks: tuple[int, ...] = ()
    """Analyses that stay, in whose folders strips that no row names are looked for."""


def note_files(session: Session, staging: Path) -> NotedFiles:
    """Write down the files of what is doomed, before its rows go."""
    removals = [int(number) for note in _NOTES for number in session.scalars(text(note), {"hours": STRAGGLER_HOURS})]
    stems = {"stems": list(dict.fromkeys(_stems(session, staging)))}
    removals += [int(number) for number in session.scalars(_STAGED, stems)]
    session.execute(_CHECKS)
    return NotedFiles(tuple(removals), tuple(int(number) for number in session.scalars(_CHECKED)))


def _stems(session: Session, staging: Path) -> Iterator[str]:
    """Yield the copies of files that go, without extension: those here, and where the place of a file names one."""
    rows = session.execute(_PLACES).all()
    folders = {row.sha256[:2] for row in rows}
    here = {path.name.partition(".")[0] for folder in folders for path in (staging / folder).glob("*.*")}
    for row in rows:
        name = f"{row.sha256[:2]}/{row.sha256}"
        if row.sha256 in here:
            yield f"{staging}/{name}"
        stem, found, ending = str(row.location).rpartition(f"/staging/{name}.")
        if found and not set(ending) & set("./"):
            yield f"{stem}/staging/{name}"


@dataclass(frozen=True, slots=True)
class RemovalEntry:
    """What one entry says is to be removed."""

    kind: str
    path: str
    crops: tuple[int, ...]


def read_entries(session: Session, noted: NotedFiles) -> list[RemovalEntry]:
    """Return what the entries say that were noted."""
    statement = text("SELECT kind, path, crops FROM file_removal WHERE removal_id = ANY(:ids) ORDER BY removal_id")
    rows = session.execute(statement, {"ids": list(noted.removals)})
    return [RemovalEntry(row.kind, row.path, tuple(row.crops or ())) for row in rows]


def list_files(
    session: Session, stores: Stores, entries: Sequence[RemovalEntry], checks: Sequence[int]
) -> RemovedFiles:
    """Return what would be done to files; it needs none of the locks under which the entries were written."""
    found = sum((_find(stores, entry.kind, entry.path, entry.crops) for entry in entries), RemovedFiles())
    orphans = [name for analysis in checks for name in find_orphans_of(session, stores.crops, analysis)]
    return found + RemovedFiles(crops=tuple(orphans))


def _find(stores: Stores, kind: str, path: str, crops: Sequence[int]) -> RemovedFiles:
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
        if row.kind == "staged":
            found = _find(stores, row.kind, row.path, [])
            if _remove_copies(session, stores, row.path, row.created_at):
                return RemovedFiles(left=1)
        else:
            found = _remove_crops(stores, row.path, row.crops or [], is_named=row.is_named)
        if row.again:
            session.execute(_LOOK_AGAIN, {"id": removal, "seconds": FIRST_LOOK_SECONDS})
            return found + RemovedFiles(watched=1)
        session.execute(text("DELETE FROM file_removal WHERE removal_id = :id"), {"id": removal})
        return found


def check_crops(sessions: sessionmaker[Session], stores: Stores, analysis_id: int) -> RemovedFiles:
    """Remove the strips of an analysis that no row names, and forget that they had to be looked for.

    Raises:
        RetryableError: the crop store is away; the check waits.
    """
    with sessions() as session:
        names = find_orphans_of(session, stores.crops, analysis_id)
    for name in names:
        stores.crops.remove(name)
    with sessions.begin() as session:
        session.execute(text("DELETE FROM crop_check WHERE analysis_id = :id"), {"id": analysis_id})
    return RemovedFiles(crops=names)


def _remove_crops(stores: Stores, path: str, crops: list[int], *, is_named: bool) -> RemovedFiles:
    """Remove strips, or blank some crops of one; a damaged one goes whole."""
    found = _find(stores, "crops", path, crops)
    if is_named and not (found.crops or found.blanked):
        stores.crops.require()
    if not crops:
        stores.crops.remove(path)
    elif found.blanked and not stores.crops.blank(path, crops):
        return RemovedFiles(crops=(path,))
    return found


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
