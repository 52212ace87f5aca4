"""Where the bytes of a unit are on this host, for the decoder that will read them: decoders have no network."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker import remote
from worker.absences import look_for
from worker.cache import FetchCache
from worker.errors import MediaAway, MediaError
from worker.ingest import Found

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.orm import Session

    from worker.config import Settings
    from worker.decode.client import Decoder
    from worker.ingest import Refused
    from worker.values import MediaInfo, MediaKind


_WAITED_FOR = text("""SELECT m.sha256 FROM media_file AS m JOIN analysis AS a USING (media_id)
                      WHERE a.state = 'pending' AND m.sha256 = ANY (:copies)""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Opens what a unit names, below the folders and stores that this host may read."""

    roots: tuple[str, ...] = ()
    """Folders and URLs outside of which nothing is opened; none: no restriction."""
    staging: Path | None = None
    """Folder of copies, which may always be read."""
    cache: FetchCache | None = None
    """Keeps what is fetched; None where nothing can be."""

    @staticmethod
    def of(settings: Settings) -> Sources:
        """Return those of a deployment."""
        cache = FetchCache(settings.staging, settings.cache_bytes)
        return Sources(roots=settings.media_roots, staging=settings.staging, cache=cache)

    @contextmanager
    def lend(self, location: str, sha256: str | None = None) -> Iterator[str]:
        """Give the path of a file for as long as it is read; what lies in a store is fetched.

        Args:
            location: absolute path or URL.
            sha256: of what should be there; a copy of that is not fetched again.

        Raises:
            MediaAway: this host cannot read it; also when it goes away meanwhile, in place of what the reader met.
            MediaRejected: it is ``missing``, ``changed`` or ``too_large``.
            RetryableError: the staging folder is full.
        """
        if remote.is_url(location):
            with self._fetched(location, sha256) as copy:
                yield str(copy)
            return
        self._check_root(location)
        look_for(location, self.roots)
        try:
            yield location
        except MediaError:
            look_for(location, self.roots)  # a disk that went away in the middle looks like a broken file
            raise

    @contextmanager
    def _fetched(self, url: str, sha256: str | None) -> Iterator[Path]:
        place = remote.place_of(url)
        if self.cache is None or (self.roots and not remote.within(url, self.roots)):
            raise MediaAway(place, f"{place} is outside of FACET_MEDIA_ROOTS of this host; add it there")

        def fetch() -> tuple[int, Iterable[bytes]]:
            file = remote.describe(url)
            return file.byte_size, remote.chunks(file)

        with self.cache.lend(fetch, sha256) as (path, _):
            yield path

    def clear(self) -> None:
        """Remove all copies that nobody reads."""
        if self.cache is not None:
            self.cache.remove(self.cache.names())

    def tidy(self, session: Session) -> None:
        """Remove copies of files that no open analysis waits for, unless somebody reads them."""
        copies = self.cache.names() if self.cache is not None else []
        if self.cache is not None and copies:
            waited_for = session.scalars(_WAITED_FOR, {"copies": copies})
            self.cache.remove(set(copies) - set(waited_for))

    def _check_root(self, location: str) -> None:
        """Refuse, on this host, what lies outside of its roots.

        Raises:
            MediaAway: it does.
        """
        if not self.roots:
            return
        real = Path(location).resolve()
        allowed = [Path(root).resolve() for root in self.roots if not remote.is_url(root)]
        if self.staging is not None:
            allowed.append(self.staging.resolve())
        if not any(real.is_relative_to(root) for root in allowed):
            ways = (*reversed(real.parents), real)
            place = next(way for way in ways if not any(root.is_relative_to(way) for root in allowed))
            raise MediaAway(str(place), f"{place} is outside of FACET_MEDIA_ROOTS of this host; add it there")


class FileProber:
    """Reads what files say of themselves, wherever they lie."""

    def __init__(self, decoder: Decoder, sources: Sources) -> None:
        self._decoder = decoder
        self._sources = sources
        self._hashes: dict[str, str] = {}

    def noting(self, items: Iterable[Found | Refused]) -> Iterator[Found | Refused]:
        """Pass items on, and keep in mind which copies were just fetched."""
        for item in items:
            if isinstance(item, Found) and item.kind == "video" and remote.is_url(str(item.location)):
                self._hashes[str(item.location)] = item.sha256
            yield item

    def probe(self, location: str, kind: MediaKind) -> MediaInfo:
        """Return what a file says of itself.

        Raises:
            MediaError: it cannot be read.
        """
        if not remote.is_url(location):
            return self._decoder.probe(location, kind)
        with self._sources.lend(location, self._hashes.pop(location, None)) as path:
            return self._decoder.probe(path, kind)
