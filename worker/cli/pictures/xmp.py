"""``facet export xmp``: face regions for photo programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from worker.cli.output.terminal import console, echo

if TYPE_CHECKING:
    from pathlib import Path

    from worker.config import Settings
    from worker.pictures.exports.segments import SegmentSelection
    from worker.pictures.regions.writer import WrittenRegions
    from worker.storage.database import Database

MAX_IMAGE_LINES = 20  # of images that were left out


def export_regions(
    config: Settings, database: Database, selection: SegmentSelection, output: Path | None, *, embed: bool
) -> None:
    """Write the face regions of the selected images.

    Raises:
        Exit: with status 1 when an image has none.
    """
    from worker.decode.client import Decoder
    from worker.ledger.upkeep.staged_members import open_sources
    from worker.pictures.exports.segments import read_segments
    from worker.pictures.regions.images import ArchiveImages
    from worker.pictures.regions.writer import RegionTarget, write_regions
    from worker.types import DecodeLimits

    limits = DecodeLimits(memory_bytes=config.decode_memory_bytes, wall_seconds=config.decode_wall_seconds)
    url = config.reader_database_url or database.url
    with read_segments(url, selection) as files, Decoder(limits) as decoder:
        images = ArchiveImages(database.sessions, open_sources(config, database.sessions), decoder)
        with console(stderr=True).status("writing ..."):
            done = write_regions(files, images, RegionTarget(output, embed=embed))
    _report(done, output, embed=embed)


def _report(done: WrittenRegions, output: Path | None, *, embed: bool) -> None:
    kind = "image" if embed else "sidecar"
    where = "" if output is None and embed else " beside the images" if output is None else f" in {output}"
    echo(f"{done.faces:,} face regions written into {done.images:,} {kind}{'s' * (done.images != 1)}{where}")
    for uri, reason in done.left_out[:MAX_IMAGE_LINES]:
        echo(f"{uri} is left out: {reason}", err=True)
    if len(done.left_out) > MAX_IMAGE_LINES:
        echo(f"{len(done.left_out) - MAX_IMAGE_LINES:,} more images are left out", err=True)
    if done.left_out:
        raise typer.Exit(1)
