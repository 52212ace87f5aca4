"""Speed of a release's models on this machine: identity alone and all heads, beside the machine's peak."""

from __future__ import annotations

import functools
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.inference.precision import compute_dtype
from models.release import load_release
from training.evaluate.report.systems import ReleaseSpeed, SpeedRun
from training.releases.describe import release_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Of the square matrices whose product is the machine's peak: 8.6 GMAC, larger ones were no faster on two cores.
MATRIX_SIDE = 2048
_GIGA = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedOptions:
    """Batch, rounds and device of a measurement."""

    batch: int = 64
    """Faces in a call."""
    rounds: int = 15
    """Each measures everything once, in turn, so that a disturbance affects all alike."""
    device: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Speed of one release; seconds are the best of all rounds."""

    device: str
    dtype: str
    threads: int
    batch: int
    identity_seconds: float
    """For a batch, identity alone."""
    all_seconds: float
    """For a batch, identity and all heads."""
    overhead: float
    """Median over the rounds of the time that all heads add, as a share of identity alone."""
    identity_macs: int
    """Multiply-adds a face."""
    all_macs: int
    peak: float
    """Multiply-adds a second of the best matrix product of the same run, in the models' number format."""

    @property
    def lines(self) -> list[str]:
        """Lines of the report."""
        rows = [
            ("identity alone", self.identity_seconds, self.identity_macs),
            ("identity and all heads", self.all_seconds, self.all_macs),
        ]
        parts = [
            f"| {name} | {self.batch / seconds:.1f} | {1e3 * seconds / self.batch:.2f} | {macs / _GIGA:.3f} | "
            f"{self.share(seconds, macs):.1%} |".replace("%", " %")
            for name, seconds, macs in rows
        ]
        setting = f"{self.device}, {self.dtype}, {self.threads} threads, {self.batch} faces at once"
        return [
            f"{setting}; matrix peak {self.peak / _GIGA:.0f} GMAC/s",
            "",
            "| model | faces/s | ms a face | GMAC a face | of the peak |",
            "|---|---|---|---|---|",
            *parts,
            "",
            f"All heads add {self.all_seconds / self.identity_seconds - 1:.1%} to the best time of identity alone "
            f"(median of the rounds {self.overhead:.1%}).".replace("%", " %"),
        ]

    def share(self, seconds: float, macs: int) -> float:
        """Return the share of the matrix peak that a batch reaches, given its seconds and the multiply-adds a face."""
        return self.batch * macs / seconds / self.peak


def measure_speed(folder: Path, options: SpeedOptions) -> Speed:
    """Measure a release's models on random crops; the time does not depend on the answers.

    Raises:
        ReleaseError: the folder is no release, or there is no such device.
        WeightsError: a file of the release is damaged or exchanged.
    """
    every = load_release(folder, device=options.device)
    alone = load_release(folder, device=options.device, heads=frozenset())
    dtype = compute_dtype(every.device)
    crops = torch.randint(0, 256, (options.batch, 3, every.layout.side, every.layout.side), dtype=torch.uint8)
    # Answers come back to the CPU, so that a call ends when the device is done.
    times = _times(
        [lambda: alone.infer(crops), lambda: every.infer(crops), _product(every.device, dtype)], options.rounds
    )
    cost = release_cost(folder, every.manifest)
    return Speed(
        device=str(every.device),
        dtype=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        batch=options.batch,
        identity_seconds=min(times[0]),
        all_seconds=min(times[1]),
        overhead=statistics.median(b / a for a, b in zip(times[0], times[1], strict=True)) - 1,
        identity_macs=cost.macs(()),
        all_macs=cost.macs(),
        peak=MATRIX_SIDE**3 / min(times[2]),
    )


def measure_by_turns(folders: Sequence[Path], options: SpeedOptions) -> SpeedRun:
    """Measure several releases on random crops; in each round every one runs once, so that a disturbance affects all.

    Raises:
        ReleaseError: a folder is no release, or there is no such device.
        WeightsError: a file of a release is damaged or exchanged.
    """
    releases = [load_release(folder, device=options.device) for folder in folders]
    alone = [load_release(folder, device=options.device, heads=frozenset()) for folder in folders]
    sides = sorted({release.layout.side for release in releases})
    crops = {side: torch.randint(0, 256, (options.batch, 3, side, side), dtype=torch.uint8) for side in sides}
    runs = [functools.partial(release.infer, crops[release.layout.side]) for release in (*releases, *alone)]
    rates = [options.batch / min(found) for found in _times(runs, options.rounds)]
    count = len(releases)
    found = zip(releases, rates[:count], rates[count:], strict=True)
    return SpeedRun(
        device=str(releases[0].device),
        dtype=str(compute_dtype(releases[0].device)).removeprefix("torch."),
        threads=torch.get_num_threads(),
        batch=options.batch,
        rounds=options.rounds,
        releases=tuple(ReleaseSpeed(each.name, each.weights_sha256, bare, every) for each, every, bare in found),
    )


def _times(functions: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Return the seconds of each function in each round, without a first round, which plans kernels."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds + 1):
        for found, function in zip(times, functions, strict=True):
            started = time.perf_counter()
            function()
            found.append(time.perf_counter() - started)
    return [found[1:] for found in times]


def _product(device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """Return a matrix product that waits for its result."""
    left, right = (torch.rand(MATRIX_SIDE, MATRIX_SIDE, device=device).to(dtype) for _ in range(2))

    def multiply() -> object:
        return (left @ right)[0, 0].item()

    return multiply
