"""Image files of the archive whose regions are written: their places, their orientations, their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import FacetError
from worker.ingest.files import MEMBER_SEPARATOR
from worker.pictures.regions.editing import ImageFrame
from worker.pictures.subjects import media_by_id
from worker.storage import remote

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from worker.decode.client import Decoder
    from worker.pictures.exports.segments import MediaSegments
    from worker.pictures.subjects import StoredMedia
    from worker.storage.sources import Sources

_SIZE = text("SELECT width, height, orientation FROM media WHERE media_id = :media_id")
MAX_IMAGE_BYTES = 1 << 30  # of an image that is read to embed regions


class ArchiveImages:
    """Opens images of the archive, and reads orientations that no analysis has stored."""

    def __init__(self, sessions: sessionmaker[Session], sources: Sources, decoder: Decoder) -> None:
        self._sessions = sessions
        self._sources = sources
        self._decoder = decoder

    def find(self, media_id: int) -> StoredMedia:
        """Return an image with its present place.

        Raises:
            UsageError: it is not in the archive any more.
        """
        with self._sessions.begin() as session:
            return media_by_id(session, media_id)

    def frame(self, file: MediaSegments, media: StoredMedia) -> ImageFrame:
        """Return how an image lies in its file; one that was analysed before orientations were stored is opened.

        Raises:
            MediaError: it has to be opened, and cannot be read or has changed.
        """
        return self._frame(media, file.width, file.height, file.orientation)

    def frame_of(self, media_id: int) -> ImageFrame:
        """Return how an image lies in its file.

        Raises:
            UsageError: it is not in the archive any more.
            MediaError: it has to be opened, and cannot be read or has changed.
        """
        media = self.find(media_id)
        with self._sessions.begin() as session:
            width, height, orientation = session.execute(_SIZE, {"media_id": media_id}).one()
        return self._frame(media, int(width), int(height), orientation)

    def _frame(self, media: StoredMedia, width: int, height: int, orientation: int | None) -> ImageFrame:
        if orientation is None:
            with self._sources.open_local(media.location, media.expected) as path:
                orientation = self._decoder.probe(path, "image").orientation
        return ImageFrame(width, height, orientation)

    def read(self, media: StoredMedia) -> bytes:
        """Return the bytes of an image, which are those that were analysed.

        Raises:
            MediaError: it cannot be read or has changed.
            FacetError: it is too large.
        """
        with self._sources.open_local(media.location, media.expected) as path, Path(path).open("rb") as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
        if len(data) > MAX_IMAGE_BYTES:
            raise FacetError(f"it has more than {MAX_IMAGE_BYTES:,} bytes; write a sidecar")
        return data


def plain_path(media: StoredMedia) -> Path | None:
    """Return the path of an image that is a file of its own on this host; None for one in an archive or store."""
    if remote.is_url(media.location) or MEMBER_SEPARATOR in media.uri:
        return None
    return Path(media.location)
