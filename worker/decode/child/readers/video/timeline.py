"""The time of each frame of a video."""

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
    """(N,) the same from the start of the video, which may precede the first frame."""
    end_seconds: float
    """End of the last frame."""
    key_stamps: NDArray[np.int64]
    """(K,) presentation stamps of the key frames, ascending."""
    key_seek_stamps: NDArray[np.int64]
    """(K,) targets of a seek to each of them: their decoding stamps."""
    is_plain: bool
    """False where an edit list hides frames, or where frames follow a key frame and are shown before it.

    A reader that counts frames itself then reads wrong ones."""

    def __len__(self) -> int:
        return len(self.stamps)

    def samples(self, frames_per_second: float | None) -> SampledFrames:
        """Return the sampled frames of the whole video."""
        indices = np.flatnonzero(taken(self.seconds, frames_per_second, self.end_seconds))
        return SampledFrames(indices, self.seconds[indices], self.end_seconds)

    def key_frames(self, limit: int) -> tuple[KeyFrame, ...]:
        """Return at most so many key frames, spread evenly over all frames."""
        numbers = np.unique(np.searchsorted(self.stamps, self.key_stamps))
        numbers = numbers[numbers < len(self)]
        _, first = np.unique(numbers * limit // max(len(self), 1), return_index=True)
        return tuple(KeyFrame(float(self.seconds[number]), int(number)) for number in numbers[first].tolist())

    def key_before(self, index: int) -> int:
        """Return the last key frame at or before a frame; 0 if there is none."""
        keys = self.key_stamps[self.key_stamps <= self.stamps[index]]
        return self.index_of(int(keys[-1])) if len(keys) else 0

    def index_of(self, stamp: int) -> int:
        """Return the frame that is shown at a stamp: the last one that starts at or before it."""
        return max(int(np.searchsorted(self.stamps, stamp, side="right")) - 1, 0)

    def until(self, index: int) -> float:
        """Return the end of a frame, in seconds."""
        return float(self.seconds[index + 1]) if index + 1 < len(self) else self.end_seconds


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """The sampled frames of a video."""

    indices: NDArray[np.int64]
    """(M,) numbers of the frames, ascending."""
    seconds: NDArray[np.float64]
    """(M,) their times."""
    end_seconds: float
    """End of the last frame of the video."""

    def between(self, start: float | None, end: float | None) -> NDArray[np.int64]:
        """Return the frames in ``start <= t < end``, preceded by the last one before it; none if none lies between."""
        first = 0 if start is None else max(int(np.searchsorted(self.seconds, start)) - 1, 0)
        last = len(self.indices) if end is None else int(np.searchsorted(self.seconds, end))
        if start is not None and not np.any(self.seconds[first:last] >= start):
            return self.indices[:0]
        return self.indices[first:last]

    def starting_in(self, first: int, end_seconds: float | None) -> NDArray[np.int64]:
        """Return the frames from number ``first`` on that start before an end."""
        end = len(self.indices) if end_seconds is None else int(np.searchsorted(self.seconds, end_seconds))
        return self.indices[int(np.searchsorted(self.indices, first)) : end]

    def hold_seconds(self, index: int, at_seconds: float) -> float:
        """Return the time from a frame to the next sampled frame, or to the end of the video."""
        following = int(np.searchsorted(self.indices, index, side="right"))
        until = float(self.seconds[following]) if following < len(self.indices) else self.end_seconds
        return max(until - at_seconds, 0.0)
