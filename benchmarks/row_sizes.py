"""Bytes that a face takes in PostgreSQL, table by table, indexes included.

    .venv/bin/python benchmarks/row_sizes.py [--faces 40000]

Stores generated faces in a PostgreSQL of its own, unit by unit as a worker does, first those of videos, then those of
images: two faces in view at two frames a second, shots of 20 seconds, an appearance of 40 faces, one face in 20
dropped, three faces in an image, a person for eight appearances. Scores come from the heads of the default release.
The smaller tables of the ledger are filled like the others. Prints bytes per face, for kept and dropped faces together.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk import codes
from db.bulk.rows import allocate_ids, copy_rows
from db.engine import make_engine, session_factory
from db.schema.migrate import upgrade
from db.schema.totals import count_people
from db.server.embedded import EmbeddedPostgres
from models.manifest import read_manifest
from worker.ledger.releases import register_release

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from models.branches import BranchSpec
    from worker.ledger.releases import ReleaseIds

RELEASE = Path(__file__).resolve().parents[1] / "models" / "releases" / "default"
SPREAD = 3.0  # standard deviation of the logits: the likeliest of two labels has 0.9 on average
UNIT_FACES = {"video": 240, "image": 3}  # a minute of video
APPEARANCE_FACES = {"video": 40, "image": 1}
PERSON_APPEARANCES = 8
DROPPED_EVERY = 20  # faces
SHOWN_HEADS = ("age", "gender", "ethnicity", "emotion", "attributes")  # those of appearances

SIZES = text("""
SELECT c.relname AS name, pg_relation_size(c.oid) + coalesce(pg_relation_size(c.reltoastrelid), 0) AS rows,
       coalesce((SELECT sum(pg_relation_size(i.indexrelid)) FROM pg_index AS i WHERE i.indrelid = c.oid), 0) AS indexes
FROM pg_class AS c
WHERE c.relnamespace = 'facet'::regnamespace AND c.relkind = 'r'
""")


class Store:
    """Writes files with their faces under one release."""

    def __init__(self, session: Session, ids: ReleaseIds, branches: tuple[BranchSpec, ...]) -> None:
        self._session = session
        self._ids = ids
        self._branches = branches
        self._random = np.random.default_rng(5)
        self._people: list[int] = []
        self._appearances = 0
        job = session.execute(text("INSERT INTO job (name) VALUES ('sizes') RETURNING job_id"))
        self._job = int(job.scalar_one())

    def write(self, kind: str, faces: int) -> None:
        """Write files of one kind until there are that many faces."""
        for number in range(0, faces, UNIT_FACES[kind]):
            self._file(kind, number)

    def _file(self, kind: str, number: int) -> None:
        name = f"/archive/{1950 + number % 70}/reel {number:06d}.{'mp4' if kind == 'video' else 'jpg'}"
        media = self._insert(
            "INSERT INTO media_file (sha256, uri, location, kind, format, byte_size, width, height, stamp)"
            " VALUES (encode(sha256(cast(:name AS bytea)), 'hex'), :name, :name, :kind, 'x', 1000000, 1280, 720,"
            " :stamp) RETURNING media_id",
            name=name, kind=kind, stamp="1000000 1700000000.1 1700000000.1 123456",
        )  # fmt: skip
        analysis = self._insert(
            "INSERT INTO analysis (media_id, finder_id, sampling, state, is_current, finished_at) VALUES (:media,"
            " :finder, '2/s', 'done', true, now()) RETURNING analysis_id",
            media=media, finder=self._ids.finder_id,
        )  # fmt: skip
        unit = self._insert(
            "INSERT INTO unit (analysis_id, release_id, state, finished_at, owner, stage_seconds) VALUES (:analysis,"
            " :release, 'done', now(), 'host:123', '{\"decode\": 1.5, \"detect\": 10.2, \"infer\": 3.3}')"
            " RETURNING unit_id",
            analysis=analysis, release=self._ids.release_id,
        )  # fmt: skip
        self._session.execute(
            text("INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id) VALUES (:j, :m, :n, :m, :a)"),
            {"j": self._job, "m": media, "n": name, "a": analysis},
        )
        if kind == "video":
            copy_rows(
                self._session, "scene_cut", ("analysis_id", "unit_id", "at_seconds"),
                [(analysis, unit, at) for at in (20.0, 40.0)],
            )  # fmt: skip
        self._faces(kind, analysis, media, unit)

    def _faces(self, kind: str, analysis: int, media: int, unit: int) -> None:
        count = UNIT_FACES[kind]
        ids = np.array(allocate_ids(self._session, "face", count))
        group = np.arange(count) // APPEARANCE_FACES[kind]
        appearances = np.array(allocate_ids(self._session, "appearance", int(group[-1]) + 1))[group]
        kept = np.arange(count) % DROPPED_EVERY != DROPPED_EVERY - 1
        corners = self._random.uniform(0, 400, (count, 2))
        boxes = np.concatenate([corners, corners + self._random.uniform(30, 200, (count, 2))], 1).astype(np.float32)
        points = corners[:, None] + self._random.uniform(0.2, 0.8, (count, 5, 2)) * (
            boxes[:, None, 2:] - corners[:, None]
        )
        landmarks = codes.to_bytes(codes.encode_landmarks(points, boxes))
        columns = (
            "face_id", "analysis_id", "unit_id", "at_seconds", "frame_index", "hold_seconds", "x1", "y1", "x2", "y2",
            "detection_score", "quality", "frame_width", "frame_height", "strip_no", "crop_index", "face_no",
            "landmarks", "dropped_reason",
        )  # fmt: skip
        rows = [
            (
                int(ids[i]), analysis, unit, i / 4, i // 2 * 12, 0.5, *boxes[i].tolist(), 0.99, 0.5, 1280, 720,
                0 if kept[i] else None, i if kept[i] else None, i % 2, landmarks[i], None if kept[i] else "profile",
            )
            for i in range(count)
        ]  # fmt: skip
        copy_rows(self._session, "face", columns, rows)
        strip = f"ab/0123456789abcdef0123456789abcdef0123456789abcdef/{analysis}/0-1-0.png"
        copy_rows(self._session, "crop_strip", ("unit_id", "strip_no", "uri"), [(unit, 0, strip)])
        embeddings = self._embeddings(count)
        copy_rows(
            self._session, "face_embedding", ("face_id", "trunk_id", "appearance_id", "embedding"),
            [
                (int(ids[i]), self._ids.trunk_id, int(appearances[i]), embeddings[i] if kept[i] else None)
                for i in range(count)
            ],
        )  # fmt: skip
        for branch in self._branches:
            self._predictions("prediction", "face_id", branch, ids[kept])
        self._appear(kind, analysis, media, np.unique(appearances))

    def _appear(self, kind: str, analysis: int, media: int, ids: NDArray[np.int64]) -> None:
        embeddings = self._embeddings(len(ids))
        columns = (
            "appearance_id", "analysis_id", "media_id", "start_seconds", "end_seconds", "screen_seconds", "person_id",
            "trunk_id", "ordinal", "face_count", "quality", "embedding",
        )  # fmt: skip
        rows = [
            (
                int(number), analysis, media, 1.0, 20.0, 19.5, self._person(), self._ids.trunk_id, place,
                APPEARANCE_FACES[kind], 0.5, embeddings[place],
            )
            for place, number in enumerate(ids)
        ]  # fmt: skip
        copy_rows(self._session, "appearance", columns, rows)
        for branch in self._branches:
            if branch.task in SHOWN_HEADS:
                self._predictions("appearance_prediction", "appearance_id", branch, ids)

    def _person(self) -> int:
        if self._appearances % PERSON_APPEARANCES == 0:
            person = self._insert("INSERT INTO person DEFAULT VALUES RETURNING person_id")
            columns = ("person_id", "trunk_id", "embedding_sum", "embedding_weight", "revision")
            row = (person, self._ids.trunk_id, self._embeddings(1)[0], 1.0, person)
            copy_rows(self._session, "person_embedding", columns, [row])
            self._people.append(person)
        self._appearances += 1
        return self._people[-1]

    def _predictions(self, table: str, key: str, branch: BranchSpec, ids: NDArray[np.int64]) -> None:
        logits = self._random.normal(0, SPREAD, (len(ids), len(branch.labels)))
        if branch.kind == "multilabel":
            scores, labels = codes.encode_multilabel(logits), [None] * len(ids)
        else:
            scores = codes.encode_softmax(logits)
            labels = (
                [branch.labels[place] for place in logits.argmax(1)] if branch.kind == "softmax" else [None] * len(ids)
            )
        stored: list[bytes | None] = list(codes.to_bytes(scores))
        shares = None
        if table == "appearance_prediction" and branch.kind != "multilabel":
            stored = [None] * len(ids)
            shares = dict.fromkeys(branch.labels, 0.1234) if branch.task == "emotion" else None
        ages = (31.5, 22.5, 40.25) if branch.kind == "age" else (None, None, None)
        confidence = 0.9 if branch.kind == "softmax" else None
        reading = self._ids.readings[branch.task]
        columns = [key, "reading_id", "confidence", "value", "low", "high", "label", "scores"]
        rows = [
            [int(number), reading, confidence, *ages, label, score]
            for number, label, score in zip(ids, labels, stored, strict=True)
        ]
        if shares is not None:
            columns, rows = [*columns, "shares"], [[*row, shares] for row in rows]
        copy_rows(self._session, table, columns, rows)

    def _embeddings(self, count: int) -> NDArray[np.float32]:
        found = self._random.standard_normal((count, 128)).astype(np.float32)
        normed: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return normed

    def _insert(self, statement: str, **values: object) -> int:
        return int(self._session.execute(text(statement), values).scalar_one())


def main() -> None:
    """Store faces of both kinds and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=40_000, help="of each kind")
    faces = parser.parse_args().faces
    sizes = {kind: measure(kind, faces) for kind in ("video", "image")}
    print(f"bytes per face, {faces:,} faces of each kind\n")
    print("| table | video: rows | indexes | image: rows | indexes |\n|---|---|---|---|---|")
    for name in sorted(sizes["video"], key=lambda name: -sum(sizes["video"][name])):
        numbers = [*sizes["video"][name], *sizes["image"][name]]
        if max(numbers) >= 0.5:
            print(f"| `{name}` | " + " | ".join(f"{number:.0f}" for number in numbers) + " |")
    totals = [sum(column) for kind in sizes for column in zip(*sizes[kind].values(), strict=True)]
    print("| all | " + " | ".join(f"{total:.0f}" for total in totals) + " |")
    print(f"\nvideo {totals[0] + totals[1]:.0f}, image {totals[2] + totals[3]:.0f}")


def measure(kind: str, faces: int) -> dict[str, tuple[float, float]]:
    """Store faces in a new database; return bytes per face of each table and of its indexes."""
    manifest = read_manifest(RELEASE)
    with TemporaryDirectory(prefix="facet-sizes-") as folder, EmbeddedPostgres(Path(folder)) as server:
        upgrade(server.url)
        engine = make_engine(server.url)
        before = _sizes(engine)
        with session_factory(engine).begin() as session:
            Store(session, register_release(session, manifest), manifest.branches).write(kind, faces)
            count_people(session)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM")  # notes of people are gone
        after = _sizes(engine)
        engine.dispose()
    stored = -(-faces // UNIT_FACES[kind]) * UNIT_FACES[kind]
    return {
        name: ((rows - before[name][0]) / stored, (indexes - before[name][1]) / stored)
        for name, (rows, indexes) in after.items()
    }


def _sizes(engine: Engine) -> dict[str, tuple[int, int]]:
    with engine.connect() as connection:
        return {row.name: (int(row.rows), int(row.indexes)) for row in connection.execute(SIZES)}


if __name__ == "__main__":
    main()
