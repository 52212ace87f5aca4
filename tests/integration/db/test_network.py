"""The embedded server on a port of this host, and on a socket whose folder programs find again."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from db.engine import parse_url
from db.errors import DatabaseUnreachable
from db.server.embedded import EmbeddedPostgres
from db.server.network import HOST


@pytest.fixture(scope="module")
def cluster():
    """A folder whose cluster the tests share: making one takes seconds."""
    with TemporaryDirectory(prefix="facet-tests-") as name:
        yield Path(name) / "postgres"


@pytest.fixture(scope="module")
def port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def connect(url, **changed):
    parsed = parse_url(url)
    arguments = {"user": parsed.username, "dbname": parsed.database, **parsed.query}
    if parsed.host:
        arguments |= {"host": parsed.host, "port": parsed.port, "password": parsed.password}
    return psycopg.connect(**(arguments | changed), autocommit=True)


def test_the_port_admits_the_reader_by_password_alone(cluster, port):
    with EmbeddedPostgres(cluster, port=port) as server:
        with connect(server.network_url) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("facet_reader",)
        for changed in ({"password": "guessed"}, {"user": "postgres"}, {"dbname": "postgres"}):
            with pytest.raises(psycopg.OperationalError, match=r"authentication failed|no pg_hba\.conf entry"):
                connect(server.network_url, **changed)
        with connect(server.url) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == (HOST,)
        assert stat.S_IMODE((cluster / "reader-password").stat().st_mode) == 0o600
        first = server.network_url
    with EmbeddedPostgres(cluster, port=port) as server:
        assert server.network_url == first
        with EmbeddedPostgres(cluster) as other, connect(other.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_next_start_without_a_port_has_none(cluster, port):
    with EmbeddedPostgres(cluster, keep_seconds=600, port=port):
        pass
    with EmbeddedPostgres(cluster) as server, connect(server.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, port)):
            pass


def refuses(port):
    """Whether nobody is admitted on the port."""
    try:
        psycopg.connect(host=HOST, port=port, user="facet_reader", dbname="facet", password="any").close()
    except psycopg.OperationalError as err:
        return "refused" in str(err) or "no pg_hba.conf entry" in str(err)
    return False


def test_the_port_is_closed_when_its_program_ends_though_others_go_on(cluster, port):
    serving = EmbeddedPostgres(cluster, keep_seconds=600, port=port)
    serving.start()
    with EmbeddedPostgres(cluster, keep_seconds=600) as other:
        reader = connect(serving.network_url)
        assert not refuses(port)
        assert not serving.leave()
        assert refuses(port)
        with pytest.raises(psycopg.OperationalError):
            reader.execute("SELECT 1")
        connect(other.url).close()
        serving.start()
        connect(serving.network_url).close()
        serving.leave()
    with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, port)):
        pass


def test_a_server_in_use_is_not_restarted_for_a_port(cluster, port):
    with EmbeddedPostgres(cluster) as server:
        with pytest.raises(DatabaseUnreachable, match=f"in use without port {port}"):
            EmbeddedPostgres(cluster, port=port).start()
        connect(server.url).close()


def test_a_port_of_another_program_is_refused(cluster):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(DatabaseUnreachable, match=f"port {number} cannot be taken"):
            EmbeddedPostgres(cluster, port=number).start()


def test_a_program_finds_the_server_of_a_long_path_again(cluster):
    home = cluster.parent / "long" / ("long" * 30)
    with EmbeddedPostgres(home) as server:
        first = server.url
        place = Path(parse_url(first).query["host"])
        assert not place.is_relative_to(home)
    assert not place.exists()
    assert EmbeddedPostgres(home).url == first
    with EmbeddedPostgres(home):
        connect(first).close()
        with pytest.raises(psycopg.OperationalError, match="requirepeer"):
            connect(first, requirepeer="nobody")


def test_the_folder_of_the_socket_may_be_left_over_but_not_of_another_user(cluster):
    home = cluster.parent / "long" / ("long" * 30)
    with EmbeddedPostgres(home) as server:
        first = Path(parse_url(server.url).query["host"])
    first.mkdir(mode=0o777)
    first.chmod(0o777)
    try:
        with EmbeddedPostgres(home) as server:
            second = Path(parse_url(server.url).query["host"])
            assert second != first
            connect(server.url).close()
    finally:
        first.rmdir()
    second.mkdir(mode=0o700)
    owner = (home / "data").stat()
    os.chown(second, owner.st_uid, owner.st_gid)
    with EmbeddedPostgres(home) as server:
        assert Path(parse_url(server.url).query["host"]) == second
