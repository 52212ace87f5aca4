"""Opens the file of a page for reading: below the roots of this host, and with the size that was submitted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from worker.errors import MediaError
from worker.ledger.upkeep.staged_members import open_sources
from worker.storage.stamps import Expected
from worker.web.access.doors import ProxyDoor
from worker.web.queries.media import read_source

if TYPE_CHECKING:
    from worker.storage.sources import Sources
    from worker.web.queries.media import MediaSource
    from worker.web.visits import Visit


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that was opened; its holder closes the descriptor."""

    descriptor: int
    size: int
    changed_ns: int
    """Time of its last change."""


def find_source(visit: Visit) -> MediaSource:
    """Return the file that a path names.

    Raises:
        HTTPException: 404, there is none, or its bytes were never read.
    """
    with visit.desk.reading() as connection:
        source = read_source(connection, visit.number("media_id"))
    if source is None:
        raise HTTPException(404, "this file was refused or erased, so there is nothing to show; see its reason")
    return source


def sources_of(visit: Visit) -> Sources:
    """Return what opens files for a page.

    Raises:
        HTTPException: 404, the page is open to several users and no roots are set.
    """
    settings = visit.desk.settings
    if isinstance(visit.door, ProxyDoor) and not settings.media_roots:
        raise HTTPException(
            404, "videos and images are shown to several users only below FACET_MEDIA_ROOTS; its operator has to set it"
        )
    return open_sources(settings, visit.desk.database.sessions)


def expected_content(source: MediaSource) -> Expected | None:
    """Return the content that is compared while a file is decoded: images are hashed, videos are too long for it."""
    if source.kind != "image":
        return None
    return Expected(sha256=source.sha256, byte_size=source.byte_size, is_image=True)


def open_submitted(sources: Sources, source: MediaSource) -> OpenFile:
    """Open a file through the checks of a worker.

    Raises:
        HTTPException: 404, it cannot be read on this host, or holds other bytes.
    """
    try:
        with sources.open_local(source.location) as path:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except MediaError as err:
        raise HTTPException(404, f"the file cannot be shown: {err}") from err
    status = os.fstat(descriptor)
    if source.byte_size not in {None, status.st_size}:
        os.close(descriptor)
        raise HTTPException(404, "the file changed after it was submitted, so its boxes no longer fit; submit it again")
    return OpenFile(descriptor, status.st_size, status.st_mtime_ns)
