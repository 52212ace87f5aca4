"""The keeper: the embedded server runs on between commands, and nothing that is killed leaves it behind."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import pytest

from db.engine import parse_url
from db.errors import DatabaseInUse
from db.server.embedded import EmbeddedPostgres
from db.server.network import HOST

pytestmark = pytest.mark.slow

SECONDS = 30  # longest wait of a test, on a busy machine
PROGRAM = """
import sys
from pathlib import Path
from db.server.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), keep_seconds=float(sys.argv[2]))
print(server.start(), flush=True)
sys.stdin.read()
"""


def keepers(folder):
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "db.server.keeper" in words and str(folder) in words and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def server_of(folder):
    return psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))


def is_alive(process):
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {SECONDS} s"
        time.sleep(0.1)


def connect(url):
    parsed = parse_url(url)
    return psycopg.connect(host=parsed.query["host"], port=5432, user="postgres", dbname="facet", autocommit=True)


@pytest.fixture(scope="module")
def cluster():
    """A folder whose cluster the tests share: making one takes seconds."""
    with TemporaryDirectory(prefix="facet-tests-") as name:
        yield Path(name) / "postgres"


@pytest.fixture
def folder(cluster):
    yield cluster
    for process in keepers(cluster):
        process.kill()
    EmbeddedPostgres(cluster).stop()


@pytest.fixture
def start_program(folder):
    programs = []

    def start(keep_seconds):
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), str(keep_seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.kill()
        program.communicate(timeout=SECONDS)


def test_it_runs_on_for_the_next_command_and_ends_by_itself(folder, start_program):
    first = start_program(4)
    assert first.stdout.readline().startswith("postgresql+psycopg://")
    server = server_of(folder)
    first.communicate(timeout=SECONDS)
    with EmbeddedPostgres(folder, keep_seconds=4) as second:
        assert not second.leave()
    assert server_of(folder) == server
    wait_for(lambda: not is_alive(server))
    wait_for(lambda: not keepers(folder))
    assert not (folder / "data" / "postmaster.pid").exists()


def test_a_port_whose_program_was_killed_is_closed_at_once(folder):
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    source = PROGRAM.replace("keep_seconds=float(sys.argv[2])", f"keep_seconds=600, port={port}")
    program = subprocess.Popen(
        [sys.executable, "-c", source, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout.readline().startswith("postgresql+psycopg://")
    server = server_of(folder)
    program.kill()
    program.communicate(timeout=SECONDS)
    wait_for(lambda: not is_alive(server))
    with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, port)):
        pass


def test_many_at_once_share_a_server_and_a_keeper(folder, start_program):
    programs = [start_program(60) for _ in range(6)]
    assert len({program.stdout.readline() for program in programs}) == 1
    wait_for(lambda: len(keepers(folder)) == 2)
    server = server_of(folder)
    for program in programs:
        program.communicate(timeout=SECONDS)
    assert is_alive(server)
    assert len(keepers(folder)) == 2


def test_a_connection_of_another_program_keeps_it(folder):
    server = EmbeddedPostgres(folder, keep_seconds=1)
    url = server.start()
    process = server_of(folder)
    with connect(url) as connection:
        server.leave()
        time.sleep(6)
        assert connection.execute("SELECT 7").fetchone() == (7,)
    wait_for(lambda: not is_alive(process))


def test_short_connections_keep_it(folder):
    server = EmbeddedPostgres(folder, keep_seconds=4)
    url = server.start()
    process = server_of(folder)
    server.leave()
    for _ in range(6):
        time.sleep(2)
        connect(url).close()
    assert is_alive(process)


def test_looking_whether_it_answers_is_no_use_of_it(folder):
    """The look of a keeper or of another program is a connection for a moment."""
    with EmbeddedPostgres(folder, keep_seconds=600) as server:
        host = parse_url(server.url).query["host"]
        looker = psycopg.connect(host=host, port=5432, user="postgres", dbname="postgres")
    with connect(server.url), pytest.raises(DatabaseInUse):
        EmbeddedPostgres(folder).stop_unused()
    with looker:
        assert EmbeddedPostgres(folder).stop_unused()
    assert not EmbeddedPostgres(folder).stop_unused()


def test_a_killed_program_leaves_no_server_behind(folder, start_program):
    program = start_program(1)
    program.stdout.readline()
    wait_for(lambda: len(keepers(folder)) == 2)
    server = server_of(folder)
    program.kill()
    wait_for(lambda: not is_alive(server))


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_killed_keeper_is_replaced(folder, which):
    server = EmbeddedPostgres(folder, keep_seconds=3)
    server.start()
    process = server_of(folder)
    wait_for(lambda: len(keepers(folder)) == 2)
    both = sorted(keepers(folder), key=lambda keeper: keeper.ppid() in {other.pid for other in keepers(folder)})
    both[which == "second"].kill()
    wait_for(lambda: len(keepers(folder)) == 2 and both[which == "second"] not in keepers(folder))
    server.leave()
    wait_for(lambda: not is_alive(process))
    wait_for(lambda: not keepers(folder))


def test_without_any_keeper_the_next_program_starts_one(folder):
    server = EmbeddedPostgres(folder, keep_seconds=60)
    server.start()
    process = server_of(folder)
    server.leave()
    wait_for(lambda: len(keepers(folder)) == 2)
    for keeper in keepers(folder):
        keeper.suspend()
    for keeper in keepers(folder):
        keeper.kill()
    wait_for(lambda: not keepers(folder))
    assert is_alive(process)
    with EmbeddedPostgres(folder, keep_seconds=1):
        assert server_of(folder) == process
    wait_for(lambda: not is_alive(process))


def test_the_folder_can_be_erased(folder):
    with EmbeddedPostgres(folder, keep_seconds=60):
        process = server_of(folder)
        wait_for(lambda: len(keepers(folder)) == 2)
    shutil.rmtree(folder)
    wait_for(lambda: not is_alive(process))
    wait_for(lambda: not keepers(folder))
    with EmbeddedPostgres(folder) as again:
        connect(again.url).close()


def test_sigterm_stops_the_server_once_it_is_unused(folder):
    server = EmbeddedPostgres(folder, keep_seconds=600)
    server.start()
    process = server_of(folder)
    wait_for(lambda: len(keepers(folder)) == 2)
    for keeper in keepers(folder):
        keeper.send_signal(signal.SIGTERM)
    time.sleep(5)
    assert is_alive(process)
    server.leave()
    wait_for(lambda: not is_alive(process))


def test_the_keeper_ends_with_a_server_that_was_stopped(folder):
    with EmbeddedPostgres(folder, keep_seconds=600) as server:
        wait_for(lambda: len(keepers(folder)) == 2)
        with pytest.raises(DatabaseInUse):
            EmbeddedPostgres(folder).stop_unused()
    assert server.stop_unused()
    wait_for(lambda: not keepers(folder))


def test_a_server_without_its_keeper_stops_with_its_last_program(folder, monkeypatch):
    monkeypatch.setattr("db.server.keeper.sys.executable", "/nowhere/python")
    server = EmbeddedPostgres(folder, keep_seconds=600)
    server.start()
    process = server_of(folder)
    assert server.leave()
    wait_for(lambda: not is_alive(process))
