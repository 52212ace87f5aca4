"""Finds the images below some paths whose faces another program marked, in sidecars and in the images themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.pictures.regions.carriers import read_embedded
from worker.pictures.regions.packet import read_mp, read_mwg
from worker.pictures.regions.sidecars import SUFFIX, images_of
from worker.pictures.regions.xml_tree import MAX_XML_BYTES, UnreadableXmlError, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.pictures.regions.xml_tree import Document


@dataclass(frozen=True, slots=True)
class MarkedImage:
    """An image with regions."""

    image: Path
    """Its path; it need not be there, where sidecars lie in a folder of their own."""
    source: Path
    """The file that holds the regions."""
    document: Document


@dataclass(frozen=True, slots=True)
class UnreadableMarks:
    """A file whose regions cannot be read."""

    source: Path
    reason: str


def find_marked(paths: Sequence[Path]) -> Iterator[MarkedImage | UnreadableMarks]:
    """Yield the images with regions, each once: the regions of a sidecar hide those in the image.

    Args:
        paths: folders, sidecars and images.

    Raises:
        UsageError: a path does not exist.
    """
    seen: set[str] = set()
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist, expected a folder, an image or a sidecar")
        files = [path] if path.is_file() else _files(path)
        folder = path if path.is_dir() else path.parent
        for source in sorted(files, key=lambda file: (file.suffix.lower() != SUFFIX, str(file))):
            yield from _marks(source, folder, seen)


def _files(folder: Path) -> list[Path]:
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]


def _marks(source: Path, folder: Path, seen: set[str]) -> Iterator[MarkedImage | UnreadableMarks]:
    is_sidecar = source.suffix.lower() == SUFFIX
    if not is_sidecar and os.path.realpath(source) in seen:
        return
    try:
        packet = _read_sidecar(source) if is_sidecar else read_embedded(source)
        document = parse(packet) if packet is not None else None
        has_faces = document is not None and any(
            found is not None and found.faces for found in (read_mwg(document), read_mp(document))
        )
    except OSError as err:
        yield UnreadableMarks(source, f"it cannot be read: {err.strerror or err}")
        return
    except UnreadableXmlError as err:
        yield UnreadableMarks(source, str(err))
        return
    if document is None or not has_faces:
        return
    for image in (images_of(source) or [_mirrored_image(source, folder)]) if is_sidecar else [source]:
        seen.add(os.path.realpath(image))
        yield MarkedImage(image, source, document)


def _read_sidecar(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(MAX_XML_BYTES + 1)


def _mirrored_image(sidecar: Path, folder: Path) -> Path:
    """Return the image of a sidecar without one beside it: in a folder that mirrors the places of images."""
    return Path("/") / sidecar.relative_to(folder).with_suffix("")
