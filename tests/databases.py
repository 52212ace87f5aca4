"""Embedded databases for tests: one is made with all tables, and the others are copies of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from db.engine import parse_url
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres


def prepare_database(folder: Path) -> None:
    """Make the folder of a database with all tables, at rest: two seconds, of which a copy takes a tenth.

    The server runs elsewhere meanwhile: another run of pytest closes pytest's own folder for other users, and
    PostgreSQL may be one.
    """
    unfinished = folder.with_name(f"{folder.name}.new")
    with TemporaryDirectory(prefix="facet-tests-") as made:
        with EmbeddedPostgres(Path(made)) as server:
            forget_durability(server.url)
            upgrade(server.url)
        copy_home(Path(made), unfinished)
    unfinished.rename(folder)


def forget_durability(url: str) -> None:
    """Set a server and its copies not to wait for the disk: tests need no rows after a power cut."""
    address = parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


def copy_home(source: Path, target: Path) -> None:
    """Copy a home, or its database, at rest; the files keep their owner, who may be PostgreSQL's."""

    def copied(one: str, other: str) -> str:
        shutil.copy2(one, other)
        shutil.chown(other, Path(one).stat().st_uid, Path(one).stat().st_gid)
        return other

    # The folder of a server's socket belongs to that server alone.
    ignored = shutil.ignore_patterns("socket-folder")
    shutil.copytree(source, target, symlinks=True, copy_function=copied, ignore=ignored)
    for folder in (source, *source.rglob("*")):
        if folder.is_dir():
            shutil.chown(target / folder.relative_to(source), folder.stat().st_uid, folder.stat().st_gid)
