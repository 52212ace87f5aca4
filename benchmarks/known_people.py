"""Time to identify new appearances against a large gallery, database included.

    python benchmarks/known_people.py --people 1000000 --new 1000

Fills an embedded PostgreSQL with made people of one appearance each (random directions: only time is measured here,
not who is found) and identifies batches of new appearances, half of them known, as a worker does: the first reads
everybody, those after it only what changed. Then everybody is read for a regrouping, which is not computed.
"""

from __future__ import annotations

import argparse
import resource
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.arrays import write_rows
from db.engine import make_engine, session_factory
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from worker.identity.identifier import Identifier
from worker.identity.regroup import take_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session, sessionmaker

    from db.bulk.arrays import ColumnType

BLOCK = 50_000
PER_FILE = 4  # appearances in a file
BATCHES = 4
NOISE = 0.5  # an image of a known person has a cosine of 0.9 to the one before

TRUNK = 2
RELEASE = """WITH layers AS (INSERT INTO layer (layer_id, kind, fingerprint, parent_id)
                             VALUES (1, 'finder', 'finder', NULL), (2, 'trunk', 'trunk', 1)),
                  state AS (INSERT INTO trunk_state (trunk_id) VALUES (2))
             INSERT INTO release (release_id, fingerprint, name, weights_sha256, code_version, active, finder_id,
                                  trunk_id)
             VALUES (1, 'benchmark', 'benchmark', repeat('0', 64), '0', true, 1, 2)"""
FILES = """WITH m AS (INSERT INTO media_file (sha256, uri, location, kind)
                      SELECT encode(sha256(n::text::bytea), 'hex'), n::text, n::text, 'video'
                      FROM generate_series(cast(:first AS bigint), :last) n RETURNING media_id)
           INSERT INTO analysis (media_id, finder_id, sampling, state, finished_at, is_current)
           SELECT media_id, 1, '2/s', 'done', now(), true FROM m ORDER BY media_id"""


def directions(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Return (count, 128) random unit vectors."""
    vectors = random.standard_normal((count, 128), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def add_people(session: Session, first: int, sums: NDArray[np.float32]) -> None:
    """Write people as identification stores them."""
    count = len(sums)
    ids = np.arange(first, first + count)
    rows = {
        "person_id": ids,
        "trunk_id": np.full(count, TRUNK),
        "revision": np.full(count, first),
        "embedding_sum": sums,
        "embedding_weight": np.full(count, 0.8),
        "is_good": np.ones(count, np.bool_),
    }
    kinds: dict[str, ColumnType] = {
        "person_id": "bigint", "trunk_id": "smallint", "revision": "bigint", "embedding_sum": "vector",
        "embedding_weight": "real", "is_good": "boolean",
    }  # fmt: skip
    write_rows(session, "facet.person", {"person_id": "bigint"}, {"person_id": ids})
    write_rows(session, "facet.person_embedding", kinds, rows)


def add_appearances(session: Session, first: int, looks: NDArray[np.float32], *, known: bool) -> None:
    """Write appearances that follow one another in files of their own."""
    files = -(-len(looks) // PER_FILE)
    begin = session.execute(text("SELECT coalesce(max(media_id), 0) + 1 FROM media_file")).scalar_one()
    session.execute(text(FILES), {"first": begin, "last": begin + files - 1})
    number = np.arange(len(looks))
    rows = {
        "appearance_id": first + number,
        "analysis_id": begin + number // PER_FILE,
        "media_id": begin + number // PER_FILE,
        "trunk_id": np.full(len(looks), TRUNK),
        "ordinal": number % PER_FILE,
        "start_seconds": 10.0 * (number % PER_FILE),
        "end_seconds": 10.0 * (number % PER_FILE) + 5.0,
        "face_count": np.ones(len(looks)),
        "quality": np.full(len(looks), 0.8),
        "embedding": looks,
    }
    kinds: dict[str, ColumnType] = {
        "appearance_id": "bigint", "analysis_id": "bigint", "media_id": "bigint", "trunk_id": "smallint",
        "ordinal": "integer", "start_seconds": "double precision", "end_seconds": "double precision",
        "face_count": "integer", "quality": "real", "embedding": "halfvec",
    }  # fmt: skip
    if known:
        kinds["person_id"], rows["person_id"] = "bigint", rows["appearance_id"]
    write_rows(session, "facet.appearance", kinds, rows)


def fill(sessions: sessionmaker[Session], people: int) -> None:
    """Write all people, each with one appearance of the same number."""
    random = np.random.default_rng(1)
    with sessions.begin() as session:
        session.execute(text(RELEASE))
    for start in range(0, people, BLOCK):
        looks = directions(random, min(BLOCK, people - start))
        with sessions.begin() as session:
            add_people(session, start + 1, 0.8 * looks)
            add_appearances(session, start + 1, looks, known=True)
    with sessions.begin() as session:
        session.execute(text("SELECT setval('facet.person_revision', :n), setval('facet.person_person_id_seq', :n)"),
                        {"n": people + 1})  # fmt: skip
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"}).exec_driver_sql("VACUUM ANALYZE")


def arrive(sessions: sessionmaker[Session], people: int, new: int, batch: int) -> None:
    """Write a batch of new appearances, half of them of known people."""
    random = np.random.default_rng(100 + batch)
    first = directions(np.random.default_rng(1), min(BLOCK, people))  # as they were written
    known = first[random.choice(len(first), new // 2, replace=False)]
    noisy = known + NOISE * directions(random, len(known))
    looks = np.concatenate([noisy / np.linalg.norm(noisy, axis=1, keepdims=True), directions(random, new - len(known))])
    with sessions.begin() as session:
        add_appearances(session, 10 * people + batch * new, looks, known=False)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Print the time of a step, and the largest memory of this process so far."""
    started = time.perf_counter()
    yield
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {what} | {time.perf_counter() - started:.2f} s | {megabytes:.0f} MB |", flush=True)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=1000)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="facet-benchmark-") as folder, EmbeddedPostgres(Path(folder)) as server:
        upgrade(server.url)
        sessions = session_factory(make_engine(server.url))
        fill(sessions, options.people)
        identifier = Identifier(sessions, TRUNK)
        print(f"{options.new} new appearances against {options.people} people\n\n| | time | memory |\n|---|---|---|")
        for batch in range(BATCHES):
            arrive(sessions, options.people, options.new, batch)
            with told("first, everybody is read" if not batch else f"batch {batch + 1}"):
                identifier.finish()
        with told("everybody read for a regrouping"), sessions() as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            take_snapshot(session, TRUNK)


if __name__ == "__main__":
    main()
