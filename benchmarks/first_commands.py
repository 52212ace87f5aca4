"""Times of the commands of a first day: ``facet --help``, and ``facet sql "SELECT 1"`` from the first to the tenth.

    python benchmarks/first_commands.py

The home is new, so the first query makes the embedded database; the others find it running. After ``facet db stop``,
one more starts it again. Processor seconds are those of the command and of what it waited for.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

FACET = str(Path(sys.executable).with_name("facet"))
HELPS, QUERIES = 5, 10


def run(home: str, *words: str) -> tuple[float, float]:
    """Return the seconds that a command took, and those of the processor."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")}
    before, started = processor_seconds(), time.perf_counter()
    subprocess.run([FACET, *words], env=environment | {"FACET_HOME": home}, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started, processor_seconds() - before


def processor_seconds() -> float:
    """Return those of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(name: str, times: list[tuple[float, float]]) -> None:
    """Print the medians."""
    wall, processor = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"| {name} | {wall:.2f} s | {processor:.2f} s |", flush=True)


def main() -> None:
    """Print a table."""
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}\n\n| command | time | processor |\n|---|---|---|")
    query = ("sql", "SELECT 1")
    with TemporaryDirectory(prefix="facet-first-") as home:
        show(f"facet --help (median of {HELPS})", [run(home, "--help") for _ in range(HELPS)])
        try:
            show('facet sql "SELECT 1", the first in a new home', [run(home, *query)])
            show(f"the second to the tenth (median of {QUERIES - 1})", [run(home, *query) for _ in range(QUERIES - 1)])
            run(home, "db", "stop")
            show("the first after `facet db stop`", [run(home, *query)])
        finally:
            run(home, "db", "stop")


if __name__ == "__main__":
    main()
