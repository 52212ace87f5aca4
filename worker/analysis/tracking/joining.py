"""Join stage: the faces of an analysis become appearances, block by block in order of time.

Tracks never span a cut or a long gap, and of an appearance only sums are kept. So memory grows with the people in view
at one time, not with the length of a video, and not with that of a shot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from db.base import EMBEDDING_DIMENSION
from worker.analysis.tracking.appearances import AppearanceFaces, AppearanceSums
from worker.analysis.tracking.holds import Holds
from worker.analysis.tracking.track import Tracker, TrackInput
from worker.types import HeadRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from worker.analysis.results import StoredFaces, UnitResult
    from worker.analysis.tracking.appearances import Appearance
    from worker.ledger.releases import HeadSpec
    from worker.types import MediaInfo

MAX_UNIT_FACES = 1000  # joined by the writer itself: a tenth of a second, while nothing else is stored


@dataclass(frozen=True, slots=True)
class Shots:
    """The times that bound the appearances of an analysis."""

    cuts_seconds: Sequence[float] = ()
    """Ascending times at which a new shot begins."""
    sample_interval_seconds: float | None = None
    """Time between two analysed frames; None for an image."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The N faces of a block, and the appearances that are complete with it."""

    numbers: NDArray[np.int64]
    """(N,) appearance of each face, -1 for none; final."""
    complete: tuple[Appearance, ...]
    """In order of number where they are those of a whole analysis."""


class Joiner:
    """Joins the faces of one analysis.

    Args:
        shots: of the analysis.
        specs: by task, the heads of the release.
    """

    def __init__(self, shots: Shots, specs: Mapping[str, HeadSpec]) -> None:
        self._interval = shots.sample_interval_seconds
        self._tracker = Tracker(shots.cuts_seconds, sample_interval_seconds=shots.sample_interval_seconds)
        self._sums = AppearanceSums({task: spec.threshold for task, spec in specs.items()})

    def add(self, ids: NDArray[np.int64], faces: TrackInput, heads: Mapping[str, HeadRows]) -> Joined:
        """Join the faces of the next whole frames.

        Args:
            ids: (N,) values for ``best_face``.
            faces: N faces, ordered by frame.
            heads: by task, over the same faces; rows of NaN are left out.
        """
        numbers = self._tracker.update(faces)
        holds = Holds.of(faces.hold_seconds, self._interval)
        seen = AppearanceFaces(
            appearance=numbers,
            at_seconds=faces.at_seconds,
            quality=faces.quality,
            kept=faces.has_embedding,
            embeddings=faces.embeddings,
            screen_seconds=holds.screen_seconds,
            pause_seconds=holds.pause_seconds,
            steps=holds.steps,
        )
        self._sums.add(seen, heads, ids)
        in_view = self._tracker.in_view()
        return Joined(numbers, self._sums.close([number for number in self._sums.open if number not in in_view]))

    def close(self) -> tuple[Appearance, ...]:
        """Return the appearances that are still open, after the last face."""
        return self._sums.close(self._sums.open)


def join_unit(result: UnitResult, specs: Mapping[str, HeadSpec]) -> Joined:
    """Join the faces of a unit that is a whole analysis, from memory; ``best_face`` is a row of the unit's faces.

    Frames are searched in batches of one size each, so where sizes change, later frames may come before earlier ones.
    """
    fps = result.unit.sampling_fps
    interval = None if fps is None or result.unit.kind == "image" else 1.0 / fps
    joiner = Joiner(Shots(sorted(result.cuts_seconds), interval), specs)
    faces = TrackInput.cat([TrackInput.empty(), *(_track_input(part, result.info) for part in result.faces)])
    order = np.argsort(faces.frame_index, kind="stable")
    heads = {task: _take(head, order) for task, head in _heads(result.faces, specs).items()}
    joined = joiner.add(order, faces[order], heads)
    complete = sorted((*joined.complete, *joiner.close()), key=lambda appearance: appearance.number)
    numbers = np.empty_like(joined.numbers)
    numbers[order] = joined.numbers
    return Joined(numbers, tuple(complete))


def _track_input(faces: StoredFaces, info: MediaInfo | None) -> TrackInput:
    """Return faces for the tracker; boxes are those of a frame of the file's size, since frames may differ in size."""
    scale = np.ones(4, np.float32)
    if faces.frame_size is not None and info is not None and info.width and info.height:
        scale = np.tile(np.array([info.width, info.height], np.float32) / faces.frame_size, 2).astype(np.float32)
    has_embedding = np.zeros(len(faces), np.bool_)
    embeddings = np.zeros((len(faces), EMBEDDING_DIMENSION), np.float32)
    if faces.embeddings is not None:
        has_embedding[faces.kept] = True
        embeddings[faces.kept] = faces.embeddings[faces.kept]
    return TrackInput(
        frame_index=faces.frame_index,
        at_seconds=faces.at_seconds,
        boxes=faces.boxes * scale,
        scores=faces.scores,
        quality=faces.quality,
        embeddings=embeddings,
        has_embedding=has_embedding,
        hold_seconds=np.full(len(faces), np.nan) if faces.hold_seconds is None else faces.hold_seconds,
    )


def _heads(parts: Sequence[StoredFaces], specs: Mapping[str, HeadSpec]) -> dict[str, HeadRows]:
    """Concatenate the predictions, with NaN for faces without one."""
    heads = {}
    for task in specs:
        given = [faces.heads.get(task) for faces in parts]
        like = next((head for head in given if head is not None), None)
        if like is not None:
            heads[task] = _cat([head or _blank(like, len(faces)) for head, faces in zip(given, parts, strict=True)])
    return heads


def _cat(parts: Sequence[HeadRows]) -> HeadRows:
    probabilities = np.concatenate([part.probabilities for part in parts])
    if parts[0].value is None:
        return HeadRows(parts[0].labels, probabilities)
    value, low, high = (
        np.concatenate([column for part in parts if (column := getattr(part, name)) is not None])
        for name in ("value", "low", "high")
    )
    return HeadRows(parts[0].labels, probabilities, value, low, high)


def _take(head: HeadRows, rows: NDArray[np.int64]) -> HeadRows:
    value, low, high = (None if column is None else column[rows] for column in (head.value, head.low, head.high))
    return HeadRows(head.labels, head.probabilities[rows], value, low, high)


def _blank(like: HeadRows, count: int) -> HeadRows:
    nothing = np.full((count, like.probabilities.shape[1]), np.nan, np.float32)
    if like.value is None:
        return HeadRows(like.labels, nothing)
    return HeadRows(like.labels, nothing, *np.full((3, count), np.nan, np.float32))
