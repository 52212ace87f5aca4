"""Opens the file of a unit for its decoder; remote files are fetched first, since decoders have no network."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import text

from worker.decode.opened import open_media
from worker.errors import MediaError, MediaUnreachable
from worker.storage import remote
from worker.storage.mounts import disk_error, require_present
from worker.storage.roots import local_roots, place_of_open, within
from worker.storage.stamps import ContentCheck, Expected, Verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from worker.storage.fetch_cache import FetchCache


_WAITED_FOR = text("""SELECT m.sha256 FROM media_file AS m JOIN analysis AS a USING (media_id)
                      WHERE a.state = 'pending' AND m.sha256 = ANY (:copies)""")


class Members(Protocol):
    """Copies of members of archives in the staging folder."""

    def restore(self, location: Path, check: Callable[[Path], None]) -> None:
        """Unpack a copy again if it was removed; ``check`` refuses archives outside of the roots of this host."""
        ...

    def evict(self, session: Session) -> int:
        """Remove copies that no open analysis waits for; return how many."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Open the files of units, below the folders and stores that this host may read."""

    roots: tuple[str, ...] = ()
    """Folders and URLs outside of which nothing is opened; none: no restriction."""
    staging: Path | None = None
    """Folder of copies, which may always be read."""
    cache: FetchCache | None = None
    """Keeps fetched files; None where nothing can be fetched."""
    verified: Verified = field(default_factory=Verified)
    members: Members | None = None
    """Unpacks members of archives whose copies were removed; None where that is not possible."""

    @contextmanager
    def open_local(self, location: str, expected: Expected | None = None) -> Iterator[str]:
        """Yield a path under which this process can read a file as long as the context; remote files are fetched.

        Args:
            location: absolute path or URL.
            expected: the content that was submitted; a copy of it is not fetched again.

        Raises:
            MediaUnreachable: this host cannot read it, or no longer; raised in place of the reader's error.
            MediaChanged: it holds, or held meanwhile, other bytes; raised in place of the reader's error, too.
            MediaRejected: it is ``missing`` or ``too_large``.
            MediaVanished: it disappeared while it was being opened.
            RetryableError: the staging folder is full.
        """
        if remote.is_url(location):
            with self._fetched(location, expected.sha256 if expected else None) as copy:
                yield str(copy)
            return
        self._check_root(Path(location).resolve())
        if self.members is not None:
            self.members.restore(Path(location), self._check_root)
        require_present(location, self.roots)
        descriptor = open_media(location)
        try:
            self._check_root(place_of_open(descriptor))  # a link may have replaced the file since the first check
            check = ContentCheck(descriptor, expected, self.verified)
            _compare(check.begin, location)
            try:
                yield f"/proc/self/fd/{descriptor}"
            except MediaError:
                require_present(location, self.roots)  # a disk that fails during reading looks like a damaged file
                _compare(check.end, location)
                raise
            _compare(check.end, location)
        finally:
            os.close(descriptor)

    @contextmanager
    def _fetched(self, url: str, sha256: str | None) -> Iterator[Path]:
        place = remote.place_of(url)
        if self.cache is None or (self.roots and not within(url, self.roots)):
            raise MediaUnreachable(place, f"{place} is outside of FACET_MEDIA_ROOTS of this host; add it there")

        with self.cache.open_copy(lambda: remote.start_transfer(remote.describe(url)), sha256) as copy:
            yield copy.path

    def clear(self) -> None:
        """Remove all copies that are not being read."""
        if self.cache is not None:
            self.cache.remove(self.cache.names())

    def evict(self, session: Session) -> None:
        """Remove copies of files that no open analysis waits for, unless they are being read."""
        copies = self.cache.names() if self.cache is not None else []
        if self.cache is not None and copies:
            waited_for = session.scalars(_WAITED_FOR, {"copies": copies})
            self.cache.remove(set(copies) - set(waited_for))
        self.evict_members(session)

    def evict_members(self, session: Session) -> None:
        """Remove copies of members of archives that no open analysis waits for."""
        if self.members is not None:
            self.members.evict(session)

    def _check_root(self, real: Path) -> None:
        """Check that a resolved path lies below a root of this host.

        Raises:
            MediaUnreachable: it does not.
        """
        if not self.roots:
            return
        allowed = local_roots(self.roots)
        if self.staging is not None:
            allowed.append(self.staging.resolve())
        if not any(real.is_relative_to(root) for root in allowed):
            ways = (*reversed(real.parents), real)
            place = next(way for way in ways if not any(root.is_relative_to(way) for root in allowed))
            raise MediaUnreachable(str(place), f"{place} is outside of FACET_MEDIA_ROOTS of this host; add it there")


def _compare(step: Callable[[], None], location: str) -> None:
    """Compare a file with its expected content.

    Raises:
        MediaUnreachable: its disk fails.
        MediaChanged: it holds other bytes.
    """
    try:
        step()
    except OSError as err:
        raise disk_error(location, err) from err
