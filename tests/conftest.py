"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import os
import signal
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psycopg
import pytest
from filelock import FileLock
from hypothesis import settings

from db.base import Base
from db.engine import parse_url
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from tests.databases import copy_home, forget_durability, prepare_database
from worker import config

if TYPE_CHECKING:
    from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:
    # Parallel processes share the cores: each computes with one thread, and so do the programs that it starts.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # They are given 80 columns, as one process is not: what is printed to a pipe has COLUMNS, else 200.
    os.environ.pop("COLUMNS", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # A shell starts what runs in the background so, and the programs of tests would ignore interrupts, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["FACET_DATABASE_KEEP_SECONDS"] = "0"  # no test leaves a server behind

settings.register_profile("facet", deadline=None)  # a busy machine is no failure
settings.load_profile("facet")

MAX_DELETED_BYTES = 1 << 18  # of a table; beyond, truncating it is cheaper than deleting its rows

# A table without a block has had no row since it was truncated.
_SIZES = """
    SELECT oid::regclass::text, pg_relation_size(oid) FROM pg_class
    WHERE relnamespace = 'facet'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
      AND pg_relation_size(oid) > 0"""
# Also numbers that a test took although no row is left of it; a sequence of no column runs on, as when truncating.
_RESTART = """
    SELECT setval(seqrelid::regclass, seqstart, false)
    FROM pg_sequence JOIN pg_class ON oid = seqrelid JOIN pg_depend ON objid = seqrelid AND deptype = 'i'
    WHERE relnamespace = 'facet'::regnamespace AND pg_sequence_last_value(seqrelid) IS NOT NULL"""

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep imported modules and collected tests out of garbage collection, which would walk them again and again.

    They are half a million objects that stay until the end: a tenth of a unit test's time went into them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    """Read the settings anew in each test, from its own environment: a process keeps those that it has read."""
    config.settings.cache_clear()
    yield
    config.settings.cache_clear()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of labelled research data beside the repository, or skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"research data is not on this machine: {SHARED_DATA} is missing")
    return SHARED_DATA


@pytest.fixture(scope="session")
def prepared_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an embedded database with all tables, at rest; parallel processes share it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "prepared-postgres"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            prepare_database(folder)
    return folder


@pytest.fixture(scope="session")
def embedded_postgres(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    """Start a real PostgreSQL with all tables and views, for the whole run or for that of each parallel process.

    Not below pytest's own folder: another run closes that for other users, and PostgreSQL may be one.
    Runs that follow each other may share one: FACET_TEST_POSTGRES names its folder.
    """
    shared = os.environ.get("FACET_TEST_POSTGRES")
    with TemporaryDirectory(prefix="facet-tests-") as own:
        folder = Path(shared or f"{own}/postgres")
        if shared is None:
            copy_home(request.getfixturevalue("prepared_database"), folder)
        with EmbeddedPostgres(folder) as server:
            forget_durability(server.url)
            upgrade(server.url)
            yield server


@pytest.fixture(scope="session")
def database_url(embedded_postgres: EmbeddedPostgres) -> str:
    """Return the address of the run's database; tests that write take ``clean_database``."""
    return embedded_postgres.url


@pytest.fixture
def clean_database(database_url: str) -> str:
    """Empty all tables of the run's database and return its address."""
    address = parse_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as connection:
        connection.execute("SET LOCAL lock_timeout = '20s'")  # a test that left a transaction open is named at once
        empty_tables(connection)
    return database_url


def empty_tables(connection: psycopg.Connection) -> None:
    """Empty all tables of the program and restart their numbers.

    Small tables have their rows deleted: new files for 37 tables and their indexes cost four times as much. Rows that
    are deleted leave their room behind, so now and then all tables are truncated.
    """
    sizes = dict(connection.execute(_SIZES).fetchall())
    if max(sizes.values(), default=0) > MAX_DELETED_BYTES:
        tables = ", ".join(str(table) for table in Base.metadata.sorted_tables)
        connection.execute(f"TRUNCATE {tables} RESTART IDENTITY")
        return
    connection.execute("SET LOCAL session_replication_role = replica")  # no foreign key and no trigger slows it
    for table in sizes:
        connection.execute(f"DELETE FROM {table}")
    connection.execute(_RESTART)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Return a folder for a server whose address is the same after the next start: its socket lies beside its data."""
    with TemporaryDirectory(prefix="facet-") as folder:
        yield Path(folder)
