"""People carried over from other trunks: an appearance at the place of a known one is of the same person.

Embeddings of two trunks are never compared. What two trunks have in common are places: a file, a time and a box. So an
appearance that is new under its trunk is pinned to the person that most of its faces show under another trunk, that of
the views first. People keep their numbers and names that way, and new embeddings enter the gallery under them. Whether
the new trunk agrees is the question of the next regrouping.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.arrays import read_rows
from worker.columns import ArrayColumns
from worker.identity.corrections.anchors import MAX_SECONDS_OFF, MIN_ANCHOR_OVERLAP
from worker.identity.corrections.conflicts import people_of_groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.arrays import ColumnType
    from worker.identity.grouping.constraints import Constraints
    from worker.identity.stored_appearances import StoredAppearances

    Ids = NDArray[np.int64]

_BLOCK_PAIRS = 1_000_000  # faces compared at a time: 100 MB
_FILE_SECONDS = 1e8  # apart on one axis of time: three years, longer than any video

_TYPES: Mapping[str, ColumnType] = {
    "trunk_id": "bigint", "appearance_id": "bigint", "person_id": "bigint", "media_id": "bigint",
    "at_seconds": "double precision", "x1": "real", "y1": "real", "x2": "real", "y2": "real",
}  # fmt: skip
_COLUMNS = (
    "s.trunk_id::bigint, s.appearance_id, coalesce(s.person_id, -1), s.media_id, f.at_seconds, f.x1, f.y1, f.x2, f.y2"
)
_NEW = f"""
    SELECT {_COLUMNS} FROM facet.appearance s JOIN facet.face_embedding e USING (appearance_id)
    JOIN facet.face f USING (face_id) WHERE s.appearance_id = ANY(%(appearances)s)"""  # noqa: S608 - constant columns
_KNOWN = f"""
    SELECT {_COLUMNS}
    FROM unnest(%(media)s::bigint[], %(first)s::float8[], %(last)s::float8[]) AS span (media_id, first, last)
    JOIN facet.appearance s ON s.media_id = span.media_id AND s.start_seconds <= last AND s.end_seconds >= first
    JOIN facet.analysis a USING (analysis_id)
    JOIN facet.face_embedding e USING (appearance_id)
    JOIN facet.face f USING (face_id)
    WHERE s.trunk_id <> %(trunk_id)s AND s.person_id IS NOT NULL AND a.is_current"""  # noqa: S608 - constant columns
_OTHER_TRUNKS = text("""
    SELECT layer_id FROM layer WHERE kind = 'trunk' AND layer_id <> :trunk_id
    ORDER BY layer_id = (SELECT trunk_id FROM release WHERE active) DESC NULLS LAST, layer_id DESC""")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PlacedFaces(ArrayColumns):
    """Faces at their places, with the appearance of each."""

    trunk: Ids
    """(N,) trunk of the appearance."""
    appearance: Ids
    """(N,) id of the appearance."""
    person: Ids
    """(N,) person of the appearance, -1 for none."""
    media: Ids
    """(N,) file."""
    at_seconds: NDArray[np.float64]
    """(N,) time of the frame."""
    boxes: NDArray[np.float32]
    """(N, 4) x1, y1, x2, y2 in pixels of the frame."""

    def __post_init__(self) -> None:
        self._check(boxes=(4,))

    @classmethod
    def from_rows(cls, rows: NDArray[np.void]) -> Self:
        """Build the value from rows with the fields of the queries."""
        return cls(
            trunk=rows["trunk_id"],
            appearance=rows["appearance_id"],
            person=rows["person_id"],
            media=rows["media_id"],
            at_seconds=rows["at_seconds"],
            boxes=np.stack([rows[side] for side in ("x1", "y1", "x2", "y2")], axis=1),
        )


def carried_people(session: Session, trunk_id: int, appearances: StoredAppearances, source: int | None = None) -> Ids:
    """Find the people that appearances have at their places under other trunks.

    Args:
        session: an open session.
        trunk_id: trunk of the appearances.
        appearances: N appearances.
        source: the other trunk; None takes that of the views first, then the latest.

    Returns:
        (N,) person of each appearance, -1 for none.
    """
    carried = np.full(len(appearances), -1, np.int64)
    others = [source] if source is not None else session.scalars(_OTHER_TRUNKS, {"trunk_id": trunk_id}).all()
    if not others or not len(appearances):
        return carried
    known = PlacedFaces.from_rows(read_rows(session, _KNOWN, _TYPES, _spans(appearances) | {"trunk_id": trunk_id}))
    if not len(known):
        return carried
    new = PlacedFaces.from_rows(read_rows(session, _NEW, _TYPES, {"appearances": appearances.appearance.tolist()}))
    for other in others:
        found = people_at(new, known[known.trunk == other])
        carried = np.where(carried < 0, [found.get(one, -1) for one in appearances.appearance.tolist()], carried)
    return carried


def _spans(appearances: StoredAppearances) -> dict[str, list[float]]:
    """Return the files of appearances, each with the time from the first to the last of them."""
    media, file = np.unique(appearances.media, return_inverse=True)
    first, last = np.full(len(media), np.inf), np.full(len(media), -np.inf)
    np.minimum.at(first, file, appearances.start_seconds - MAX_SECONDS_OFF)
    np.maximum.at(last, file, appearances.end_seconds + MAX_SECONDS_OFF)
    return {"media": media.tolist(), "first": first.tolist(), "last": last.tolist()}


def people_at(new: PlacedFaces, known: PlacedFaces) -> dict[int, int]:
    """Return the person of each new appearance that lies where a known one does.

    Two appearances are at one place when half of the faces of the shorter one lie at faces of the other.

    Args:
        new: N faces of new appearances.
        known: M faces of appearances with a person, all under one trunk.

    Returns:
        Person by appearance; of several people the one with the most faces there, of two with as many the smaller id.
    """
    rows, places = _nearest(new, known)
    pairs, counts = np.unique(
        np.stack([new.appearance[rows], known.appearance[places], known.person[places]], axis=1),
        axis=0,
        return_counts=True,
    )
    shorter = np.minimum(_sizes(new, pairs[:, 0]), _sizes(known, pairs[:, 1]))
    kept = 2 * counts >= shorter
    appearance, group = np.unique(pairs[kept, 0], return_inverse=True)
    weights = counts[kept]
    person = people_of_groups(np.repeat(group, weights), np.repeat(pairs[kept, 2], weights))
    return dict(zip(appearance.tolist(), person.tolist(), strict=True))


def _sizes(faces: PlacedFaces, appearances: Ids) -> Ids:
    """Return how many faces each of some appearances has."""
    ids, counts = np.unique(faces.appearance, return_counts=True)
    sizes: Ids = counts[np.searchsorted(ids, appearances)]
    return sizes


def _nearest(new: PlacedFaces, known: PlacedFaces) -> tuple[Ids, Ids]:
    """Return rows of new faces, and for each the row of the known face at its place: nearest in time, then in place."""
    _, file = np.unique(np.concatenate([new.media, known.media]), return_inverse=True)
    moment = file * _FILE_SECONDS + np.concatenate([new.at_seconds, known.at_seconds])
    order = len(new) + np.argsort(moment[len(new) :], kind="stable")
    start = np.searchsorted(moment[order], moment[: len(new)] - MAX_SECONDS_OFF)
    end = np.searchsorted(moment[order], moment[: len(new)] + MAX_SECONDS_OFF, side="right")
    found = [
        _best(new, known, rows, order[places] - len(new))
        for rows, places in _pairs(start.astype(np.int64), end - start)
    ]
    rows, places = np.concatenate([np.zeros((2, 0), np.int64), *found], axis=1)
    return rows, places


def _pairs(start: Ids, count: Ids) -> Iterator[tuple[Ids, Ids]]:
    """Yield blocks of pairs of a row and one of the ``count`` places from its ``start``."""
    total = np.cumsum(count)
    begin = 0
    while begin < len(count):
        done = int(total[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, done + _BLOCK_PAIRS, side="right")))
        rows = np.repeat(np.arange(begin, end), count[begin:end])
        within = np.arange(len(rows)) - np.repeat(total[begin:end] - count[begin:end] - done, count[begin:end])
        yield rows, start[rows] + within
        begin = end


def _best(new: PlacedFaces, known: PlacedFaces, rows: Ids, places: Ids) -> Ids:
    """Return (2, K) the pairs that overlap, the best of each row only."""
    overlap = _overlaps(new.boxes[rows], known.boxes[places])
    near = overlap >= MIN_ANCHOR_OVERLAP
    rows, places, overlap = rows[near], places[near], overlap[near]
    away = np.abs(new.at_seconds[rows] - known.at_seconds[places])
    order = np.lexsort([known.appearance[places], -overlap, away, rows])
    _, first = np.unique(rows[order], return_index=True)
    best: Ids = np.stack([rows[order][first], places[order][first]])
    return best


def _overlaps(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the (K,) intersection over union of K pairs of boxes."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    shared = np.prod(np.maximum(sides, 0.0), axis=1)
    areas = np.prod(one[:, 2:] - one[:, :2], axis=1) + np.prod(other[:, 2:] - other[:, :2], axis=1)
    overlaps: NDArray[np.float64] = shared / np.maximum(areas - shared, 1e-12)
    return overlaps


def with_carried(constraints: Constraints, carried: Ids) -> Constraints:
    """Pin rows to the people that they have under another trunk, as far as corrections allow it.

    Rows with a must-link are pinned together, to the person that most of them have. A pin of a correction stays, and a
    pin that would violate a correction is left out.

    Args:
        constraints: of the corrections, over N rows.
        carried: (N,) person under another trunk, -1 for none.
    """
    alone = np.arange(len(carried)) + 1 + int(constraints.must_link.max(initial=-1))
    _, group = np.unique(np.where(constraints.must_link >= 0, constraints.must_link, alone), return_inverse=True)
    home = people_of_groups(group, carried)
    excluded = constraints.excluded
    home[group[excluded.row[home[group[excluded.row]] == excluded.person]]] = -1
    for one, other in group[constraints.cannot_link].tolist():
        if home[one] == home[other]:
            home[other] = -1
    names: dict[int, int] = {}
    for row in np.flatnonzero((constraints.name >= 0) & (home[group] >= 0)).tolist():
        person = int(home[group[row]])
        if person >= 0 and names.setdefault(person, int(constraints.name[row])) != constraints.name[row]:
            home[group[row]] = -1
    return replace(constraints, pinned=np.where(constraints.pinned >= 0, constraints.pinned, home[group]))
