"""Writes the face regions of images: sidecars in a folder or beside the images, or copies of images that hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from worker.errors import FacetError, UsageError
from worker.pictures.regions.boxes import RegionBox
from worker.pictures.regions.carriers import read_packet, write_packet
from worker.pictures.regions.editing import ShownFace, edit_packet, new_packet
from worker.pictures.regions.images import plain_path
from worker.pictures.regions.sidecars import SUFFIX, mirrored, new_sidecar, present_sidecar, replace_file
from worker.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from worker.pictures.exports.segments import MediaSegments
    from worker.pictures.regions.editing import ImageFrame
    from worker.pictures.regions.images import ArchiveImages
    from worker.pictures.subjects import StoredMedia

    Chosen = tuple[MediaSegments, list[ShownFace]]


@dataclass(frozen=True, slots=True)
class RegionTarget:
    """Where regions go."""

    folder: Path | None
    """Folder, or a single sidecar; None: beside the images."""
    embed: bool = False
    """Into the images: copies of them in the folder, or the images themselves."""


@dataclass(slots=True)
class WrittenRegions:
    """The outcome of an export."""

    images: int = 0
    faces: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Addresses of images that have none, and why."""


def write_regions(files: Iterable[MediaSegments], images: ArchiveImages, target: RegionTarget) -> WrittenRegions:
    """Write the regions of each image; an image that cannot be written is noted, and the others are.

    Raises:
        UsageError: no face in an image is selected, or there are several images for one sidecar.
    """
    done = WrittenRegions()
    chosen: Iterable[Chosen] = ((file, faces) for file in files if (faces := shown_faces_of(file)))
    if target.folder is not None and target.folder.suffix.lower() == SUFFIX:
        chosen = _only_one(chosen, target.folder)
    for file, faces in chosen:
        try:
            _write(file, faces, images, target)
        except FacetError as err:
            done.left_out.append((file.uri, str(err)))
        except OSError as err:
            done.left_out.append((file.uri, f"{err.filename or 'the file'} cannot be written: {err.strerror or err}"))
        else:
            done.images += 1
            done.faces += len(faces)
    if not done.images and not done.left_out:
        raise UsageError("no face in an image is selected; the views appearances and media show what there is")
    return done


def _only_one(chosen: Iterable[Chosen], output: Path) -> list[Chosen]:
    """Return the image of a single sidecar, before anything is written.

    Raises:
        UsageError: there are several.
    """
    first = list(islice(chosen, 2))
    if len(first) > 1:
        raise UsageError(
            f"several images are selected, and {output} is one sidecar; expected a folder: -o {output.with_suffix('')}"
        )
    return first


def shown_faces_of(file: MediaSegments) -> list[ShownFace]:
    """Return the faces of an image's first frame; a video, and later pages, have none."""
    if file.kind != "image":
        return []
    return [
        ShownFace(
            visible(one.name) if one.name else None,
            RegionBox(one.box.left, one.box.top, one.box.width, one.box.height),
        )
        for one in file.segments
        if one.box is not None and one.box.at_seconds == 0 and one.box.width > 0 and one.box.height > 0
    ]


def _write(file: MediaSegments, faces: list[ShownFace], images: ArchiveImages, target: RegionTarget) -> None:
    media = images.find(file.media_id)
    frame = images.frame(file, media)
    if target.embed:
        _embed(media, faces, frame, images, target)
        return
    path = plain_path(media)
    present = None if path is None else present_sidecar(path)
    packet = edit_packet(present.read_bytes(), faces, frame) if present else new_packet(faces, frame)
    if target.folder is not None:
        is_one = target.folder.suffix.lower() == SUFFIX
        place = target.folder if is_one else new_sidecar(_mirror(media, target.folder))
    else:
        place = present or new_sidecar(_path_beside(media))
    replace_file(place, packet, present)


def _embed(
    media: StoredMedia, faces: list[ShownFace], frame: ImageFrame, images: ArchiveImages, target: RegionTarget
) -> None:
    data = images.read(media)
    present = read_packet(data)
    packet = edit_packet(present, faces, frame) if present else new_packet(faces, frame, is_sidecar=False)
    written = write_packet(data, packet)
    path = plain_path(media)
    place = _path_beside(media).resolve() if target.folder is None else _mirror(media, target.folder)
    replace_file(place, written, None if path is None else path)


def _mirror(media: StoredMedia, folder: Path) -> Path:
    path = plain_path(media)
    return mirrored(folder, media.uri if path is None else str(path))


def _path_beside(media: StoredMedia) -> Path:
    path = plain_path(media)
    if path is None:
        raise FacetError("it lies in an archive or a store, and nothing can be written beside it; pass --output")
    return path
