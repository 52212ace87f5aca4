"""Server time of the pages of ``facet web`` in a large archive.

    .venv/bin/python benchmarks/web_pages.py [--files 500000] [--folder FOLDER]

Builds the archive of `questions_scale.py`: 500,000 files are 1,000,000 people, 2,800,000 appearances and 9,800,000
faces, in 22 GB and some three quarters of an hour. With a folder the archive stays there for the next run. Each page
is asked for six times through the application itself, without a network; prints the median and the longest of the
last five.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from questions_scale import fill
from sqlalchemy import text
from starlette.testclient import TestClient

from db.engine import make_engine, session_factory
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from models.release import DEFAULT
from worker.config import Settings
from worker.web.access.doors import LocalDoor
from worker.web.app import build_app
from worker.web.desk import open_desk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

PORT = 8750
TRIES = 6
PAGES = {
    "people": "/people",
    "people, by time in view": "/people?sort=time",
    "people, named": "/people?naming=named",
    "people, one gender": "/people?gender=female",
    "people, by part of a name": "/people?q=Name+50",
    "people of a job": "/people?job=7",
    "a person with few appearances": "/people/{few}",
    "a person with many": "/people/{many}",
    "the same, in groups": "/people/{many}?order=groups",
    "the same, where and when": "/people/{many}/times",
    "the same, seen with": "/people/{many}/company",
    "same person?": "/same",
    "media": "/media",
    "media, videos without people": "/media?kind=video&empty=1",
    "a video": "/media/{video}",
    "jobs": "/jobs",
    "a job": "/jobs/7",
    "releases": "/releases",
    "questions": "/ask",
}


@contextmanager
def archive(folder: Path | None, files: int) -> Iterator[str]:
    """Yield the address of an archive; one without a folder is deleted afterwards."""
    if folder is None:
        with TemporaryDirectory(prefix="facet-pages-") as temporary, archive(Path(temporary), files) as url:
            yield url
        return
    filled = folder / "filled"
    with EmbeddedPostgres(folder / "postgres") as server:
        upgrade(server.url)
        if not filled.exists():
            started = time.perf_counter()
            fill(server.url, files)
            state_manifest(server.url)
            filled.touch()
            print(f"{files:,} files stored in {time.perf_counter() - started:.0f} s", flush=True)
        yield server.url


def state_manifest(url: str) -> None:
    """Store the shipped release's description with the made one, which the page of releases reads."""
    engine = make_engine(url)
    with session_factory(engine).begin() as session:
        session.execute(text("UPDATE release SET manifest = :m"), {"m": (DEFAULT / "release.json").read_text()})
    engine.dispose()


def measure(url: str, home: Path) -> None:
    """Ask for all pages and print a line for each."""
    print("| page | median ms | longest ms | kB |\n|---|---|---|---|")
    with open_desk(Settings(home=home, database_url=url, reader_database_url=url)) as desk:
        door = LocalDoor(PORT)
        with TestClient(build_app(desk, door), base_url=f"http://127.0.0.1:{PORT}") as client:
            client.get(f"/?token={door.token}", follow_redirects=False)
            with desk.reading() as connection:
                numbers = examples(connection)
            for name, path in PAGES.items():
                show(client, name, path.format(**numbers))


def examples(connection: Connection) -> dict[str, int]:
    """Return a person with few appearances, one with many, and a video."""
    ordered = "SELECT person_id FROM counted_people ORDER BY appearance_count {}, person_id {} LIMIT 1"
    return {
        "few": connection.execute(text(ordered.format("ASC", "ASC"))).scalar_one(),
        "many": connection.execute(text(ordered.format("DESC", "DESC"))).scalar_one(),
        "video": connection.execute(text("SELECT max(media_id) FROM media WHERE kind = 'video'")).scalar_one(),
    }


def show(client: TestClient, name: str, path: str) -> None:
    """Ask for a page several times and print a line of the table; the first time fills caches."""
    seconds = []
    for _ in range(TRIES):
        started = time.perf_counter()
        response = client.get(path)
        seconds.append(time.perf_counter() - started)
    times = [1000 * one for one in seconds[1:]]
    failed = "" if response.status_code == 200 else f" (status {response.status_code})"
    size = len(response.content) / 1000
    print(f"| {name}{failed} | {statistics.median(times):.0f} | {max(times):.0f} | {size:.0f} |", flush=True)


def main() -> None:
    """Build the archive where there is none, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500_000)
    parser.add_argument("--folder", type=Path, help="keep the archive here")
    options = parser.parse_args()
    with archive(options.folder, options.files) as url, TemporaryDirectory(prefix="facet-pages-home-") as home:
        measure(url, Path(home))


if __name__ == "__main__":
    main()
