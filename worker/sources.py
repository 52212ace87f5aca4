"""Where the bytes of a unit are on this host, for the decoder that will read them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.absences import look_for
from worker.errors import MediaAway, MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Opens what a unit names, below the folders that this host may read."""

    roots: tuple[str, ...] = ()
    """Folders outside of which nothing is opened; none: no restriction."""
    staging: Path | None = None
    """Folder of copies, which may always be read."""

    @contextmanager
    def lend(self, location: str) -> Iterator[str]:
        """Give the path of a file for as long as it is read.

        Raises:
            MediaAway: this host cannot read it; also when it goes away meanwhile, in place of what the reader met.
            MediaRejected: ``missing``.
        """
        self._check_root(location)
        look_for(location, self.roots)
        try:
            yield location
        except MediaError:
            look_for(location, self.roots)  # a disk that went away in the middle looks like a broken file
            raise

    def _check_root(self, location: str) -> None:
        """Refuse, on this host, what lies outside of its roots.

        Raises:
            MediaAway: it does.
        """
        if not self.roots:
            return
        real = Path(location).resolve()
        allowed = [Path(root).resolve() for root in self.roots]
        if self.staging is not None:
            allowed.append(self.staging.resolve())
        if not any(real.is_relative_to(root) for root in allowed):
            ways = (*reversed(real.parents), real)
            place = next(way for way in ways if not any(root.is_relative_to(way) for root in allowed))
            raise MediaAway(str(place), f"{place} is outside of FACET_MEDIA_ROOTS of this host; add it there")
