"""Where the bytes of a unit are on this host, for the decoder that will read them: decoders have no network."""

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
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy.orm import Session

    from worker.storage.fetch_cache import FetchCache


_WAITED_FOR = text("""SELECT m.sha256 FROM media_file AS m JOIN analysis AS a USING (media_id)
                      WHERE a.state = 'pending' AND m.sha256 = ANY (:copies)""")


class Members(Protocol):
    """Copies of members of archives in the staging folder."""

    def restore(self, location: Path, check: Callable[[Path], None]) -> None:
        """Unpack a copy again if it is gone; ``check`` refuses archives that this host may not read."""
        ...

    def evict(self, session: Session) -> int:
        """Remove copies that no open analysis waits for; returns how many."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Opens what a unit names, below the folders and stores that this host may read."""

    roots: tuple[str, ...] = ()
    """Folders and URLs outside of which nothing is opened; none: no restriction."""
    staging: Path | None = None
    """Folder of copies, which may always be read."""
    cache: FetchCache | None = None
    """Keeps what is fetched; None where nothing can be."""
    verified: Verified = field(default_factory=Verified)
    members: Members | None = None
    """Unpacks members of archives again whose copies are gone; None where nothing can be."""

    @contextmanager
    def open_local(self, location: str, expected: Expected | None = None) -> Iterator[str]:
        """Open a file and return its path in this process for as long as it is read; what lies in a store is fetched.

        Args:
            location: absolute path or URL.
            expected: what should be there; a copy of that is not fetched again.

        Raises:
            MediaUnreachable: this host cannot read it, or no longer; raised in place of the reader's error.
            MediaChanged: it holds other bytes, or did so while it was read; also in place of what the reader met.
            MediaRejected: it is ``missing`` or ``too_large``.
            DecoderCrashed: it went while it was being opened.
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
            self._check_root(place_of_open(descriptor))  # a link may have taken the file's place since
            check = ContentCheck(descriptor, expected, self.verified)
            _compare(check.begin, location)
            try:
                yield f"/proc/self/fd/{descriptor}"
            except MediaError:
                require_present(location, self.roots)  # a disk that went away in the middle looks like a broken file
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

        def fetch() -> tuple[int, Iterable[bytes]]:
            file = remote.describe(url)
            return file.byte_size, remote.chunks(file)

        with self.cache.open_copy(fetch, sha256) as (path, _):
            yield path

    def clear(self) -> None:
        """Remove all copies that nobody reads."""
        if self.cache is not None:
            self.cache.remove(self.cache.names())

    def evict(self, session: Session) -> None:
        """Remove copies of files that no open analysis waits for, unless somebody reads them."""
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
        """Refuse, on this host, what really lies outside of its roots.

        Raises:
            MediaUnreachable: it does.
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
    """Compare a file with what it should hold.

    Raises:
        MediaUnreachable: its disk does not give its bytes.
        MediaChanged: it holds others.
    """
    try:
        step()
    except OSError as err:
        raise disk_error(location, err) from err
