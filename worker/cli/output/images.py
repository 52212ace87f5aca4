"""Image files that commands write: checked before the work, so that no minute is spent for a file that cannot be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from worker.cli.output.terminal import echo
from worker.errors import FacetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.pictures.sheets import Tile

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def check_image(output: Path) -> None:
    """Refuse a file that cannot be written.

    Raises:
        UsageError: its ending names no format, its folder is missing, or the place is not writable.
    """
    if output.suffix.lower() not in IMAGE_SUFFIXES:
        raise UsageError(f"{output} ends in {output.suffix!r}, expected one of {', '.join(IMAGE_SUFFIXES)}")
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent} is no folder, expected the folder of {output.name}; make it first")
    if output.is_dir():
        raise UsageError(f"{output} is a folder, expected a file; give another name")
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise UsageError(f"{output} cannot be written; fix permissions or give another place")


def write_sheets(tiles: Sequence[Tile], title: str, output: Path, columns: int = 8, *, err: bool = False) -> None:
    """Draw contact sheets, write them, and report how many faces are where.

    Args:
        tiles: in order.
        title: of each page.
        output: file of the first page.
        columns: faces in a row.
        err: report to standard error.

    Raises:
        FacetError: a file cannot be written.
    """
    from worker.pictures.sheets import contact_sheets, write_pages

    try:
        written = write_pages(contact_sheets(tiles, title, columns), output)
    except OSError as err_:
        raise FacetError(f"{output} cannot be written: {err_.strerror or err_}") from err_
    between = " and " if len(written) == 2 else f" and {len(written) - 1} further pages, up to "
    pages = "" if len(written) == 1 else f"{between}{written[-1].name}"
    echo(f"{len(tiles)} faces drawn to {output}{pages}", err=err)
