"""Names of sidecars: ``photo.jpg.xmp`` as digiKam and darktable have it, ``photo.xmp`` as Lightroom has it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from worker.visible import visible

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".xmp"


def present_sidecar(image: Path) -> Path | None:
    """Return the sidecar of an image; None where there is none, or it may be that of another file of this stem."""
    full = image.with_name(image.name + SUFFIX)
    if full.is_file():
        return full
    short = image.with_suffix(SUFFIX)
    if not short.is_file():
        return None
    same_stem = [path for path in image.parent.glob(f"{_literal(image.stem)}.*") if path.suffix.lower() != SUFFIX]
    return short if [path for path in same_stem if path.stem == image.stem] == [image] else None


def new_sidecar(image: Path) -> Path:
    """Return the name of a sidecar that is not there yet."""
    return image.with_name(image.name + SUFFIX)


def images_of(sidecar: Path) -> list[Path]:
    """Return the files that a sidecar may describe: the one whose whole name it has, or else those of its stem."""
    full = sidecar.with_suffix("")
    if full.is_file():
        return [full]
    found = sorted(sidecar.parent.glob(f"{_literal(sidecar.stem)}.*"))
    return [path for path in found if path.suffix.lower() != SUFFIX and path.stem == sidecar.stem and path.is_file()]


def _literal(name: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def mirrored(folder: Path, place: str) -> Path:
    """Return the path below a folder that mirrors an address: ``/photos/a.jpg`` is ``folder/photos/a.jpg``."""
    parts = [part for part in place.replace("://", "/").split("/") if part not in {"", ".", ".."}]
    return folder.joinpath(*(visible(part) for part in parts))


def replace_file(path: Path, data: bytes, like: Path | None = None) -> None:
    """Write a file under another name and rename it, so that there is the old one or the new one, never a part.

    Args:
        path: of the file.
        data: its bytes.
        like: a file whose permissions and extended attributes it gets.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:200]}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if like is not None:
            shutil.copystat(like, part)
            os.utime(part)
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
