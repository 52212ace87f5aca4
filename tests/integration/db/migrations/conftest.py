"""A database of version 0016 with rows: four releases, corrections, proposals, an erased person, no crops of some."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from sqlalchemy import text

from db.engine import make_engine
from db.schema import migrate
from db.schema.views import drop_views

OLD_VIEWS = (Path(__file__).parent / "views_0016.sql").read_text(encoding="utf-8")
ATTRIBUTES = ("Bald", "Eyeglasses", "Smiling", "Young")
BRANCHES = [
    {"task": "age", "kind": "age", "labels": [str(year) for year in range(20, 31)], "depths": ["embedding"],
     "temperature": 0.72},
    {"task": "gender", "kind": "softmax", "labels": ["female", "male"], "depths": ["conv_12"], "temperature": 0.83,
     "abstain": 0.6},
    {"task": "ethnicity", "kind": "softmax", "labels": ["a", "b", "c"], "depths": ["conv_12"], "temperature": 1.5},
    {"task": "emotion", "kind": "softmax", "labels": ["neutral", "happiness", "fear", "anger"], "depths": ["conv_12"]},
    {"task": "attributes", "kind": "multilabel", "labels": list(ATTRIBUTES), "depths": ["conv_14"],
     "temperature": 0.98},
]  # fmt: skip
MANIFEST = {
    "format": 1, "detector": "d", "trunk": "t", "detection": {"threshold": 0.6}, "quality": {"max_turn": 1},
    "alignment": {"template": [[1, 2.5], [3, 4]], "side": 112}, "branches": BRANCHES,
    "files": {"detector.safetensors": "a" * 64, "trunk.safetensors": "b" * 64}
    | {f"branch-{branch['task']}.safetensors": branch["task"] for branch in BRANCHES},
}  # fmt: skip

LEDGER = """
INSERT INTO media_file (sha256, uri, location, kind, width, height, submitted_at)
SELECT encode(sha256(n::text::bytea), 'hex'), '/a/' || n, '/a/' || n, CASE WHEN n < 4 THEN 'video' ELSE 'image' END,
       640, 480, timestamptz '2026-01-01' + n * interval '1 h' FROM generate_series(1, 8) AS n;
UPDATE media_file SET sealed_at = now() WHERE media_id = 3;
INSERT INTO media_file (uri, reason) VALUES ('/a/bad', 'truncated: ends early');
INSERT INTO job (name, keep_days, erased_done) VALUES ('first', 30, 1), ('second', NULL, 0);
"""
# media, release, sampling, state, is_current
ANALYSES = (
    (1, 1, "2/s", "done", True), (2, 1, "2/s", "done", True), (4, 1, "2/s", "done", True),
    (1, 2, "2/s", "done", True), (2, 2, "every", "done", False), (2, 2, "2/s", "done", True),
    (3, 2, "2/s", "done", True), (4, 2, "2/s", "done", True), (5, 2, "2/s", "quarantined", False),
    (6, 2, "2/s", "pending", False), (1, 4, "2/s", "done", True), (7, 4, "2/s", "done", True),
)  # fmt: skip


class OldArchive:
    """Writes the rows as the program of that version did, with scores that look real."""

    def __init__(self, connection):
        self.connection = connection
        self.random = np.random.default_rng(11)

    def run(self, statement, **values):
        return self.connection.execute(text(statement), values)

    def write(self):
        for name, pipeline, change in (
            ("first", 3, {}), ("second", 3, {"files": {"branch-age.safetensors": "another"}}),
            ("third", 3, {"branches": ("gender", {"temperature": 2})}), ("older", 2, {}),
        ):  # fmt: skip
            self.release(name, pipeline, change)
        self.connection.exec_driver_sql(LEDGER)
        self.run("INSERT INTO person (release_id, name, revision, embedding_weight, is_good, embedding_sum)"
                 " SELECT 1 + n % 2, CASE WHEN n % 3 = 0 THEN 'Name ' || n END, n, n, true,"
                 " array_fill(n::real, ARRAY[128])::vector FROM generate_series(1, 12) AS n")  # fmt: skip
        self.run("INSERT INTO person (release_id) VALUES (4), (4), (3)")
        for row in ANALYSES:
            self.analysis(*row)
        self.run("INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id) SELECT 1 + analysis_id % 2,"
                 " analysis_id, '/a', media_id, analysis_id FROM analysis")  # fmt: skip
        self.statements_of_people()
        self.run("SELECT setval('face_face_id_seq', (SELECT max(face_id) FROM face) + 100)")

    def release(self, name, pipeline, change):
        manifest = copy.deepcopy(MANIFEST)
        manifest["files"] |= change.get("files", {})
        task, fields = change.get("branches", ("", {}))
        for branch in manifest["branches"]:
            branch.update(fields if branch["task"] == task else {})
        self.run(
            "INSERT INTO release (fingerprint, name, weights_sha256, code_version, active, manifest, people_erased)"
            " VALUES (:name, :name, 'w', :code, :active, cast(:manifest AS jsonb), :erased)",
            name=name, code=f"0.1.0+pipeline{pipeline}", active=name == "second", manifest=json.dumps(manifest),
            erased=7 if name == "second" else 0,
        )  # fmt: skip

    def analysis(self, media, release, sampling, state, current):
        reason = "crashed: again" if state == "quarantined" else None
        key = self.run(
            "INSERT INTO analysis (media_id, release_id, sampling, state, is_current, finished_at, frame_count,"
            " face_count, reason, sample_interval_seconds) VALUES (:media, :release, :sampling, :state, :current,"
            " CASE WHEN :state <> 'pending' THEN now() END, 40, 12, :reason, 0.5) RETURNING analysis_id",
            media=media, release=release, sampling=sampling, state=state, current=current, reason=reason,
        ).scalar_one()  # fmt: skip
        unit = self.run(
            "INSERT INTO unit (analysis_id, release_id, state, finished_at, notes) VALUES (:key, :release, :state,"
            " CASE WHEN :state <> 'pending' THEN now() END, ARRAY['a note']) RETURNING unit_id",
            key=key, release=release, state=state,
        ).scalar_one()  # fmt: skip
        if state == "done":
            for ordinal in range(4):
                self.appearance({"a": key, "m": media, "r": release}, unit, ordinal)
            self.face({"a": key, "m": media, "r": release}, unit, (900, 0), None, "too_small")

    def appearance(self, owner, unit, ordinal):
        emotions = dict(zip(BRANCHES[3]["labels"], self.shares(4).round(4).tolist(), strict=True))
        means = dict(zip(ATTRIBUTES, self.random.random(4).round(4).tolist(), strict=True))
        read = owner["r"] != 4 or ordinal
        person = int(self.random.choice({1: [2, 4, 6, 8], 2: [1, 3, 5, 7], 4: [13, 14]}[owner["r"]]))
        number = self.run(
            "INSERT INTO appearance (analysis_id, media_id, release_id, ordinal, start_seconds, end_seconds,"
            " screen_seconds, face_count, age, age_low, age_high, gender, gender_confidence, ethnicity,"
            " ethnicity_confidence, emotion, emotion_confidence, emotions, attributes, quality, embedding, person_id)"
            " VALUES (:a, :m, :r, :ordinal, 1, :stop, :screen, 3, :age, :age, :age, :gender, :sure, :ethnicity, :sure,"
            " :emotion, :sure, cast(:emotions AS jsonb), cast(:means AS jsonb), :quality, cast(:embedding AS vector),"
            " :person) RETURNING appearance_id",
            **owner, ordinal=ordinal, stop=float(self.random.random() + 2), screen=float(ordinal) or None,
            age=float(self.random.uniform(20, 30)) if read else None,
            gender=str(self.random.choice(["female", "male"])),
            sure=float(self.random.random()), ethnicity="unknown" if ordinal == 2 else "b",
            emotion="fear" if read else None, emotions=json.dumps(emotions) if read else None,
            means=json.dumps(means) if ordinal != 3 else None, quality=float(self.random.random()),
            embedding=self.embedding(), person=None if ordinal == 3 else person,
        ).scalar_one()  # fmt: skip
        faces = [self.face(owner, unit, (10 * k, ordinal), number, "profile" if k == 2 else None) for k in range(3)]
        self.run("UPDATE appearance SET best_face_id = :face WHERE appearance_id = :key", face=faces[0], key=number)

    def face(self, owner, unit, place, appearance, dropped):
        x, y, width, height = self.random.uniform(1, 300, 4)
        points = np.array([x, y]) + self.random.uniform(-0.3, 1.3, (5, 2)) * np.array([width, height])
        frame, number = place
        crop = None if dropped or number == 1 else f"ab/cd/{unit}-1-{frame // 10}.png"
        face = self.run(
            "INSERT INTO face (analysis_id, unit_id, media_id, release_id, frame_index, at_seconds, face_no,"
            " frame_width, frame_height, hold_seconds, x1, y1, x2, y2, landmarks, detection_score, quality,"
            " dropped_reason, appearance_id, crop_uri, crop_index, embedding) VALUES (:a, :unit, :m, :r, :frame, :at,"
            " :number, :width, :width, :hold, :x, :y, :x2, :y2, cast(:points AS real[]), 0.9, :quality, :dropped,"
            " :appearance, :crop, :index, cast(:embedding AS vector)) RETURNING face_id",
            **owner, unit=unit, frame=frame, at=frame / 25, number=number, width=None if number == 2 else 1280,
            hold=None if number == 2 else 0.04, x=x, y=y, x2=x + width, y2=y + height, points=points.ravel().tolist(),
            quality=float(self.random.random()), dropped=dropped, appearance=appearance, crop=crop,
            index=number if crop else None, embedding=None if dropped else self.embedding(),
        ).scalar_one()  # fmt: skip
        if dropped is None:
            for branch in BRANCHES:
                if not (owner["r"] == 4 and branch["task"] == "emotion"):
                    self.prediction(face, owner["r"], branch)
        return face

    def prediction(self, face, release, branch):
        task, labels = branch["task"], branch["labels"]
        row = {"face": face, "task": task, "release": release, "label": None, "value": None, "low": None, "high": None}
        if task == "attributes":
            p = (1 / (1 + np.exp(-self.random.normal(0, 4, len(labels))))).astype(np.float32)
            row["attributes"] = json.dumps({a: round(float(x), 4) for a, x in zip(labels, p, strict=True)})
            row["confidence"] = None
        else:
            p = self.shares(len(labels))
            row |= {"attributes": None, "confidence": float(p.max())}
            row["label"] = "unknown" if p.max() < 0.6 else labels[int(p.argmax())]
        if task == "age":
            row |= {"label": None, "confidence": None, "value": float(p @ np.arange(20, 31)), "low": 21.0, "high": 28.5}
        if task == "gender" and face % 7 == 0:
            row["label"] = None
        self.run(
            "INSERT INTO prediction (face_id, head, release_id, label, value, low, high, confidence, probabilities,"
            " attributes) VALUES (:face, :task, :release, :label, :value, :low, :high, :confidence,"
            " cast(:p AS real[]), cast(:attributes AS jsonb))",
            **row, p=p.tolist(),
        )  # fmt: skip

    def shares(self, count):
        weights = np.exp(self.random.normal(0, 3, count))
        return (weights / weights.sum()).astype(np.float32)

    def embedding(self):
        found = self.random.normal(0, 1, 128)
        return "[" + ",".join(f"{x:.6f}" for x in found / np.linalg.norm(found)) + "]"

    def statements_of_people(self):
        self.run("INSERT INTO correction (release_id, kind, name, people) VALUES (2, 'name', 'Name 3', '{3}'),"
                 " (1, 'merge', NULL, '{2,0}'), (2, 'split', NULL, '{5,7}')")  # fmt: skip
        self.run("INSERT INTO correction_anchor SELECT 1, appearance_id, 0, media_id, 1, 1, 1, 2, 2, appearance_id,"
                 " person_id, person_id FROM appearance WHERE person_id = 3")  # fmt: skip
        self.run("INSERT INTO person_alike (first_person_id, second_person_id) VALUES (1, 3), (2, 4)")
        self.run("INSERT INTO regroup_proposal (release_id, reason, fingerprint, last_appearance_id)"
                 " VALUES (1, 'many', 'x', 1), (2, 'many', 'y', 1), (3, 'none', 'z', 0)")  # fmt: skip
        self.run("INSERT INTO regroup_change SELECT 2, appearance_id, person_id, 7, -1 FROM appearance"
                 " WHERE person_id = 5")  # fmt: skip


class OldDatabase:
    """A database that goes from version 0016 to the newest and back."""

    def __init__(self, url):
        self.url = url

    def fill(self):
        self._migrate(command.upgrade)
        engine = make_engine(self.url)
        with engine.begin() as connection:
            OldArchive(connection).write()
        engine.dispose()
        self._make_views()

    def go_back(self):
        engine = make_engine(self.url, search_path="public")
        with engine.connect() as connection:
            drop_views(connection)
            connection.commit()
        engine.dispose()
        self._migrate(command.downgrade)
        self._make_views()

    def run(self, query):
        engine = make_engine(self.url)
        with engine.begin() as connection:
            result = connection.execute(text(query))
            rows = [tuple(row) for row in result] if result.returns_rows else []
        engine.dispose()
        return rows

    def shown(self, release, keys):
        """Return all rows of the views, ordered by their keys, while a release is active."""
        engine = make_engine(self.url)
        with engine.connect() as connection:
            connection.execute(text("UPDATE release SET active = false WHERE active"))
            connection.execute(text("UPDATE release SET active = true WHERE name = :name"), {"name": release})
            found = {
                view: [dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {view} ORDER BY {key}"))]
                for view, key in keys.items()
            }
            connection.rollback()
        engine.dispose()
        return found

    def _migrate(self, step):
        engine = make_engine(self.url, search_path="public")
        with engine.connect() as connection:
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS facet"))
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public"))
            connection.commit()
            step(migrate.alembic_config(connection), "0016")
            connection.commit()
        engine.dispose()

    def _make_views(self):
        engine = make_engine(self.url)
        with engine.begin() as connection:
            connection.exec_driver_sql(OLD_VIEWS.replace("%", "%%"))
        engine.dispose()


@pytest.fixture
def old(database_url):
    """A database of version 0016 with rows."""
    engine = make_engine(database_url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS old WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE old"))
    engine.dispose()
    database = OldDatabase(engine.url.set(database="old").render_as_string(hide_password=False))
    database.fill()
    return database
