"""Cuts a video into the time ranges that are units of work."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.types import TimeRange

if TYPE_CHECKING:
    from worker.types import MediaInfo

MIN_RANGE_SHARE = 0.1  # of a range: a shorter remainder at the end joins the range before it
MAX_RANGES = 100_000  # of one file: where a header claims years, the ranges get longer
# Frames per second of the video for which the setting is given; other videos get ranges of as many frames.
TYPICAL_FRAMES_PER_SECOND = 25.0
# Bytes of a file for each of its frames: frames that do not change take 10 to 20, with the overhead of the container.
MIN_FRAME_BYTES = 8
FREE_RANGES = 16  # ranges that any file may have, however few its bytes: so few do no harm
BEHIND_KEY_SECONDS = 1e-4  # where every frame is sampled: less than any frame lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeOptions:
    """How a video is cut."""

    range_seconds: float
    """Length of a range of a video with 25 frames per second."""
    byte_size: int | None = None
    """Of the file, which bounds its number of frames; None where it is not known."""
    frames_per_second: float | None = None
    """Sampling; None for every frame."""

    @property
    def frames(self) -> float:
        """Number of frames that are decoded for a range."""
        return max(self.range_seconds * TYPICAL_FRAMES_PER_SECOND, 1.0)

    def believed(self, frames: float) -> float:
        """Return the claimed number of frames, bounded by the size of the file."""
        if self.byte_size is None:
            return frames
        return min(frames, max(self.byte_size / MIN_FRAME_BYTES, FREE_RANGES * self.frames))


def plan_ranges(info: MediaInfo, options: RangeOptions) -> list[TimeRange]:
    """Return half-open ranges ``start <= t < end`` that cover a file without gap or overlap.

    Ranges cost about the same: their length is a number of frames to decode, not of seconds. Where key frames are
    known, a range begins behind one: any other would decode the frames before it again. The first range starts and the
    last one ends with the file, whatever its header states: headers are often wrong by a few frames. One range covers
    an image, a video that has to be decoded from its start, and a video of unknown duration.

    Args:
        info: description of the file.
        options: length of a range.
    """
    if info.kind == "image" or not info.is_seekable:
        return [TimeRange()]
    borders = _at_key_frames(info, options) if info.key_frames else _by_time(info, options)
    limit = max(min(MAX_RANGES, math.ceil(options.believed(MAX_RANGES * options.frames) / options.frames)), 1)
    step = math.ceil((len(borders) + 1) / limit)
    return [TimeRange(start, end) for start, end in itertools.pairwise([None, *borders[step - 1 :: step], None])]


def _at_key_frames(info: MediaInfo, options: RangeOptions) -> list[float]:
    """Return times just behind key frames, so that the key frame is the last sample before the range.

    A range decodes that sample, too.
    """
    behind = 1 / options.frames_per_second if options.frames_per_second else BEHIND_KEY_SECONDS
    count = info.frame_count or 0
    borders: list[float] = []
    last = 0
    for key in info.key_frames:
        rest = count - key.number
        if key.number - last >= options.frames and rest > MIN_RANGE_SHARE * options.frames:
            borders.append(key.at_seconds + behind)
            last = key.number
    return borders


def _by_time(info: MediaInfo, options: RangeOptions) -> list[float]:
    duration = info.duration_seconds
    if duration is None or not math.isfinite(duration) or duration <= 0:
        return []
    frames = options.believed(info.frame_count or duration * (info.frames_per_second or TYPICAL_FRAMES_PER_SECOND))
    length = max(options.frames * duration / max(frames, 1.0), duration / MAX_RANGES)
    count = max(math.ceil(duration / length - MIN_RANGE_SHARE), 1)
    return [number * length for number in range(1, count)]
