"""Members of archives in the staging folder: unpacked again where a copy is gone, evicted when no unit waits for it.

A copy is needed by the units of its file only. A later reader (`facet annotate`) finds the member in the archive,
which the addresses of the file name. So no copy has to be kept, and no evicted one is lost.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import MediaRejected
from worker.ingest import FoundFile, IngestOptions
from worker.ingest.files import MEMBER_SEPARATOR, FileReader
from worker.storage import remote
from worker.storage.fetch_cache import COPY_SUFFIX, FetchCache
from worker.storage.mounts import STAGED, require_present
from worker.storage.sources import Sources
from worker.storage.staging import remove_partials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from worker.config import Settings

logger = logging.getLogger(__name__)

EVICT_SECONDS = 2.0  # of one call; the next one continues where it stopped
FOLDERS = tuple(f"{number:02x}" for number in range(256))
WRITING_SECONDS = 600.0  # by which a copy has to be older than the last rows of an open submission: clocks differ

_WAITED_FOR = text("""SELECT m.sha256 FROM media_file AS m JOIN analysis AS a USING (media_id)
                      WHERE a.state = 'pending' AND m.sha256 = ANY (:copies)""")
# A submission stages its members before it writes their rows, some at a time. One that has written nothing for a day
# was killed.
_WRITING = text("""SELECT cast(extract(epoch FROM min(written_at)) AS float8) FROM job
                   WHERE submission = 'open' AND written_at > now() - interval '1 day'""")
_LEFT = text("""SELECT removal_id, path FROM file_removal
                WHERE kind = 'staged' AND starts_with(path, :folder || '/') AND created_at < now() - interval '1 hour'
                ORDER BY removal_id LIMIT 1000""")
_URIS = text("""SELECT uri FROM media_file WHERE sha256 = :sha256
                UNION SELECT i.uri FROM job_item AS i JOIN media_file AS m USING (media_id) WHERE m.sha256 = :sha256
                ORDER BY uri""")


@dataclass(slots=True)
class StagedMembers:
    """The members of archives in the staging folder of this host.

    Args:
        folder: the staging folder.
        options: limits for archives.
        sessions: of the database; None where no member can be unpacked again.
    """

    folder: Path
    options: IngestOptions
    sessions: sessionmaker[Session] | None = None
    _next: int = field(default=0)
    """Index of the folder at which the next call begins."""

    def restore(self, location: Path, check: Callable[[Path], None]) -> None:
        """Unpack a member again if its copy is gone from this host's folder.

        Args:
            location: of the copy; other files are left alone.
            check: refuses archives that this host may not read.

        Raises:
            MediaUnreachable: the archive cannot be read on this host.
            MediaRejected: ``missing``, the archive was deleted or no longer holds the member.
            RetryableError: the folder is full.
        """
        if self.sessions is None or not STAGED.search(str(location)) or location.exists():
            return
        if location.parent.parent != self.folder:
            return
        with self.sessions() as session:
            uris = [str(uri) for uri in session.scalars(_URIS, {"sha256": location.stem})]
        archives = [(archive, uri) for uri in uris for archive in _archives(uri)]
        for archive, uri in archives:
            if self._unpack(archive, uri, location, check):
                logger.info("a member was unpacked again", extra={"action": "restored", "uri": uri})
                return
        if archives:
            archive, uri = max(archives, key=_likelihood)
            if not remote.is_url(archive):
                require_present(archive, self.options.roots)
            raise MediaRejected("missing", f"{archive} no longer holds the member {uri}; submit it again")

    def _unpack(self, archive: str, uri: str, location: Path, check: Callable[[Path], None]) -> bool:
        reader = FileReader(self.options, self.folder, wanted=uri)
        if remote.is_url(archive):
            items = reader.read_remote(remote.describe(archive))
        elif Path(archive).is_file():
            check(Path(archive))
            items = reader.read(archive, follow=True)
        else:
            return False
        return any(isinstance(item, FoundFile) and item.location == location for item in items)

    def evict(self, session: Session, seconds: float = EVICT_SECONDS) -> int:
        """Remove copies that no open analysis waits for, and partial files; return how many copies.

        Args:
            session: an open session.
            seconds: after which the next call continues.
        """
        until = time.monotonic() + seconds
        remove_partials(self.folder)
        self._forget_removed(session)
        before = session.execute(_WRITING).scalar()
        removed = 0
        for _ in FOLDERS:
            copies = list(self._copies(FOLDERS[self._next], before))
            self._next = (self._next + 1) % len(FOLDERS)
            removed += _remove(session, copies)
            if time.monotonic() > until:
                break
        return removed

    def _forget_removed(self, session: Session) -> None:
        """Delete the removal notes of copies that an erasure on another host left to this host, once they are gone."""
        rows = session.execute(_LEFT, {"folder": str(self.folder)}).all()
        gone = [row.removal_id for row in rows if not any(Path(row.path).parent.glob(f"{Path(row.path).name}.*"))]
        if gone:
            session.execute(text("DELETE FROM file_removal WHERE removal_id = ANY(:ids)"), {"ids": gone})

    def _copies(self, folder: str, before: float | None) -> Iterator[Path]:
        """Yield the copies in a folder, without those that an open submission may have made."""
        for path in (self.folder / folder).glob("*"):
            if path.suffix != COPY_SUFFIX and STAGED.search(str(path)):
                with suppress(FileNotFoundError):
                    if before is None or path.stat().st_mtime < before - WRITING_SECONDS:
                        yield path


def open_sources(settings: Settings, sessions: sessionmaker[Session] | None = None) -> Sources:
    """Return the sources of a deployment.

    Args:
        settings: of the deployment.
        sessions: of its database, which names the archives of members.
    """
    cache = FetchCache(settings.staging, settings.cache_bytes)
    options = IngestOptions(roots=settings.media_roots, cache_bytes=settings.cache_bytes)
    members = StagedMembers(settings.staging.absolute(), options, sessions)
    return Sources(roots=settings.media_roots, staging=settings.staging, cache=cache, members=members)


def _remove(session: Session, copies: Sequence[Path]) -> int:
    if not copies:
        return 0
    waited_for = set(session.scalars(_WAITED_FOR, {"copies": sorted({path.stem for path in copies})}))
    removed = 0
    for path in copies:
        if path.stem not in waited_for:
            with suppress(OSError):  # the next call tries again
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def _archives(uri: str) -> Iterator[str]:
    """Yield each part of an address that may name the outermost archive: a path may contain the separator, too."""
    end = uri.find(MEMBER_SEPARATOR)
    while end > 0:
        yield uri[:end]
        end = uri.find(MEMBER_SEPARATOR, end + 1)


def _likelihood(archive: tuple[str, str]) -> tuple[bool, bool, int]:
    """Return a sort key of what may be the archive: an existing file first, then a path in an existing folder."""
    path = Path(archive[0])
    return remote.is_url(archive[0]) or path.is_file(), path.parent.is_dir(), len(archive[0])
