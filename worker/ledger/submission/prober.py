"""Reads what the files of a submission say of themselves, and keeps in mind what they held when ingest read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.ingest import FoundFile
from worker.storage.stamps import Expected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.decode.client import Decoder
    from worker.ingest import RefusedFile
    from worker.storage.sources import Sources
    from worker.types import MediaInfo, MediaKind


class FileProber:
    """Reads what files say of themselves, wherever they lie."""

    def __init__(self, decoder: Decoder, sources: Sources) -> None:
        self._decoder = decoder
        self._sources = sources
        self._expected: dict[str, Expected] = {}

    def remember(self, items: Iterable[FoundFile | RefusedFile]) -> Iterator[FoundFile | RefusedFile]:
        """Pass items on, and keep in mind what the videos among them held."""
        for item in items:
            if isinstance(item, FoundFile) and item.kind == "video":
                self._expected[str(item.location)] = expected_of(item)
            yield item

    def probe(self, location: str, kind: MediaKind) -> MediaInfo:
        """Return what a file says of itself.

        Raises:
            MediaError: it cannot be read.
        """
        with self._sources.open_local(location, self._expected.pop(location, None)) as path:
            return self._decoder.probe(path, kind)


def expected_of(found: FoundFile) -> Expected:
    """Return what a file held when ingest read it."""
    return Expected(sha256=found.sha256, byte_size=found.byte_size, stamp=found.stamp, is_image=found.kind == "image")
