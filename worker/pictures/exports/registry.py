"""The formats of ``facet export``, and the files that they are written to."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import IO, TYPE_CHECKING

from worker.errors import FacetError, UsageError
from worker.pictures.exports.elan import write_eaf
from worker.pictures.exports.iiif import write_iiif
from worker.pictures.exports.labelling import coco_pieces, label_studio_pieces
from worker.pictures.exports.subtitles import write_ass, write_srt, write_vtt
from worker.pictures.exports.table import csv_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from worker.pictures.exports.segments import MediaSegments

MAX_STEM_CHARACTERS = 60  # of a file's name that its export keeps: file systems allow 255 bytes


@dataclass(frozen=True, slots=True)
class Format:
    """A format that has a document for each file."""

    suffix: str
    write: Callable[[MediaSegments], str]
    is_timed: bool = True
    """Whether it describes times alone, so that an image has none."""


@dataclass(frozen=True, slots=True)
class WholeFormat:
    """A format that has one document for all files."""

    pieces: Callable[[Iterable[MediaSegments]], Iterator[str]]
    """Yields the document in pieces, each with one item, and a frame around them."""
    frame: int
    """Number of pieces that are no item."""
    item: str
    """Noun for an item."""


def whole_formats(base_url: str | None) -> dict[str, WholeFormat]:
    """Return the formats that have one document for all files, by name.

    Args:
        base_url: of the addresses of images; None for paths.
    """
    return {
        "csv": WholeFormat(csv_lines, 1, "appearance"),
        "coco": WholeFormat(coco_pieces, 2, "face"),
        "label-studio": WholeFormat(lambda files: label_studio_pieces(files, base_url), 2, "task"),
    }


def document_formats(base_url: str) -> dict[str, Format]:
    """Return the formats by name.

    Args:
        base_url: of the identifiers in web annotations.
    """
    return {
        "vtt": Format(".vtt", write_vtt),
        "srt": Format(".srt", write_srt),
        "ass": Format(".ass", write_ass),
        "eaf": Format(".eaf", write_eaf),
        "iiif": Format(".json", lambda file: write_iiif(file, base_url), is_timed=False),
    }


def write_documents(form: Format, files: Iterable[MediaSegments], output: Path) -> int:
    """Write a document for each file: into a folder, or one document into a file.

    Args:
        form: the format.
        files: with their appearances.
        output: a folder that exists or has no suffix in its name, or a file.

    Returns:
        Number of documents.

    Raises:
        UsageError: there is nothing to write, or there are several files for one document.
        FacetError: the output cannot be written.
    """
    timed: Iterable[MediaSegments] = (file for file in files if file.kind == "video" or not form.is_timed)
    into_folder = output.is_dir() or not output.suffix
    if not into_folder:
        timed = _only_one(timed, output)
    count = 0
    for file in timed:
        path = output / document_name(file, form.suffix) if into_folder else output
        with _written(path) as stream:
            stream.write(form.write(file))
        count += 1
    if not count:
        raise UsageError(
            f"no appearance in {'a video' if form.is_timed else 'a file'} is selected; "
            "the views appearances and media show what there is"
        )
    return count


def _only_one(files: Iterable[MediaSegments], output: Path) -> list[MediaSegments]:
    """Return the files of one document, before anything is written.

    Raises:
        UsageError: there are several.
    """
    first = list(islice(files, 2))
    if len(first) > 1:
        raise UsageError(
            f"several files are selected, and {output} is one document; expected a folder: -o {output.with_suffix('')}"
        )
    return first


def write_one_document(form: WholeFormat, files: Iterable[MediaSegments], output: Path) -> int:
    """Write one document of all files; returns the number of its items.

    Raises:
        UsageError: there is nothing to write, or the output is a folder.
        FacetError: the output cannot be written.
    """
    if output.is_dir():
        raise UsageError(f"{output} is a folder, expected a file to write")
    count = -form.frame
    with _written(output) as stream:
        for piece in form.pieces(files):
            stream.write(piece)
            count += 1
        if count < 1:
            raise UsageError(f"no {form.item} is selected; the views appearances and media show what there is")
    return count


def document_name(file: MediaSegments, suffix: str) -> str:
    """Return the name of a file's document: its own name, made safe, and its number, which no other file has."""
    stem = re.sub(r"[^\w.-]+", "_", PurePath(file.uri).stem).lstrip(".")[:MAX_STEM_CHARACTERS]
    return f"{stem or 'media'}-{file.media_id}{suffix}"


@contextmanager
def _written(path: Path) -> Iterator[IO[str]]:
    """Open a file under another name and rename it at the end, so that no partial one has the final name."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        part.replace(path)
    except OSError as err:
        raise FacetError(f"{path} cannot be written: {err.strerror or err}") from err
    finally:
        with suppress(OSError):  # its folder may be none
            part.unlink(missing_ok=True)
