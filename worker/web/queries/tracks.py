"""Reads where faces are in the frames of a file, for boxes that are drawn over its picture.

Boxes are in pixels of the upright frame; where a video changes its size, they are scaled to the size of the file's
first frame, as `facet annotate` draws them. Between two faces of an appearance a box is interpolated. It ends with the
last one.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, RowMapping

    from worker.web.queries.media import SeenAppearance

FaceBox = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the upright frame."""

SAME_FRAME_SECONDS = 1e-3  # below any frame interval: database and player may round a time stamp differently
MAX_FACES = 50_000  # that one answer holds: an hour with seven people at two frames a second

_FACES = text("""
    SELECT appearance_id, at_seconds, x1, y1, x2, y2, frame_width, frame_height
    FROM faces WHERE appearance_id = ANY (:ids) ORDER BY appearance_id, at_seconds, quality DESC LIMIT :rows""")
_DROPPED = text("""
    SELECT face_id, at_seconds, at_seconds + hold_seconds AS until_seconds, dropped_reason AS reason,
           x1, y1, x2, y2, frame_width, frame_height
    FROM faces WHERE media_id = :id AND dropped_reason IS NOT NULL
        AND at_seconds <= :end AND (at_seconds + hold_seconds > :start OR at_seconds >= :start)
    ORDER BY at_seconds, face_no LIMIT :rows""")


@dataclass(frozen=True, slots=True)
class BoxTrack:
    """The boxes of an appearance."""

    appearance: SeenAppearance
    at_seconds: tuple[float, ...]
    """Ascending, each once."""
    boxes: tuple[FaceBox, ...]

    def box_at(self, seconds: float) -> FaceBox | None:
        """Return the box at a time, interpolated; None while the appearance is not in view."""
        times = self.at_seconds
        if not times[0] - SAME_FRAME_SECONDS <= seconds <= times[-1] + SAME_FRAME_SECONDS:
            return None
        after = bisect_right(times, seconds)
        if after in {0, len(times)}:
            return self.boxes[max(after - 1, 0)]
        share = (seconds - times[after - 1]) / (times[after] - times[after - 1])
        before, behind = self.boxes[after - 1], self.boxes[after]
        x1, y1, x2, y2 = (a + (b - a) * share for a, b in zip(before, behind, strict=True))
        return x1, y1, x2, y2

    def between(self, start: float, end: float) -> BoxTrack:
        """Return the part that is needed to draw a range of time: its faces, and one on either side."""
        first = max(bisect_right(self.at_seconds, start) - 1, 0)
        last = min(bisect_right(self.at_seconds, end) + 1, len(self.at_seconds))
        return BoxTrack(self.appearance, self.at_seconds[first:last], self.boxes[first:last])


@dataclass(frozen=True, slots=True)
class DroppedFace:
    """A face that did not reach the model."""

    face_id: int
    at_seconds: float
    until_seconds: float
    """Time up to which its frame stands."""
    reason: str
    box: FaceBox


@dataclass(frozen=True, slots=True)
class FrameSize:
    """The frame over which boxes are drawn."""

    width: int
    height: int


def read_tracks(
    connection: Connection, seen: Sequence[SeenAppearance], size: FrameSize, start: float, end: float
) -> list[BoxTrack]:
    """Return the boxes of the appearances in view in a range of time.

    Args:
        connection: of the reader.
        seen: appearances of one file.
        size: of its first frame.
        start: seconds.
        end: seconds, included.
    """
    here = {one.appearance_id: one for one in seen if one.start_seconds <= end and one.end_seconds >= start}
    if not here:
        return []
    rows = connection.execute(_FACES, {"ids": list(here), "rows": MAX_FACES}).mappings()
    tracks = []
    for appearance_id, faces in groupby(rows, key=lambda row: row["appearance_id"]):
        boxes: dict[float, FaceBox] = {}
        for face in faces:
            boxes.setdefault(face["at_seconds"], _scaled(face, size))
        track = BoxTrack(here[appearance_id], tuple(boxes), tuple(boxes.values()))
        tracks.append(track.between(start, end))
    return sorted(tracks, key=lambda track: (track.appearance.start_seconds, track.appearance.appearance_id))


def read_dropped(connection: Connection, media_id: int, size: FrameSize, start: float, end: float) -> list[DroppedFace]:
    """Return the dropped faces of a file whose frames stand in a range of time."""
    values = {"id": media_id, "start": start, "end": end, "rows": MAX_FACES}
    return [
        DroppedFace(row["face_id"], row["at_seconds"], row["until_seconds"], row["reason"], _scaled(row, size))
        for row in connection.execute(_DROPPED, values).mappings()
    ]


def _scaled(row: RowMapping, size: FrameSize) -> FaceBox:
    """Return the box of a face in pixels of the first frame."""
    across = size.width / row["frame_width"] if row["frame_width"] else 1.0
    down = size.height / row["frame_height"] if row["frame_height"] else 1.0
    return row["x1"] * across, row["y1"] * down, row["x2"] * across, row["y2"] * down
