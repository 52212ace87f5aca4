"""Files of erased rows: noted in the transaction of the erasure, and removed after it or after a crash."""

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
# Time during which a worker that held a file may still write crops of it: a unit takes minutes, and a task is killed
# after an hour.
STRAGGLER_HOURS = 24
# A staged copy that is newer than the erasure and younger than this may belong to a submission that is being written.
STAGING_GRACE = timedelta(hours=1)
FIRST_LOOK_SECONDS = 300.0  # before a folder is searched for such crops again; each further pause is four times as long

_NOTES = (
    # The folder of crops of each analysis that goes. It is searched again later where an attempt other than the stored
    # one may still be running.
    """INSERT INTO file_removal (kind, path, is_named, again_until)
        SELECT 'crops', left(m.sha256, 2) || '/' || m.sha256 || '/' || a.analysis_id,
               EXISTS (SELECT FROM crop_strip JOIN unit u USING (unit_id) WHERE u.analysis_id = a.analysis_id),
               CASE WHEN EXISTS (SELECT FROM unit u WHERE u.analysis_id = a.analysis_id
                                 AND (u.state = 'leased' OR u.token > 1))
                    THEN now() + make_interval(hours => :hours) END
        FROM analysis a JOIN target_analysis ON id = a.analysis_id JOIN media_file m USING (media_id)
        WHERE m.sha256 IS NOT NULL RETURNING removal_id""",
    # In analyses that stay, the crops of faces that go; a strip without other crops is removed whole.
    """INSERT INTO file_removal (kind, path, is_named, crops)
       WITH losing AS MATERIALIZED (
           SELECT DISTINCT analysis_id FROM face JOIN target_face ON id = face_id
           WHERE analysis_id NOT IN (SELECT id FROM target_analysis))
       SELECT 'strip', c.uri, true, CASE WHEN count(*) = count(d.id) THEN '{}'
                                        ELSE array_agg(f.crop_index ORDER BY f.crop_index)
                                             FILTER (WHERE d.id IS NOT NULL) END
       FROM losing JOIN face f USING (analysis_id) JOIN crop_strip c USING (unit_id, strip_no)
       LEFT JOIN target_face d ON d.id = f.face_id
       GROUP BY c.uri HAVING count(d.id) > 0 RETURNING removal_id""",
)
# Every analysis of a file that loses a person: strips that no row names may show the person too.
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
class FileStores:
    """Places of the files that Facet writes."""

    crops: CropStore
    staging: Path
    """Staging folder of this host."""


@dataclass(frozen=True, slots=True)
class NotedFiles:
    """Files that an erasure noted, to be removed once it is committed."""

    removals: tuple[int, ...] = ()
    """Ids of rows of ``file_removal``."""
    checks: tuple[int, ...] = ()
    """Analyses that stay, whose folders are searched for strips that no row names."""


def note_files(session: Session, staging: Path) -> NotedFiles:
    """Note the files of the targets, before their rows are deleted."""
    removals = [int(number) for note in _NOTES for number in session.scalars(text(note), {"hours": STRAGGLER_HOURS})]
    stems = {"stems": list(dict.fromkeys(_stems(session, staging)))}
    removals += [int(number) for number in session.scalars(_STAGED, stems)]
    session.execute(_CHECKS)
    return NotedFiles(tuple(removals), tuple(int(number) for number in session.scalars(_CHECKED)))


def _stems(session: Session, staging: Path) -> Iterator[str]:
    """Yield staged copies of the targets, without extension: those on this host, and those that a location names."""
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
    """Files of one row of ``file_removal``."""

    kind: str
    """``crops`` for a folder, ``strip`` for one strip, ``staged`` for a copy in the staging folder."""
    path: str
    crops: tuple[int, ...]
    """Crops of a strip that are blanked; none where it is removed whole."""


def read_entries(session: Session, noted: NotedFiles) -> list[RemovalEntry]:
    """Read the entries that were noted."""
    statement = text("SELECT kind, path, crops FROM file_removal WHERE removal_id = ANY(:ids) ORDER BY removal_id")
    rows = session.execute(statement, {"ids": list(noted.removals)})
    return [RemovalEntry(row.kind, row.path, tuple(row.crops or ())) for row in rows]


def find_files(
    session: Session, stores: FileStores, entries: Sequence[RemovalEntry], checks: Sequence[int]
) -> RemovedFiles:
    """Return the files that would be removed or blanked; it needs none of the locks of the erasure."""
    found = sum((_find(stores, entry.kind, entry.path, entry.crops) for entry in entries), RemovedFiles())
    orphans = [name for analysis in checks for name in find_orphans_of(session, stores.crops, analysis)]
    return found + RemovedFiles(crops=tuple(orphans))


def _find(stores: FileStores, kind: str, path: str, crops: Sequence[int]) -> RemovedFiles:
    if kind == "staged":
        return RemovedFiles(staged=tuple(str(one.relative_to(stores.staging)) for one in _copies(stores, path)))
    names = tuple(stores.crops.find(path))
    if crops and names:
        return RemovedFiles(blanked=(BlankedStrip(path=path, crops=len(crops)),))
    return RemovedFiles(crops=names)


def _copies(stores: FileStores, stem: str) -> list[Path]:
    folder, _, name = stem.rpartition("/")
    here = folder.rpartition("/")[0] == str(stores.staging)
    return sorted((stores.staging / name[:2]).glob(f"{name}.*")) if here else []


def remove_file(sessions: sessionmaker[Session], stores: FileStores, removal: int) -> RemovedFiles:
    """Remove the files of an entry, then delete the entry.

    The entry stays where its copies are another host's or are being staged again (``left`` in the result), and where a
    worker may still write crops into its folder (``watched``).

    Raises:
        RetryableError: the crop store or the disk is away; the entry waits.
    """
    with sessions.begin() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": FILES_LOCK})
        row = session.execute(
            text("SELECT *, coalesce(again_until > now(), false) AS again FROM file_removal WHERE removal_id = :id"),
            {"id": removal},
        ).first()
        if row is None:  # another process was faster
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


def check_crops(sessions: sessionmaker[Session], stores: FileStores, analysis_id: int) -> RemovedFiles:
    """Remove the strips of an analysis that no row names, then delete its row of ``crop_check``.

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


def _remove_crops(stores: FileStores, path: str, crops: list[int], *, is_named: bool) -> RemovedFiles:
    """Remove strips, or blank some crops of one; a damaged strip is removed whole."""
    found = _find(stores, "crops", path, crops)
    if is_named and not (found.crops or found.blanked):
        stores.crops.require()
    if not crops:
        stores.crops.remove(path)
    elif found.blanked and not stores.crops.blank(path, crops):
        return RemovedFiles(crops=(path,))
    return found


def _remove_copies(session: Session, stores: FileStores, stem: str, erased_at: datetime) -> bool:
    """Remove staged copies; returns whether they have to wait, as another host's or as just staged again."""
    if stem.rpartition("/")[0].rpartition("/")[0] != str(stores.staging):
        return True
    named = text("SELECT EXISTS (SELECT FROM media_file WHERE sha256 = :sha256)")
    if session.execute(named, {"sha256": stem.rpartition("/")[2]}).scalar_one():
        return False  # submitted again: the copy belongs to the new file
    now = session.execute(text("SELECT now()")).scalar_one().timestamp()
    try:
        for copy in _copies(stores, stem):
            written = copy.stat().st_mtime
            if written > erased_at.timestamp() and now - written < STAGING_GRACE.total_seconds():
                return True
            copy.unlink(missing_ok=True)
    except OSError as err:
        message = f"{err.strerror}: a copy below {stores.staging} cannot be removed; fix permissions"
        raise RetryableError(message) from err
    return False
