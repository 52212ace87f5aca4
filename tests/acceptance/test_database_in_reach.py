"""The embedded database beside Facet's own commands: psql by the address, `facet db serve`, and the end of it all."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time

import pytest

from db.server.embedded import EmbeddedPostgres
from db.server.pgwheel import PostgresWheel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROGRAMS = PostgresWheel.find(10).programs


def psql(address, query):
    command = [PROGRAMS / "psql", address, "-Atc", query]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture
def facet(facet):
    """Keep the server for some seconds after each command, and never behind the test."""
    facet.settings["FACET_DATABASE_KEEP_SECONDS"] = "20"
    facet.databases = None
    yield facet
    EmbeddedPostgres(facet.home / "postgres").stop()


def test_psql_reaches_it_by_the_printed_address(facet):
    owner = facet("db", "url", "--libpq").stdout.strip()
    assert psql(owner, "SELECT count(*) FROM media; SELECT current_user").stdout.split() == ["0", "postgres"]
    reader = facet("db", "url", "--libpq", "--reader").stdout.strip()
    assert psql(reader, "SELECT current_user").stdout.strip() == "facet_reader"
    assert "permission denied" in psql(reader, "SELECT * FROM media_file").stderr
    assert facet("db", "stop").stdout == "the embedded database is stopped\n"
    assert psql(owner, "SELECT 1").returncode == 2
    assert facet("db", "stop").stdout == "the embedded database does not run\n"


def test_it_serves_readers_on_a_port_beside_other_commands(facet):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = facet.start("db", "serve", "--port", str(port))
    lines = [server.stdout.readline() for _ in range(2)]
    owner, reader = (re.fullmatch(r"(?:owner|reader): +(\S+)\n", line)[1] for line in sorted(lines))
    assert f"@127.0.0.1:{port}/facet" in reader
    assert psql(reader, "SELECT count(*) FROM people").stdout == "0\n"
    assert psql(owner, "SELECT current_user").stdout == "postgres\n"
    assert facet.rows("SELECT count(*) AS n FROM media") == [{"n": 0}]
    assert "pass --force" in facet("db", "stop", status=2).stderr
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    server.communicate()
    assert psql(reader, "SELECT 1").returncode == 2


def test_it_serves_for_a_period(facet):
    started = time.monotonic()
    facet("db", "serve", "--for", "3s")
    assert time.monotonic() - started >= 3
    assert "no period" in facet("db", "serve", "--for", "soon", status=2).stderr
    facet.settings["FACET_DATABASE_URL"] = "postgresql://127.0.0.1:1/facet"
    for command in ("serve", "stop"):
        assert "a server of your own" in facet("db", command, status=2).stderr
    assert "FACET_READER_DATABASE_URL" in facet("db", "url", "--reader", status=2).stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_page_leaves_no_database_behind(facet, number, status):
    facet.settings["FACET_DATABASE_KEEP_SECONDS"] = "0"
    page = facet.start("web", "--port", "0")
    assert "http://127.0.0.1:" in page.stdout.readline()
    assert (facet.home / "postgres" / "data" / "postmaster.pid").exists()
    page.send_signal(number)
    output, _ = page.communicate(timeout=60)
    assert page.returncode == status, output
    assert "Traceback" not in output
    assert not (facet.home / "postgres" / "data" / "postmaster.pid").exists()
