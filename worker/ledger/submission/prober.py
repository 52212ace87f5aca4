"""Probes the files of a submission, and checks that they hold the bytes that ingest read."""

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
    """Reads the metadata of files, wherever they lie."""

    def __init__(self, decoder: Decoder, sources: Sources) -> None:
        self._decoder = decoder
        self._sources = sources
        self._expected: dict[str, Expected] = {}

    def remember(self, items: Iterable[FoundFile | RefusedFile]) -> Iterator[FoundFile | RefusedFile]:
        """Pass items on, and remember hash, size and stamp of the videos among them."""
        for item in items:
            if isinstance(item, FoundFile) and item.kind == "video":
                self._expected[str(item.location)] = expected_of(item)
            yield item

    def probe(self, location: str, kind: MediaKind) -> MediaInfo:
        """Return the metadata of a file.

        Raises:
            MediaError: it cannot be read.
        """
        with self._sources.open_local(location, self._expected.pop(location, None)) as path:
            return self._decoder.probe(path, kind)


def expected_of(found: FoundFile) -> Expected:
    """Return hash, size and stamp of a file when ingest read it."""
    return Expected(sha256=found.sha256, byte_size=found.byte_size, stamp=found.stamp, is_image=found.kind == "image")
