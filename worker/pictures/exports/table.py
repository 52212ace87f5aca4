"""Writes appearances as CSV, a row each."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.pictures.exports.segments import MediaSegments, Segment

SEGMENT_COLUMNS = (
    "media_id", "uri", "kind", "appearance_id", "person_id", "name", "start_seconds", "end_seconds", "age", "gender",
    "emotion", "face_count", "quality", "best_at_seconds", "left", "top", "width", "height",
)  # fmt: skip
"""The last four are shares of the frame in which the best face lies."""


def csv_lines(files: Iterable[MediaSegments]) -> Iterator[str]:
    """Yield the header and a line for each appearance, of any number of files."""
    yield _line(SEGMENT_COLUMNS)
    for file in files:
        for segment in file.segments:
            yield _line((file.media_id, file.uri, file.kind, *_cells(segment)))


def _cells(segment: Segment) -> tuple[object, ...]:
    box = segment.box
    return (
        segment.appearance_id, segment.person_id, segment.name,
        round(segment.start_seconds, 6), round(segment.end_seconds, 6),
        segment.age, segment.gender, segment.emotion, segment.face_count, segment.quality,
        *((None,) * 5 if box is None else (box.at_seconds, box.left, box.top, box.width, box.height)),
    )  # fmt: skip


def _line(cells: tuple[object, ...]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([round(c, 6) if isinstance(c, float) else c for c in cells])
    return line.getvalue()
