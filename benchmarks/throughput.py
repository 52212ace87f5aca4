"""End-to-end speed and memory on videos, beside decode alone and the model alone in the same run.

    .venv/bin/python benchmarks/throughput.py CLIP... [--seconds 60] [--fps 2]

Each is looped (its packets are copied, not encoded again) to the stated length, and analysed by a warm
worker on an embedded PostgreSQL. Prints a Markdown table: sampled frames per second, times real time, faces per second,
the share of each stage, and the peak memory of all processes together (PSS, so that shared pages count once).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import av
import psutil
import torch
from sqlalchemy import text

from worker.analysis.runner import Worker, load
from worker.cli.analyze import submit_paths
from worker.config import Settings
from worker.decode.client import Decoder
from worker.ledger.submission.job import Submission
from worker.storage.database import open_database
from worker.types import DecodeLimits, DecodeRequest


def loop(clip: Path, film: Path, seconds: float) -> float:
    """Repeat the video packets of a file until the result is long enough; returns its length."""
    with av.open(str(clip)) as source, av.open(str(film), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        data = [(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in packets]
        length = max(pts + (duration or 0) for _, pts, _, duration, _ in data)
        rounds = max(1, round(seconds / float(length * stream.time_base)))
        for number in range(rounds):
            for content, pts, dts, duration, key in data:
                packet = av.Packet(content)
                packet.pts, packet.dts = pts + number * length, dts + number * length
                packet.duration, packet.time_base, packet.stream = duration, stream.time_base, copied
                packet.is_keyframe = key
                target.mux(packet)
        return float(rounds * length * stream.time_base)


@dataclass
class Memory:
    """Samples the memory of this process and all below it, and of the PostgreSQL that serves the folder."""

    folder: str
    samples: list[tuple[int, int]] = field(default_factory=list)
    """Bytes of the worker with its decode children, and of PostgreSQL."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(2.0):
            self.samples.append((sum(map(_pss, _family(psutil.Process()))), sum(map(_pss, _servers(self.folder)))))

    @property
    def peak(self) -> int:
        """Return the largest sum, in MB."""
        return round(max(map(sum, self.samples)) / 1e6)

    def peaks(self, which: int, parts: int = 4) -> list[int]:
        """Largest sample of the worker (0) or PostgreSQL (1) in each part of the time, in MB."""
        size = max(1, len(self.samples) // parts)
        rows = [self.samples[at : at + size] for at in range(0, len(self.samples), size)][:parts]
        return [round(max(sample[which] for sample in row) / 1e6) for row in rows]


def _servers(folder: str) -> list[psutil.Process]:
    """Return the PostgreSQL processes that serve the folder."""
    processes = psutil.process_iter(["name", "cmdline"])
    found = [p for p in processes if p.info["name"] == "postgres" and folder in " ".join(p.info["cmdline"] or ())]
    return list({one.pid: one for server in found for one in (server, *server.children(recursive=True))}.values())


def _family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all below it, PostgreSQL left out."""
    try:
        return [process, *(p for p in process.children(recursive=True) if p.name() != "postgres")]
    except psutil.NoSuchProcess:
        return []


def _pss(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0


def decode_alone(film: Path, fps: float) -> float:
    """Return the sampled frames per second of the decode child alone."""
    with Decoder(DecodeLimits()) as decoder:
        with decoder.open(DecodeRequest(location=str(film), kind="video", frames_per_second=fps)) as stream:
            next(iter(stream))
        started = time.perf_counter()
        with decoder.open(DecodeRequest(location=str(film), kind="video", frames_per_second=fps)) as stream:
            frames = sum(1 for _ in stream)
        return frames / (time.perf_counter() - started)


def network_alone(release: object, batch: int = 32, rounds: int = 12) -> float:
    """Return the faces per second of one pass for all heads."""
    crops = torch.randint(0, 256, (batch, 3, 112, 112), dtype=torch.uint8)
    release.infer(crops)
    started = time.perf_counter()
    for _ in range(rounds):
        release.infer(crops)
    return batch * rounds / (time.perf_counter() - started)


def measure(clip: Path, seconds: float, fps: float) -> dict[str, object]:
    """Analyse one looped video with a warm worker."""
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / f"film{clip.suffix}"
        length = loop(clip, film, seconds)
        config = Settings(home=Path(folder) / "home", database_keep_seconds=0)
        alone = decode_alone(film, fps)
        with Memory(folder) as memory, open_database(config) as database:
            release = load(config)
            network = network_alone(release)
            worker = Worker(config, database, release)
            totals: list[object] = []
            started = time.perf_counter()
            submission = Submission(
                name="benchmark", release=worker.ids, frames_per_second=fps, unit_seconds=config.unit_seconds
            )
            submit_paths(config, database, [str(film)], submission)
            worker.drain(threading.Event(), lambda t: totals.__setitem__(slice(None), [t]))
            worker.identifier.finish()
            spent = time.perf_counter() - started
            with database.sessions.begin() as session:
                kept = session.execute(text("SELECT count(*) FROM face WHERE dropped_reason IS NULL")).scalar_one()
        done = totals[0]
        whole = sum(done.stage_seconds.values())
        return {
            "clip": clip.name,
            "film s": round(length, 1),
            "frames/s": round(done.frames / spent, 1),
            "x real time": round(length / spent, 1),
            "faces": done.faces,
            "kept": kept,
            "kept faces/s": round(kept / spent, 1),
            "decode alone frames/s": round(alone, 1),
            "of decode alone": round(done.frames / spent / alone, 2),
            "network alone faces/s": round(network, 1),
            "of network alone": round(kept / spent / network, 2),
            "peak MB": memory.peak,
            "worker's, by quarter of time": memory.peaks(0),
            "PostgreSQL's": memory.peaks(1),
            "share": {name: round(value / whole, 2) for name, value in sorted(done.stage_seconds.items())},
        }


def main() -> None:
    """Measure the given videos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--fps", type=float, default=2)
    arguments = parser.parse_args()
    rows = [measure(clip, arguments.seconds, arguments.fps) for clip in arguments.clips]
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {arguments.fps:g} frames per second of film\n")
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(json.dumps(v) if isinstance(v, dict | list) else str(v) for v in row.values()) + " |")


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # as the program does; OpenMP reads it before this line could set it
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    main()
