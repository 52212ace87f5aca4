"""Time of searches among many appearances, and recall of the index.

    .venv/bin/python benchmarks/search_scale.py CACHE.npz [--appearances 100000]

CACHE is what ``identify_lfw.py --cache`` wrote: the archive is made from its embeddings (`synthetic_people.py`), in
a PostgreSQL of its own with the program's tables and views. Prints the table of docs/measured/search.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import psycopg
from made_release import register_made
from sqlalchemy import text
from synthetic_people import Source

from db.bulk.codes import encode_probabilities
from db.bulk.columns import copy_columns
from db.bulk.rows import copy_rows
from db.engine import make_engine, parse_url, session_factory
from db.schema import search_index as nearest
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from worker.identity.search.searcher import Probe, Searcher, SearchOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from synthetic_people import Archive

    from db.bulk.columns import Values
    from worker.identity.search.searcher import SearchResult
    from worker.ledger.releases import ReleaseIds

LIMIT = 10
FILTER = "uri LIKE '%7.jpg'"  # a tenth of the files
ATTRIBUTES = 40  # labels, as wide as real rows
COLUMNS = (
    "appearance_id", "analysis_id", "media_id", "trunk_id", "ordinal", "start_seconds", "end_seconds", "face_count",
    "quality", "embedding", "person_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timed:
    """One search."""

    seconds: float
    found: SearchResult


def main() -> None:
    """Fill a database, search it, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--appearances", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--without-index", action="store_true")
    options = parser.parse_args()
    source = read_source(options.cache)
    archive = source.draw(options.appearances)
    with TemporaryDirectory(prefix="facet-search-") as folder, EmbeddedPostgres(Path(folder)) as server:
        upgrade(server.url)
        started = time.perf_counter()
        fill(server.url, archive)
        print(f"{len(archive):,} appearances stored in {time.perf_counter() - started:.0f} s; {sizes(server.url)}")
        measure(server.url, archive, probes(source, archive, options.queries), index=not options.without_index)


def read_source(cache: Path) -> Source:
    """Return real embeddings of full-size images."""
    with np.load(cache) as kept:
        full = kept["shrink"] == 1
        people = np.unique([name.split("/")[0] for name in kept["name"][full].tolist()], return_inverse=True)[1]
        return Source.of(kept["embedding"][full], kept["quality"][full], people)


def probes(source: Source, archive: Archive, count: int) -> list[Probe]:
    """Return probes: half are other images of people in the archive, half are strangers."""
    given, rng = archive.appearances, np.random.default_rng(1)
    rows = rng.choice(len(archive), count // 2, replace=False)
    noise = source.residuals[rng.choice(len(source.residuals), len(rows))] * 0.7
    strangers = source.draw(count, seed=2).appearances.embeddings[: count - len(rows)]
    vectors = np.concatenate([given.embeddings[rows] + noise, strangers])
    return [Probe(embedding=vector / np.linalg.norm(vector), quality=0.7) for vector in vectors]


def fill(url: str, archive: Archive) -> None:
    """Write one file, one analysis and one appearance for each image."""
    engine = make_engine(url)
    count, people = len(archive), int(archive.person.max()) + 1
    release = register_made(session_factory(engine), "made")
    with session_factory(engine).begin() as session:
        session.execute(
            text("""INSERT INTO media_file (media_id, sha256, uri, location, kind)
                    SELECT n, lpad(to_hex(n), 64, '0'), '/archive/' || n || '.jpg', '-', 'image'
                    FROM generate_series(1, :count) n"""),
            {"count": count},
        )
        session.execute(
            text("""INSERT INTO analysis (analysis_id, media_id, finder_id, sampling, state, is_current, finished_at)
                    SELECT n, n, :finder, '2/s', 'done', true, now() FROM generate_series(1, :count) n"""),
            {"count": count, "finder": release.finder_id},
        )
        session.execute(
            text("INSERT INTO person (person_id) SELECT n FROM generate_series(1, :count) n"),
            {"count": people},
        )
        copy_rows(session, "appearance", COLUMNS, rows_of(archive, release))
        copy_columns(session, "appearance_prediction", answers_of(count, release))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


def rows_of(archive: Archive, release: ReleaseIds) -> Iterator[tuple[object, ...]]:
    """Yield rows of the table."""
    given = archive.appearances
    for row in range(len(archive)):
        number = row + 1
        key = (number, number, number, release.trunk_id, 0, 0.0, 0.0, 1)
        yield (*key, float(given.quality[row]), given.embeddings[row], int(archive.person[row]) + 1)


def answers_of(count: int, release: ReleaseIds) -> Iterator[tuple[int, dict[str, Values]]]:
    """Yield predictions of all appearances, as wide as real ones."""
    shares = json.dumps({f"emotion{number}": 0.125 for number in range(8)})
    means = encode_probabilities(np.full((count, ATTRIBUTES), 0.1234))
    answers: dict[str, dict[str, Values]] = {
        "age": {"value": 40.0, "low": 30.0, "high": 50.0},
        "gender": {"label": "female", "confidence": 0.9},
        "emotion": {"label": "emotion1", "confidence": 0.125, "shares": shares},
        "attributes": {"scores": means},
    }
    nothing: dict[str, Values] = dict.fromkeys(("value", "low", "high", "label", "confidence", "shares", "scores"))
    for task, columns in answers.items():
        key: dict[str, Values] = {"appearance_id": np.arange(1, count + 1), "reading_id": release.readings[task]}
        yield count, {**key, **nothing, **columns}


def sizes(url: str) -> str:
    """Return the size of the table."""
    engine = make_engine(url)
    with engine.connect() as connection:
        size = connection.execute(text("SELECT pg_size_pretty(pg_total_relation_size('appearance'))")).scalar_one()
    engine.dispose()
    return f"table and its indexes {size}"


def measure(url: str, archive: Archive, queries: list[Probe], *, index: bool) -> None:
    """Time the ways to search; recall against numpy."""
    vectors = archive.appearances.embeddings
    truth = [set((np.argsort(-(vectors @ probe.embedding))[:LIMIT] + 1).tolist()) for probe in queries]
    searcher = Searcher(url)
    print("\n| way | median | slowest | recall of the ten nearest | best person the same |\n|---|---|---|---|---|")
    print(f"| all embeddings fetched (binary COPY) for numpy | {fetch_seconds(url):.2f} s | | | |")
    some = queries[: max(2, len(queries) // 4)]
    exact = run(searcher, queries, SearchOptions(limit=LIMIT, exact=True))
    report("exact", exact, truth, exact)
    report("exact, a tenth by `--where`", run(searcher, some, SearchOptions(limit=LIMIT, exact=True, where=FILTER)))
    if index:
        started = time.perf_counter()
        nearest.build_index(url)
        built = time.perf_counter() - started
        report("index", run(searcher, queries, SearchOptions(limit=LIMIT)), truth, exact)
        report("index, a tenth by `--where`", run(searcher, some, SearchOptions(limit=LIMIT, where=FILTER)))
        print(f"\nindex made in {built:.0f} s; with it: {sizes(url)}")


def run(searcher: Searcher, queries: list[Probe], options: SearchOptions) -> list[Timed]:
    """Search for each probe, after one search for warming up."""
    searcher.search(queries[0], options)
    timed = []
    for probe in queries:
        started = time.perf_counter()
        found = searcher.search(probe, options)
        timed.append(Timed(time.perf_counter() - started, found))
    return timed


def report(
    name: str, timed: list[Timed], truth: list[set[int]] | None = None, exact: list[Timed] | None = None
) -> None:
    """Print one line; recall of appearances against numpy, the best person against the exact search."""
    seconds = [one.seconds for one in timed]
    recall = same = ""
    if truth is not None and exact is not None:
        found = [{hit.appearance_id for hit in one.found.appearances} for one in timed]
        recall = f"{np.mean([len(ids & want) for ids, want in zip(found, truth, strict=True)]) / LIMIT:.3f}"
        best = [[one.found.people[0].person_id for one in way] for way in (timed, exact)]
        same = f"{np.mean(np.equal(*best)):.3f}"
    print(f"| {name} | {np.median(seconds):.2f} s | {max(seconds):.2f} s | {recall} | {same} |", flush=True)


def fetch_seconds(url: str) -> float:
    """Fetch every embedding, as a comparison here would have to."""
    address = parse_url(url)
    place = address.translate_connect_args(username="user", database="dbname")
    query = "COPY (SELECT appearance_id, embedding FROM facet.appearances) TO STDOUT (FORMAT BINARY)"
    with psycopg.connect(**place, **address.query, options="-c search_path=facet,public") as connection:
        started = time.perf_counter()
        with connection.cursor().copy(query) as copy:
            size = sum(len(block) for block in copy)
        seconds = time.perf_counter() - started
    print(f"({size / 1e6:.0f} MB)")
    return seconds


if __name__ == "__main__":
    main()
