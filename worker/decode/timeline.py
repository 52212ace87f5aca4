"""The time stamps of all frames of a film, read from its packets without decoding any."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from av.error import FFmpegError

from worker.decode.container import too_many_frames
from worker.decode.sampling import taken

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from av.container import InputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Timeline:
    """Frames in presentation order. Row ``i`` is frame ``i`` of the file."""

    stamps: NDArray[np.int64]
    """(N,) presentation stamps in units of the stream's time base, strictly ascending."""
    seconds: NDArray[np.float64]
    """(N,) the same from the first frame's."""
    key_stamps: NDArray[np.int64]
    """(K,) presentation stamps of the frames that decoding can start at, ascending."""
    key_seek_stamps: NDArray[np.int64]
    """(K,) where to send the demuxer for each of them: their decoding stamps."""
    is_plain: bool
    """False where an edit list hides frames, or where frames come after a key frame and are shown before it.

    A reader that goes by its own count takes the wrong frames then."""

    def __len__(self) -> int:
        return len(self.stamps)

    def wanted(self, frames_per_second: float | None, start: float | None, end: float | None) -> NDArray[np.int64]:
        """Return the frames that sampling takes in ``start <= t < end``, after the last one that it takes before."""
        indices = np.flatnonzero(taken(self.seconds, frames_per_second))
        stamps = self.seconds[indices]
        first = 0 if start is None else max(int(np.searchsorted(stamps, start)) - 1, 0)
        last = len(indices) if end is None else int(np.searchsorted(stamps, end))
        if start is not None and not np.any(stamps[first:last] >= start):
            return indices[:0]
        return indices[first:last]

    def key_before(self, index: int) -> int:
        """Return the last frame at or before this one that decoding can start at; 0 where none is."""
        keys = self.key_stamps[self.key_stamps <= self.stamps[index]]
        return self.index_of(int(keys[-1])) if len(keys) else 0

    def index_of(self, stamp: int) -> int:
        """Return the frame that is shown at a stamp: the last one that starts at or before it."""
        return max(int(np.searchsorted(self.stamps, stamp, side="right")) - 1, 0)


def scan(
    container: InputContainer, stream: VideoStream, *, most_frames: int, alive: Callable[[], None]
) -> Timeline | None:
    """Read all packets of a stream and put their stamps in order; the container is left at its end.

    Args:
        container: an opened film, at its start.
        stream: the stream to look at.
        most_frames: limit of the file.
        alive: called again and again.

    Returns:
        None where the packets do not tell: without stamps, with one stamp for two frames, or with clocks that restart.

    Raises:
        MediaRejected: ``too_many_frames``.
    """
    shown = array("q")
    keys: list[tuple[int, int]] = []
    tells, is_plain, last_decoding = True, True, None
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            alive()
            if packet.pts is None:
                tells = False
                continue
            if packet.dts is not None:
                tells = tells and (last_decoding is None or packet.dts >= last_decoding)
                last_decoding = packet.dts
            is_plain = is_plain and not packet.is_discard and not (keys and packet.pts < keys[-1][0])
            if packet.is_keyframe:
                keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            if packet.is_discard:
                continue
            shown.append(packet.pts)
            if len(shown) > most_frames:
                raise too_many_frames(most_frames)
    except FFmpegError:
        # a file that breaks off tells as much as was read; decoding will meet the same end
        tells = tells and bool(shown)
    stamps = np.unique(np.array(shown, dtype=np.int64))
    if not tells or not len(stamps) or len(stamps) != len(shown) or stream.time_base is None:
        return None
    return _timeline(stamps, sorted(keys), stream.time_base, is_plain=is_plain)


def _timeline(
    stamps: NDArray[np.int64], keys: list[tuple[int, int]], time_base: Fraction, *, is_plain: bool
) -> Timeline:
    pairs = np.array(keys, dtype=np.int64).reshape(-1, 2)
    seconds = (stamps - stamps[0]) * time_base.numerator / time_base.denominator
    return Timeline(stamps, seconds, pairs[:, 0], pairs[:, 1], is_plain)
