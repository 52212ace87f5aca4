"""Time of the queries of docs/sql.md and of the commands in a large archive.

    .venv/bin/python benchmarks/questions_scale.py [--files 100000] [--url ADDRESS]

Builds an archive of generated rows in a PostgreSQL of its own: of every ten files, nine are images with four faces, one
is a video with 20 appearances of eight faces each; twice as many people as files. 100,000 files are 560,000 appearances
and 1,960,000 faces, in 4 GB and some five minutes. With an address, queries an existing database. Prints for each query
the seconds by the clock, and those of the processor without parallel workers, which other programs hardly disturb.
"""

from __future__ import annotations

import argparse
import re
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psutil
from sqlalchemy import text
from sqlalchemy.orm import Session

from db.engine import make_engine, session_factory
from db.reader.run_query import RESOURCES
from db.schema.migrate import upgrade
from db.schema.totals import find_differences, recount_people
from db.server.embedded import EmbeddedPostgres
from models.manifest import read_manifest
from worker.identity.merge_candidates import read_merge_candidates
from worker.ledger.status.job_status import read_status
from worker.pictures import tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

PAGE = Path(__file__).resolve().parents[1] / "docs" / "sql.md"
COMMANDS = {
    "facet people list": "SELECT * FROM people ORDER BY appearance_count DESC, person_id LIMIT 20",
    "facet people show 77": "SELECT * FROM appearances JOIN media USING (media_id) WHERE person_id = 77",
    "one person by name": "SELECT * FROM people WHERE name = 'Name 500'",
    "people by gender": "SELECT gender, count(*) FROM people GROUP BY gender",
    "files that are not done": "SELECT uri, status, reason FROM media WHERE status <> 'done'",
    "faces by gender": "SELECT gender, count(*) FROM faces GROUP BY gender",
    "faces of one file": "SELECT * FROM faces WHERE media_id = 95000",
}

BRANCHES = read_manifest(Path(__file__).resolve().parents[1] / "models" / "releases" / "default").branches
# Labels of the heads that faces have; scores are random.
HEADS = {branch.task: (branch.kind, list(branch.labels)) for branch in BRANCHES if branch.task != "emotion7"}

RELEASE = """
INSERT INTO layer (kind, fingerprint) VALUES ('finder', 'finder');
INSERT INTO layer (kind, fingerprint, parent_id) VALUES ('trunk', 'trunk', 1);
INSERT INTO release (fingerprint, name, weights_sha256, code_version, active, metrics, finder_id, trunk_id)
VALUES ('f', 'made', repeat('0', 64), '0', true, '{"age": {"x": 1}}', 1, 2)
"""
HEAD = """
WITH head AS (
    INSERT INTO layer (kind, fingerprint, parent_id, task, labels)
    VALUES ('head', 'head ' || :task, 2, :task, :labels) RETURNING layer_id
), reading AS (
    INSERT INTO layer (kind, fingerprint, parent_id, task, spec)
    SELECT 'reading', 'reading ' || :task, layer_id, :task, jsonb_build_object('kind', cast(:kind AS text)) FROM head
    RETURNING layer_id
)
INSERT INTO release_reading (release_id, task, head_id, reading_id)
SELECT 1, :task, head.layer_id, reading.layer_id FROM head, reading
"""
ARCHIVE = """
SET LOCAL session_replication_role = replica;
SET LOCAL maintenance_work_mem = '256MB';
INSERT INTO media_file (sha256, uri, location, kind, format, byte_size, width, height, duration_seconds,
                        frames_per_second, submitted_at)
SELECT encode(sha256(n::text::bytea), 'hex'),
       '/archive/' || (1950 + n % 70) || '/f' || n || CASE WHEN film THEN '.mp4' ELSE '.jpg' END, '/archive/' || n,
       CASE WHEN film THEN 'video' ELSE 'image' END, 'x', 1000, 640, 480, CASE WHEN film THEN 600 END,
       CASE WHEN film THEN 25 END, now() - n * interval '1 s'
FROM (SELECT n, n > :files * 0.9 AS film FROM generate_series(1, :files) AS n) AS f;
INSERT INTO job (name) SELECT 'job ' || n FROM generate_series(1, 100) AS n;
INSERT INTO analysis (media_id, finder_id, sampling, state, is_current, frame_count, face_count,
                      sample_interval_seconds, finished_at)
SELECT media_id, 1, '2/s', 'done', true, CASE kind WHEN 'video' THEN 1200 ELSE 1 END,
       CASE kind WHEN 'video' THEN 160 ELSE 4 END, CASE kind WHEN 'video' THEN 0.5 END, now()
FROM media_file ORDER BY media_id;
INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id)
SELECT 1 + media_id % 100, media_id / 100, uri, media_id, analysis_id FROM analysis JOIN media_file USING (media_id);
INSERT INTO unit (analysis_id, release_id, ordinal, state, finished_at, frame_count, face_count, token, attempts)
SELECT analysis_id, 1, o, 'done', now(), 120, 4, 1, 1
FROM analysis AS a, generate_series(0, CASE WHEN a.sample_interval_seconds IS NULL THEN 0 ELSE 9 END) AS o;
INSERT INTO crop_strip (unit_id, strip_no, uri)
SELECT unit_id, 0, 'ab/' || media_id || '/0-1-0.png' FROM unit JOIN analysis USING (analysis_id) WHERE ordinal = 0;
CREATE TEMPORARY TABLE pool AS
SELECT i, l2_normalize((SELECT array_agg((random() - 0.5)::real + 0 * g * i) FROM generate_series(1, 128) AS g)::vector)
    AS v
FROM generate_series(0, 9999) AS i;
CREATE INDEX ON pool (i);
INSERT INTO person (name) SELECT CASE WHEN n % 500 = 0 THEN 'Name ' || n END FROM generate_series(1, 2 * :files) AS n;
INSERT INTO person_embedding (person_id, trunk_id, embedding_sum, embedding_weight, is_good, revision)
SELECT person_id, 2, v, 1, true, person_id FROM person JOIN pool ON i = person_id % 10000;
INSERT INTO appearance (
    analysis_id, media_id, trunk_id, ordinal, start_seconds, end_seconds, face_count, quality, embedding, person_id)
SELECT a.analysis_id, a.media_id, 2, o, CASE WHEN film THEN o * 25 + random() * 10 ELSE 0 END,
       CASE WHEN film THEN o * 25 + 10 + random() * 20 ELSE 0 END, CASE WHEN film THEN 8 ELSE 1 END, random(), v,
       1 + floor(power(random(), 2) * (2 * :files - 1))::bigint
FROM (SELECT *, sample_interval_seconds IS NOT NULL AS film FROM analysis) AS a
CROSS JOIN LATERAL generate_series(0, CASE WHEN film THEN 19 ELSE 3 END) AS o
JOIN pool ON i = (a.analysis_id * 7 + o * 13) % 10000;
INSERT INTO appearance_prediction (
    appearance_id, reading_id, label, value, low, high, confidence, shares, scores)
SELECT appearance_id, reading_id,
       CASE task WHEN 'gender' THEN (ARRAY['female', 'male', 'unknown'])[1 + (random() * 2.2)::int]
                 WHEN 'ethnicity' THEN (ARRAY['a', 'b', 'c', 'unknown'])[1 + (random() * 3)::int]
                 WHEN 'emotion' THEN (ARRAY['neutral', 'happiness', 'sadness'])[1 + (random() * 2)::int] END,
       CASE task WHEN 'age' THEN 20 + random() * 50 END, CASE task WHEN 'age' THEN 20 END,
       CASE task WHEN 'age' THEN 70 END, CASE WHEN task NOT IN ('age', 'attributes') THEN random() END,
       CASE task WHEN 'emotion' THEN jsonb_build_object(
           'neutral', 0.5123, 'happiness', 0.3012, 'sadness', 0.1432, 'surprise', 0.0101, 'anger', 0.0102, 'disgust',
           0.0103, 'fear', 0.0104, 'contempt', 0.0023) END,
       CASE task WHEN 'attributes' THEN decode(repeat(md5(appearance_id::text), 5), 'hex') END
FROM appearance CROSS JOIN release_reading ORDER BY appearance_id, reading_id;
INSERT INTO face (
    analysis_id, unit_id, frame_index, at_seconds, face_no, x1, y1, x2, y2, landmarks, detection_score, quality,
    dropped_reason, strip_no, crop_index)
SELECT p.analysis_id, u.unit_id, CASE p.face_count WHEN 1 THEN 0 ELSE p.ordinal * 100 + k END,
       p.start_seconds + k * 0.5, CASE p.face_count WHEN 1 THEN p.ordinal ELSE 0 END, 10, 10, 60, 60,
       decode(repeat('4e20', 10), 'hex'), 0.9, random(), dropped, 0, k
FROM appearance AS p
CROSS JOIN LATERAL (
    SELECT k, CASE WHEN random() + 0 * p.appearance_id < 0.05 THEN 'too_small' END AS dropped
    FROM generate_series(0, p.face_count - 1) AS k
) AS faces
JOIN unit AS u ON u.analysis_id = p.analysis_id AND u.ordinal = 0
ORDER BY p.appearance_id, k;
INSERT INTO face_embedding (face_id, trunk_id, appearance_id, embedding)
SELECT f.face_id, 2, p.appearance_id, CASE WHEN f.dropped_reason IS NULL THEN p.embedding END
FROM face AS f
JOIN appearance AS p ON p.analysis_id = f.analysis_id
    AND p.ordinal = CASE p.face_count WHEN 1 THEN f.face_no ELSE f.frame_index / 100 END
ORDER BY f.face_id;
UPDATE appearance AS p SET best_face_id = f.face_id
FROM (SELECT appearance_id, min(face_id) AS face_id FROM face_embedding GROUP BY appearance_id) AS f
WHERE f.appearance_id = p.appearance_id;
INSERT INTO prediction (face_id, reading_id, label, value, low, high, confidence, scores)
SELECT face_id, reading_id,
       CASE c.task WHEN 'gender' THEN (ARRAY['female', 'male', 'unknown'])[1 + (random() * 2.1)::int]
                 WHEN 'ethnicity' THEN (ARRAY['a', 'b', 'c', 'unknown'])[1 + (random() * 3)::int]
                 WHEN 'emotion' THEN (ARRAY['neutral', 'happiness', 'sadness'])[1 + (random() * 2)::int] END,
       CASE c.task WHEN 'age' THEN 20 + random() * 50 END, CASE c.task WHEN 'age' THEN 20 END,
       CASE c.task WHEN 'age' THEN 70 END,
       CASE WHEN c.task IN ('gender', 'ethnicity', 'emotion') THEN random() END,
       substring(p.filler FOR 2 * cardinality(h.labels))
FROM face
CROSS JOIN release_reading AS c
JOIN layer AS h ON h.layer_id = c.head_id
CROSS JOIN LATERAL (SELECT decode(repeat(md5(face_id::text), 15), 'hex') AS filler) AS p
WHERE dropped_reason IS NULL
ORDER BY face_id, reading_id
"""


def main() -> None:
    """Build the archive, run all queries, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--url", help="a database that holds an archive already")
    options = parser.parse_args()
    with archive(options.url, options.files) as url:
        engine = make_engine(url)
        with engine.connect() as connection:
            measure(connection)
        engine.dispose()


@contextmanager
def archive(url: str | None, files: int) -> Iterator[str]:
    """Yield the address of an archive; a generated one is deleted afterwards."""
    if url is not None:
        yield url
        return
    with TemporaryDirectory(prefix="facet-questions-") as folder, EmbeddedPostgres(Path(folder)) as server:
        upgrade(server.url)
        started = time.perf_counter()
        fill(server.url, files)
        print(f"{files:,} files stored in {time.perf_counter() - started:.0f} s")
        yield server.url


def fill(url: str, files: int) -> None:
    """Write the archive, count its people, and compare the totals with a recount."""
    engine = make_engine(url)
    with session_factory(engine).begin() as session:
        for statement in RELEASE.split(";\n"):
            session.execute(text(statement))
        for task, (kind, labels) in HEADS.items():
            session.execute(text(HEAD), {"task": task, "kind": kind, "labels": labels})
        for statement in ARCHIVE.split(";\n"):
            session.execute(text(statement), {"files": files} if ":files" in statement else {})
        session.execute(text("SELECT setval('facet.person_revision', 2 * :files + 1)"), {"files": files})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))  # without it a million people are counted in over an hour, not in minutes
    with session_factory(engine).begin() as session:
        recount_people(session)
        assert find_differences(session) == []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


def questions() -> dict[str, str]:
    """Return all queries of the page by their titles, and those of commands."""
    found = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n### ")[1:]:
        for place, query in enumerate(re.findall(r"```sql\n(.*?)```", part, re.DOTALL)):
            found[part.splitlines()[0] + (f" ({place + 1})" if place else "")] = query.strip().rstrip(";")
    return found | COMMANDS


def measure(connection: Connection) -> None:
    """Run all queries twice: as a user does, and without parallel workers."""
    print("| question | seconds | processor |\n|---|---|---|")
    for name, value in RESOURCES.items():
        connection.exec_driver_sql(f"SET {name} = '{value}'")
    for title, query in questions().items():
        explained = "EXPLAIN (ANALYZE, TIMING OFF) " + query.replace("name = 'Ada'", "name = 'Name 500'")
        show(title, connection, lambda explained=explained: connection.exec_driver_sql(explained.replace("%", "%%")))
    session = Session(connection)
    functions: dict[str, Callable[[Session], object]] = {
        "facet people alike": read_merge_candidates,
        "facet status": read_status,
        "facet sheet --person 77": lambda s: tiles.read_tile_rows(s, tiles.Choice(person_id=77)),
        "facet sheet --job 7": lambda s: tiles.read_tile_rows(s, tiles.Choice(job_id=7)),
        "facet sheet": lambda s: tiles.read_tile_rows(s, tiles.Choice()),
        "totals against a recount": find_differences,
    }
    for title, function in functions.items():
        show(title, connection, lambda function=function: function(session))


def show(title: str, connection: Connection, ask: Callable[[], object]) -> None:
    """Print a line of the table."""
    server = psutil.Process(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
    started = time.perf_counter()
    ask()
    seconds = time.perf_counter() - started
    connection.exec_driver_sql("SET max_parallel_workers_per_gather = 0")
    before = server.cpu_times()
    ask()
    after = server.cpu_times()
    connection.exec_driver_sql("RESET max_parallel_workers_per_gather")
    spent = after.user + after.system - before.user - before.system
    print(f"| {title} | {seconds:.2f} | {spent:.2f} |", flush=True)


if __name__ == "__main__":
    main()
