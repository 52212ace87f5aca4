"""Joins the faces of one analysis into appearances: a person in view, from when to when.

Every pair of a track and a face gets the evidence, in nats, that both are one person: the log-ratio of how likely the
pair is for one person and for two. Motion and embedding each give a part. How far a face may have moved grows with the
time since it was last seen, so motion counts much from frame to frame and little at two frames a second, where the
embedding decides; no weight has to be set by hand. A linear assignment then maximises the evidence of each frame.

State is kept for tracks in view only, and a face's number is final as soon as its frame is seen, so videos can be fed
in pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from worker.analysis.tracking.assignment import linear_assignment
from worker.analysis.tracking.holds import Holds
from worker.columns import ArrayColumns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Seconds. A cut and the first frame of its shot carry the same time stamp; a database may round one of them.
# Below any frame interval, above float32 rounding of the first hour.
_CUT_TOLERANCE_SECONDS = 5e-4


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TrackInput(ArrayColumns):
    """Faces of one analysis, ordered by time, kept and dropped ones."""

    frame_index: NDArray[np.int64]
    """(N,) number of the frame in its file, ascending."""
    at_seconds: NDArray[np.float64]
    """(N,) time stamp of that frame."""
    boxes: NDArray[np.float32]
    """(N, 4) pixels of the frame."""
    scores: NDArray[np.float32]
    """(N,) detection score, in 0..1."""
    quality: NDArray[np.float32]
    """(N,) in 0..1."""
    embeddings: NDArray[np.float32]
    """(N, D) L2-normalised; zero where there is none."""
    has_embedding: NDArray[np.bool_]
    """(N,) False for a dropped face."""
    hold_seconds: NDArray[np.float64]
    """(N,) time until the next sampled frame, for which this one stays on screen; NaN where it is not known."""

    def __post_init__(self) -> None:
        self._check(boxes=(4,), embeddings=(-1,))

    @classmethod
    def empty(cls, dimension: int = 128) -> Self:
        """Return a value without faces."""
        none = np.zeros(0, np.float32)
        return cls(
            frame_index=np.zeros(0, np.int64),
            at_seconds=np.zeros(0, np.float64),
            boxes=np.zeros((0, 4), np.float32),
            scores=none,
            quality=none,
            embeddings=np.zeros((0, dimension), np.float32),
            has_embedding=np.zeros(0, np.bool_),
            hold_seconds=np.zeros(0, np.float64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackOptions:
    """Limits of what is one person in view."""

    gap_seconds: float = 2.0
    """Longest time without a kept face that an appearance may span; never less than two sample intervals."""
    gap_similarity: float = 0.38
    """Cosine that bridges such a gap: as likely for one person as for two (train people of LFW, SFace)."""
    overlap: float = 0.3
    """Intersection over union by which a dropped face joins a track."""
    jump: float = 0.05
    """Probability that motion does not predict the place of a face (camera move, missed cut, fast turn)."""


def track(
    faces: TrackInput,
    cuts_seconds: Sequence[float] | NDArray[np.float64] = (),
    *,
    sample_interval_seconds: float | None = None,
    options: TrackOptions | None = None,
) -> NDArray[np.int64]:
    """Number the appearances of one analysis, 0.. in order of first sight, from left to right within a frame.

    Every face with an embedding gets an appearance. A face without one joins a track that it overlaps, else gets -1;
    it neither starts an appearance nor extends the gap that one may span.

    Args:
        faces: all faces of the analysis.
        cuts_seconds: ascending times at which a new shot begins; no appearance spans one.
        sample_interval_seconds: time between two analysed frames; None for an image.
        options: limits.

    Returns:
        (N,) int64, the appearance of each face or -1.

    Raises:
        ValueError: the faces are not ordered by time.
    """
    tracker = Tracker(cuts_seconds, sample_interval_seconds=sample_interval_seconds, options=options)
    return tracker.update(faces)


@dataclass(slots=True)
class _Track:
    """A person in view."""

    number: int
    shot: int
    box: Floats
    velocity: Floats
    """(2,) of the centre, pixels per second."""
    at_seconds: float
    """Time of its last frame."""
    seen_seconds: float
    """That time plus the pause for which its frame stayed on screen, while nothing could move."""
    kept_seconds: float
    """The same for its last kept face."""
    direction: Floats
    """(D,) quality-weighted sum of its embeddings."""
    latest: Floats
    """(D,) embedding of its latest kept face."""
    quality: float

    def see(self, box: Floats, at_seconds: float, pause_seconds: float) -> None:
        elapsed = max(at_seconds - self.at_seconds, 1e-3)
        moved = _centres(box) - _centres(self.box)
        # An even mean of old and new: follows a turn within a few frames, damps the detector's jitter.
        self.velocity = 0.5 * self.velocity + 0.5 * moved / elapsed
        self.box, self.at_seconds, self.seen_seconds = box, at_seconds, at_seconds + pause_seconds

    def keep(self, embedding: Floats, quality: float) -> None:
        self.direction = self.direction + max(quality, 0.05) * embedding
        self.latest, self.quality, self.kept_seconds = embedding, max(self.quality, quality), self.seen_seconds


class Tracker:
    """Numbers faces frame by frame; holds only the tracks in view."""

    def __init__(
        self,
        cuts_seconds: Sequence[float] | NDArray[np.float64] = (),
        *,
        sample_interval_seconds: float | None = None,
        options: TrackOptions | None = None,
    ) -> None:
        self._cuts = np.asarray(cuts_seconds, np.float64)
        self._options = options or TrackOptions()
        self._interval = sample_interval_seconds or 0.0
        self._gap = max(self._options.gap_seconds, 2.0 * self._interval) + 1e-6
        self._tracks: list[_Track] = []
        self._next = 0
        self._now = -np.inf
        self._pause = 0.0

    def update(self, faces: TrackInput) -> NDArray[np.int64]:
        """Number the faces of the next whole frames.

        Returns:
            (N,) int64, the appearance of each face or -1; final.

        Raises:
            ValueError: the faces are older than those before them.
        """
        numbers = np.full(len(faces), -1, np.int64)
        pauses = Holds.of(faces.hold_seconds, self._interval or None).pause_seconds
        for rows in _frames(faces):
            self._pause = float(pauses[rows[0]])
            numbers[rows] = self._frame(faces[rows])
        return numbers

    def in_view(self) -> set[int]:
        """Return the numbers of the appearances that may still get faces; all others are complete."""
        return {one.number for one in self._tracks}

    def _frame(self, faces: TrackInput) -> NDArray[np.int64]:
        now = float(faces.at_seconds[0])
        if now < self._now:
            raise ValueError(f"faces are not ordered by time: {now} s comes after {self._now} s; sort them by frame")
        self._now = now
        shot = int(np.searchsorted(self._cuts, now + _CUT_TOLERANCE_SECONDS, side="right"))
        self._tracks = [t for t in self._tracks if t.shot == shot and now - t.kept_seconds <= self._gap]
        numbers = np.full(len(faces), -1, np.int64)
        kept, dropped = np.flatnonzero(faces.has_embedding), np.flatnonzero(~faces.has_embedding)
        free = self._join(faces, kept, now, numbers)
        self._follow(faces, dropped, free, numbers)
        for row in kept[numbers[kept] < 0]:
            numbers[row] = self._start(faces, int(row), now, shot)
        return numbers

    def _join(self, faces: TrackInput, kept: NDArray[np.int64], now: float, numbers: NDArray[np.int64]) -> list[_Track]:
        """Assign kept faces to tracks, and return the tracks left over."""
        pairs = linear_assignment(self._evidence(faces[kept], now))
        for index, column in pairs:
            one, row = self._tracks[index], int(kept[column])
            one.see(faces.boxes[row].astype(np.float64), now, self._pause)
            one.keep(faces.embeddings[row].astype(np.float64), float(faces.quality[row]))
            numbers[row] = one.number
        taken = {index for index, _ in pairs}
        return [one for index, one in enumerate(self._tracks) if index not in taken]

    def _follow(
        self, faces: TrackInput, dropped: NDArray[np.int64], free: list[_Track], numbers: NDArray[np.int64]
    ) -> None:
        """Assign dropped faces to the tracks that no kept face continues, by overlap alone."""
        if not len(dropped) or not free:
            return
        near = [one for one in free if not self._is_gap(self._now - one.seen_seconds)]
        boxes = faces.boxes[dropped].astype(np.float64)
        overlaps = _overlaps(self._predicted(near, self._now), boxes)
        for index, column in linear_assignment(np.where(overlaps >= self._options.overlap, overlaps, 0.0)):
            near[index].see(boxes[column], self._now, self._pause)
            numbers[dropped[column]] = near[index].number

    def _start(self, faces: TrackInput, row: int, now: float, shot: int) -> int:
        embedding = faces.embeddings[row].astype(np.float64)
        quality = float(faces.quality[row])
        one = _Track(
            number=self._next,
            shot=shot,
            box=faces.boxes[row].astype(np.float64),
            velocity=np.zeros(2),
            at_seconds=now,
            seen_seconds=now + self._pause,
            kept_seconds=now + self._pause,
            direction=max(quality, 0.05) * embedding,
            latest=embedding,
            quality=quality,
        )
        self._tracks.append(one)
        self._next += 1
        return one.number

    def _evidence(self, faces: TrackInput, now: float) -> Floats:
        """Return (T, F) nats for one person; -inf where the embedding does not bridge a gap."""
        if not self._tracks or not len(faces):
            return np.zeros((len(self._tracks), len(faces)))
        elapsed = np.array([[now - one.seen_seconds] for one in self._tracks])
        boxes = faces.boxes.astype(np.float64)
        motion = _motion_evidence(self._predicted(self._tracks, now), boxes, elapsed, self._options.jump)
        similarity = self._similarity(faces)
        trust = _trust(np.array([[one.quality] for one in self._tracks]), faces.quality[None].astype(np.float64))
        gap = np.array([[self._is_gap(now - one.kept_seconds)] for one in self._tracks])
        total: Floats = motion + _embedding_evidence(similarity, trust)
        return np.where(gap & (similarity < self._options.gap_similarity), -np.inf, total)

    def _similarity(self, faces: TrackInput) -> Floats:
        """Return (T, F) cosines to the mean of the track or to its latest face, whichever is larger."""
        mean = np.stack([one.direction / max(float(np.linalg.norm(one.direction)), 1e-9) for one in self._tracks])
        latest = np.stack([one.latest for one in self._tracks])
        embeddings = faces.embeddings.astype(np.float64).T
        return np.maximum(mean @ embeddings, latest @ embeddings)

    def _is_gap(self, elapsed_seconds: float) -> bool:
        """Return whether a sample was missed; a detection that is missing for a quarter of a second is no gap."""
        return elapsed_seconds > max(0.25, 1.5 * self._interval)

    @staticmethod
    def _predicted(tracks: list[_Track], now: float) -> Floats:
        """Return (T, 4) boxes where the tracks should be by now."""
        if not tracks:
            return np.zeros((0, 4))
        # Faces keep their course for a fraction of a second: extrapolate no further than 0.2 s.
        shift = [one.velocity * min(max(now - one.seen_seconds, 0.0), 0.2) for one in tracks]
        return np.stack([one.box for one in tracks]) + np.tile(np.stack(shift), 2)


def _frames(faces: TrackInput) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each frame from left to right, whatever their order in the input."""
    if not len(faces):
        return
    borders = np.flatnonzero(np.diff(faces.frame_index)) + 1
    for rows in np.split(np.arange(len(faces)), borders):
        box = faces.boxes[rows]
        order = np.lexsort((faces.scores[rows], box[:, 3], box[:, 2], box[:, 1], box[:, 0]))
        yield rows[order]


def _centres(boxes: Floats) -> Floats:
    return 0.5 * (boxes[..., :2] + boxes[..., 2:])


def _sizes(boxes: Floats) -> Floats:
    """Return the geometric mean of the sides, at least a pixel."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 1.0)
    sizes: Floats = np.sqrt(sides[..., 0] * sides[..., 1])
    return sizes


def _motion_evidence(tracks: Floats, faces: Floats, elapsed: Floats, jump: float) -> Floats:
    """Return (T, F) nats by distance in face sizes and by change of size, against a face elsewhere in the frame."""
    sizes, own = _sizes(tracks)[:, None], _sizes(faces)[None]
    distance = np.linalg.norm(_centres(tracks)[:, None] - _centres(faces)[None], axis=2) / np.sqrt(sizes * own)
    growth = np.log(own / sizes)
    # Spread of a person's position in face sizes and of the log-size: the detector's jitter, then how people move.
    # Videos show 0.03 and 0.02 from frame to frame, 0.06 to 0.26 and 0.05 over half a second; wider here for cameras.
    place, scale = np.hypot(0.1, 1.0 * elapsed), np.hypot(0.1, 0.3 * elapsed)
    same = -0.5 * ((distance / place) ** 2 + (growth / scale) ** 2) - np.log((2 * np.pi) ** 1.5 * place**2 * scale)
    # Another person may be anywhere within some 40 square face sizes and within a factor of e either way.
    other = -np.log(40.0 * 2.0)
    evidence: Floats = np.logaddexp(np.log1p(-jump) + same - other, np.log(jump))
    return evidence


def _trust(first: Floats, second: Floats) -> Floats:
    """Return the share of the embedding's evidence that counts: all where both faces have quality 0.5, at least 0.2."""
    trust: Floats = np.clip(np.minimum(first, second) / 0.5, 0.2, 1.0)
    return trust


def _embedding_evidence(similarity: Floats, trust: Floats) -> Floats:
    """Return nats by cosine: linear, as for two normal distributions of equal spread, and bounded on both sides.

    SFace cosines of LFW's train people are 0.67 and 0.09 on average, with a spread of 0.10: they cross at 0.38 and the
    slope would be 58. Half of it counts, because the frames of one shot err together.
    """
    evidence: Floats = trust * np.clip(30.0 * (similarity - 0.38), -12.0, 8.0)
    return evidence


def _overlaps(first: Floats, second: Floats) -> Floats:
    """Return the (A, B) intersection over union of (A, 4) and (B, 4) boxes."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    overlap: Floats = shared / np.maximum(union, 1e-9)
    return overlap
