from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import pytest

from db.engine import parse_url
from db.errors import DatabaseUnreachable
from db.server.embedded import EmbeddedPostgres

PROGRAM = """
import signal, sys
from pathlib import Path
from db.server.embedded import EmbeddedPostgres
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background of a shell ignore Ctrl-C
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.start(), flush=True)
try:
    sys.stdin.read()
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def folder():
    with TemporaryDirectory(prefix="facet-tests-") as name:
        yield Path(name) / "postgres"


@pytest.fixture
def start_program(folder):
    """Start another program that uses the server until its input ends."""
    programs = []

    def start():
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        programs.append(program)
        assert program.stdout.readline().startswith("postgresql+psycopg://")
        return program

    yield start
    for program in programs:
        if program.poll() is None:
            program.kill()
        program.wait()
        program.stdin.close()
        program.stdout.close()
    EmbeddedPostgres(folder).stop()


def process_of(folder):
    return psutil.Process(int((folder / "data" / "postmaster.pid").read_bytes().split()[0]))


def is_running(folder):
    return (folder / "data" / "postmaster.pid").exists() and process_of(folder).is_running()


def ask(url, query="SELECT current_user"):
    parsed = parse_url(url)
    with psycopg.connect(host=parsed.query["host"], user=parsed.username, dbname=parsed.database) as connection:
        return connection.execute(query).fetchone()[0]


def test_it_starts_with_nothing_and_stops_with_its_user(folder):
    server = EmbeddedPostgres(folder)
    assert ask(server.start()) == "postgres"
    assert ask(server.start()) == "postgres"
    assert ask(server.reader_url) == "facet_reader"
    assert server.leave()
    assert not server.leave()
    assert not is_running(folder)


def test_rows_are_there_after_a_restart(folder):
    with EmbeddedPostgres(folder) as server:
        parsed = parse_url(server.url)
        with psycopg.connect(host=parsed.query["host"], user="postgres", dbname="facet") as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    with EmbeddedPostgres(folder) as server:
        assert ask(server.url, "SELECT number FROM kept") == 7


def test_the_last_user_stops_it(folder, start_program):
    other = start_program()
    with EmbeddedPostgres(folder) as server:
        other.stdin.close()
        assert other.wait(30) == 0
        assert ask(server.url) == "postgres"
    assert not is_running(folder)


def test_it_survives_ctrl_c_in_one_of_its_users(folder, start_program):
    first, second = start_program(), start_program()
    # A terminal sends the signal to the whole group; the server must not be in it.
    assert os.getpgid(process_of(folder).pid) not in (os.getpgid(first.pid), os.getpgid(0))
    first.send_signal(signal.SIGINT)
    assert first.wait(30) == 130
    assert is_running(folder)
    second.send_signal(signal.SIGINT)
    second.wait(30)
    assert not is_running(folder)


def test_a_killed_user_neither_stops_it_nor_keeps_it(folder, start_program):
    killed = start_program()
    with EmbeddedPostgres(folder) as server:
        killed.kill()
        killed.wait()
        assert ask(server.url) == "postgres"
    assert not is_running(folder)


def test_it_recovers_after_the_server_was_killed(folder):
    server = EmbeddedPostgres(folder)
    server.start()
    process = process_of(folder)
    children = process.children(recursive=True)
    process.kill()
    psutil.wait_procs([process, *children], timeout=30)
    assert ask(server.start()) == "postgres"
    assert server.leave()


def test_stop_takes_it_from_everybody(folder, start_program):
    start_program()
    assert EmbeddedPostgres(folder).stop()
    assert not is_running(folder)


def test_a_forked_child_does_not_leave_for_its_parent(folder):
    with EmbeddedPostgres(folder) as server:
        child = os.fork()
        if child == 0:
            os._exit(int(server.leave()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert ask(server.url) == "postgres"


def test_nobody_else_may_enter(folder):
    with EmbeddedPostgres(folder):
        assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
        door = folder / "data" / ".s.PGSQL.5432"
        assert stat.S_IMODE(door.stat().st_mode) & 0o077 == 0


def test_a_long_path_and_spaces_are_no_obstacle(folder):
    with EmbeddedPostgres(folder / "a folder" / ("long" * 30)) as server:
        assert ask(server.url) == "postgres"
        assert EmbeddedPostgres(folder / "a folder" / ("long" * 30)).url == server.url


@pytest.mark.parametrize("name", ['it\'s a, b; $HOME `id` "100%" \\', os.fsdecode(b"caf\xe9")])
def test_any_name_of_a_folder_will_do(folder, name):
    with EmbeddedPostgres(folder / name, keep_seconds=1) as server:
        assert ask(server.url) == "postgres"
        assert EmbeddedPostgres(folder / name).url == server.url
        assert is_running(folder / name)
    process_of(folder / name).wait(timeout=60)  # the keeper ends it, so it found it


def test_of_a_long_path_the_socket_lies_where_nobody_can_be_first(folder):
    """The folder in the common temporary folder had a name that followed from the path: others could make it first."""
    home = folder / ("long" * 30)
    data = home.resolve() / "data"
    foreseen = Path(tempfile.gettempdir()) / f"facet-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"
    foreseen.mkdir()
    sockets = set()
    try:
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.bind(str(foreseen / ".s.PGSQL.5432"))
            waiting.listen()
            waiting.settimeout(0.1)
            for _ in range(2):
                with EmbeddedPostgres(home) as server:
                    place = Path(parse_url(server.url).query["host"])
                    sockets.add(place)
                    found = place.lstat()
                    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, data.stat().st_uid)
                assert not place.exists()
            with pytest.raises(TimeoutError):
                waiting.accept()
    finally:
        shutil.rmtree(foreseen)
    assert len(sockets - {foreseen}) == 1


@pytest.mark.parametrize("change", ["owner", "mode", "link", "gone"])
def test_a_socket_folder_that_is_not_ours_is_not_asked(folder, change):
    if change == "owner" and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    home, foreign = folder / ("long" * 30), folder / "x"
    data = home / "data"
    data.mkdir(parents=True)
    foreign.mkdir(mode=0o700)
    (data / "postmaster.pid").write_text(f"1\n{data}\n0\n5432\n{foreign}\n\n")
    assert EmbeddedPostgres(home)._place()[0] == foreign
    if change == "owner":
        os.chown(foreign, 65534, 65534)
    elif change == "mode":
        foreign.chmod(0o777)
    else:
        foreign.rmdir()
        if change == "link":
            foreign.symlink_to(data)
    assert EmbeddedPostgres(home)._place()[0] == data.resolve()


def test_a_broken_cluster_is_told_in_one_line(folder):
    (folder / "data").mkdir(parents=True)
    with pytest.raises(DatabaseUnreachable, match="FACET_DATABASE_URL") as caught:
        EmbeddedPostgres(folder).start()
    assert "\n" not in str(caught.value)
