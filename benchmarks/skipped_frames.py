"""CPU time of decoding with and without the frames that nothing needs, and whether the sampled ones are the same.

    .venv/bin/python benchmarks/skipped_frames.py CLIP... [--rate 2]

Reads each video three times either way in this process, packets of the time line apart, conversion to RGB included;
prints the least CPU seconds of each. Ends with an error if a sampled frame differs.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from worker.decode.child.readers.video import av_reader
from worker.decode.child.readers.video.video import Video
from worker.types import DecodeLimits, DecodeRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 3


def main() -> None:
    """Print a line for each clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--rate", type=float, default=2.0, help="sampled frames per second of video")
    options = parser.parse_args()
    print("| clip | sampled | every frame, s | needed frames, s | times |\n|---|---|---|---|---|")
    for clip in options.clips:
        show(clip, options.rate)


def show(clip: Path, rate: float) -> None:
    """Read a clip either way by turns, and print its line."""
    every, needed = [], []
    for _ in range(ROUNDS):
        with mock.patch.object(av_reader, "may_skip", return_value=False):
            every.append(read(clip, rate))
        needed.append(read(clip, rate))
    if every[0][1] != needed[0][1]:
        raise SystemExit(f"{clip}: sampled frames differ")
    all_seconds, seconds = min(every)[0], min(needed)[0]
    print(f"| {clip.name} | {len(needed[0][1])} | {all_seconds:.2f} | {seconds:.2f} | {all_seconds / seconds:.2f} |")


def read(clip: Path, rate: float) -> tuple[float, Sequence[tuple[int, float, str]]]:
    """Return the CPU seconds of a reading, and number, time and hash of each frame."""
    video = Video(str(clip), DecodeLimits(), lambda: None, with_decord=False)
    video.scanned()
    started = time.process_time()
    request = DecodeRequest(location=str(clip), kind="video", frames_per_second=rate)
    frames = [(f.index, f.hold_seconds, hashlib.sha256(f.pixels).hexdigest()) for f in video.frames(request)]
    spent = time.process_time() - started
    video.close()
    return spent, frames


if __name__ == "__main__":
    main()
