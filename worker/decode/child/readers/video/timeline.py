"""When each frame of a film is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from worker.decode.child.readers.sampling import taken
from worker.types import KeyFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Timeline:
    """Frames in presentation order. Row ``i`` is frame ``i`` of the file."""

    stamps: NDArray[np.int64]
    """(N,) presentation stamps in units of the stream's time base, strictly ascending."""
    seconds: NDArray[np.float64]
    """(N,) the same from the start of the film, which may lie before the first frame's."""
    end_seconds: float
    """When the last frame goes."""
    key_stamps: NDArray[np.int64]
    """(K,) presentation stamps of the frames that decoding can start at, ascending."""
    key_seek_stamps: NDArray[np.int64]
    """(K,) where to send the demuxer for each of them: their decoding stamps."""
    is_plain: bool
    """False where an edit list hides frames, or where frames come after a key frame and are shown before it.

    A reader that goes by its own count takes the wrong frames then."""

    def __len__(self) -> int:
        return len(self.stamps)

    def samples(self, frames_per_second: float | None) -> SampledFrames:
        """Return the frames that sampling takes of the whole film."""
        indices = np.flatnonzero(taken(self.seconds, frames_per_second, self.end_seconds))
        return SampledFrames(indices, self.seconds[indices], self.end_seconds)

    def key_frames(self, limit: int) -> tuple[KeyFrame, ...]:
        """Return at most so many key frames, spread evenly over all frames."""
        numbers = np.unique(np.searchsorted(self.stamps, self.key_stamps))
        numbers = numbers[numbers < len(self)]
        _, first = np.unique(numbers * limit // max(len(self), 1), return_index=True)
        return tuple(KeyFrame(float(self.seconds[number]), int(number)) for number in numbers[first].tolist())

    def key_before(self, index: int) -> int:
        """Return the last frame at or before this one that decoding can start at; 0 where none is."""
        keys = self.key_stamps[self.key_stamps <= self.stamps[index]]
        return self.index_of(int(keys[-1])) if len(keys) else 0

    def index_of(self, stamp: int) -> int:
        """Return the frame that is shown at a stamp: the last one that starts at or before it."""
        return max(int(np.searchsorted(self.stamps, stamp, side="right")) - 1, 0)

    def until(self, index: int) -> float:
        """Return when a frame goes."""
        return float(self.seconds[index + 1]) if index + 1 < len(self) else self.end_seconds


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """The frames of a film that a sampling takes."""

    indices: NDArray[np.int64]
    """(M,) numbers of the frames, ascending."""
    seconds: NDArray[np.float64]
    """(M,) their times."""
    end_seconds: float
    """When the last frame of the film goes."""

    def between(self, start: float | None, end: float | None) -> NDArray[np.int64]:
        """Return the frames in ``start <= t < end``, after the last one before; none where none lies between."""
        first = 0 if start is None else max(int(np.searchsorted(self.seconds, start)) - 1, 0)
        last = len(self.indices) if end is None else int(np.searchsorted(self.seconds, end))
        if start is not None and not np.any(self.seconds[first:last] >= start):
            return self.indices[:0]
        return self.indices[first:last]

    def hold_seconds(self, index: int, at_seconds: float) -> float:
        """Return how long after its time a frame stands for the film: until the next one that is taken, or the end."""
        following = int(np.searchsorted(self.indices, index, side="right"))
        until = float(self.seconds[following]) if following < len(self.indices) else self.end_seconds
        return max(until - at_seconds, 0.0)
