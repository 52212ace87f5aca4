"""A small archive, made by hand: two videos, three images, and files that were rejected."""

from __future__ import annotations

from datetime import datetime
from zlib import crc32

import numpy as np
import pytest
from sqlalchemy import text

from db.base import Base
from db.bulk import codes
from db.bulk.rows import allocate_ids, copy_rows
from db.engine import make_engine, session_factory
from db.schema.tables import (
    Analysis,
    Appearance,
    AppearancePrediction,
    Correction,
    Job,
    JobItem,
    Layer,
    MediaFile,
    Person,
    PersonEmbedding,
    Release,
    ReleaseReading,
    SceneCut,
    Unit,
)

EMOTIONS = ("neutral", "happiness", "sadness")
# task, kind, labels, temperature
HEADS = (
    ("age", "age", ("20", "21"), 1.0),
    ("gender", "softmax", ("female", "male"), 2.0),
    ("ethnicity", "softmax", ("a", "b", "c"), 1.0),
    ("emotion", "softmax", EMOTIONS, 0.5),
    ("attributes", "multilabel", ("Smiling", "Eyeglasses"), 4.0),
)

LANDMARKS = np.arange(10.0).reshape(1, 5, 2)

# file, person or None, gender, age of the first face, start and end in seconds
APPEARANCES = (
    ("/archive/1968/parade.mp4", "Ada", "female", 71.0, 0.0, 4.0),
    ("/archive/1968/parade.mp4", "Bo", "male", 35.0, 2.0, 6.0),
    ("/archive/1968/parade.mp4", None, "unknown", 20.0, 61.0, 61.0),
    ("/archive/1975/wedding.mp4", "Ada", "female", 78.0, 1.0, 2.0),
    ("/archive/1975/wedding.mp4", "Eve", "female", 30.0, 1.5, 3.0),
    ("/archive/1975/group.jpg", "Ada", "female", 77.0, 0.0, 0.0),
    ("/archive/1975/group.jpg", "Bo", "male", 41.0, 0.0, 0.0),
    ("/archive/1975/group.jpg", "Eve", "female", 31.0, 0.0, 0.0),
)
EMPTY = "/archive/1975/landscape.jpg"
REFUSED = ("/archive/1968/broken.mp4", "truncated: the container ends in the middle of a frame; copy it again")
QUARANTINED = ("/archive/1968/evil.mp4", "crashed: killed its decoder 3 times")
WAITING = "/archive/1975/later.mp4"


class Archive:
    """Writes the rows, as the worker would."""

    def __init__(self, session):
        self.session = session
        self.random = np.random.default_rng(7)
        self.people = {}
        self.faces = np.zeros(0)
        self.old = self.make_release("old")
        self.release = self.make_release("new", active=True, metrics={"age": {"mean_absolute_error_years": 5.5}})
        self.readings = {
            row.task: row.reading_id
            for row in session.query(ReleaseReading).filter_by(release_id=self.release.release_id)
        }
        for task in ("age", "gender"):  # read with other thresholds
            head = session.query(Layer).filter_by(fingerprint=f"head new {task}").one()
            self.layer("reading", f"later {task}", head.layer_id, task=task)
        self.job = self.add(Job(name="archive"))
        self.items = 0

    def add(self, row):
        self.session.add(row)
        self.session.flush()
        return row

    def layer(self, kind, name, parent=None, **facts):
        row = Layer(kind=kind, fingerprint=f"{kind} {name}", parent_id=parent, **facts)
        return self.add(row).layer_id

    def make_release(self, name, **facts):
        finder = self.layer("finder", name)
        trunk = self.layer("trunk", name, finder)
        release = self.add(
            Release(
                fingerprint=name, name=name, weights_sha256="1" * 64, code_version="2", finder_id=finder,
                trunk_id=trunk, **facts
            )
        )  # fmt: skip
        for task, kind, labels, temperature in HEADS:
            head = self.layer("head", f"{name} {task}", trunk, task=task, labels=list(labels))
            spec = {"kind": kind, "temperature": temperature}
            reading = self.layer("reading", f"{name} {task}", head, task=task, spec=spec)
            self.add(ReleaseReading(release_id=release.release_id, task=task, head_id=head, reading_id=reading))
        return release

    def person(self, name):
        if name is not None and name not in self.people:
            self.people[name] = self.add(Person(name=name))
            key = {"person_id": self.people[name].person_id, "trunk_id": self.release.trunk_id}
            self.add(PersonEmbedding(**key))
        return self.people.get(name)

    def file(self, uri, state, reason=None):
        media = MediaFile(
            uri=uri, sha256=f"{self.items:064x}", location=uri, kind="image" if uri.endswith("jpg") else "video"
        )
        if media.kind == "image":
            media.taken_at, media.camera, media.tags = datetime(1975, 5, 3, 14), "Leica M4", {"creator": "Eve"}  # noqa: DTZ001
        finished = None if state == "pending" else text("now()")
        analysis = Analysis(
            media=media,
            finder_id=self.release.finder_id,
            sampling="2/s",
            state=state,
            reason=reason,
            finished_at=finished,
            is_current=state == "done",
            frame_count=10,
            sample_interval_seconds=0.5 if media.kind == "video" else None,
        )
        self.add(analysis)
        unit_state = "pending" if state == "pending" else state
        unit = self.add(
            Unit(analysis=analysis, release_id=self.release.release_id, state=unit_state, finished_at=finished)
        )
        self.item(uri, media, analysis)
        return unit

    def item(self, uri, media, analysis=None):
        self.items += 1
        analysis_id = analysis.analysis_id if analysis else None
        self.add(JobItem(job=self.job, item_no=self.items, uri=uri, media_id=media.media_id, analysis_id=analysis_id))

    def embedding(self, name):
        base = np.random.default_rng(crc32(str(name).encode())).standard_normal(128)
        noisy = base + 0.2 * self.random.standard_normal(128)
        return (noisy / np.linalg.norm(noisy)).astype(np.float32)

    def appearance(self, unit, ordinal, row):
        _, name, gender, age, start, end = row
        times = np.arange(start, end + 0.01, 0.5)
        analysis = unit.analysis
        person = self.person(name)
        appearance = self.add(
            Appearance(
                analysis_id=analysis.analysis_id,
                media_id=analysis.media_id,
                trunk_id=self.release.trunk_id,
                ordinal=ordinal,
                start_seconds=start,
                end_seconds=end,
                face_count=len(times),
                quality=0.5,
                embedding=self.embedding(name),
                person_id=person.person_id if person else None,
            )
        )
        self.answers(appearance, gender, age)
        faces = [self.face(unit, appearance, place, at) for place, at in enumerate(times)]
        for face_id, at in zip(faces, times, strict=True):
            self.predictions(face_id, gender, age, at)
        appearance.best_face_id = faces[0]
        analysis.face_count += len(faces)

    def answers(self, appearance, gender, age):
        emotions = {"neutral": 0.3, "happiness": 0.6, "sadness": 0.1}
        [glasses] = codes.to_bytes(codes.encode_probabilities(np.array([[0.1, 0.2]])))
        found = {
            "age": {"value": age},
            "gender": {"label": gender, "confidence": 0.55 if gender == "unknown" else 0.9},
            "ethnicity": {"label": "unknown", "confidence": 0.4},
            "emotion": {"label": "happiness", "confidence": 0.6, "shares": emotions},
            "attributes": {"scores": glasses},
        }
        for task, answer in found.items():
            key = {"appearance_id": appearance.appearance_id, "reading_id": self.readings[task]}
            self.add(AppearancePrediction(**key, **answer))

    def face(self, unit, appearance, place, at, dropped=None):
        (face_id,) = allocate_ids(self.session, "face", 1)
        analysis = unit.analysis
        box = np.array([[1.0, 2.0, 60.0 + place, 80.0]])
        row = {
            "face_id": face_id,
            "analysis_id": analysis.analysis_id,
            "unit_id": unit.unit_id,
            "frame_index": int(at * 25),
            "at_seconds": float(at),
            "face_no": appearance.ordinal if appearance else 99,
            "x1": 1.0,
            "y1": 2.0,
            "x2": 60.0 + place,
            "y2": 80.0,
            "landmarks": codes.to_bytes(codes.encode_landmarks(LANDMARKS, box))[0],
            "detection_score": 0.9,
            "quality": 0.5,
            "dropped_reason": dropped,
        }
        copy_rows(self.session, "face", list(row), [list(row.values())])
        if appearance:
            columns = ("face_id", "trunk_id", "appearance_id", "embedding")
            embedding = self.embedding(appearance.person_id)
            key = (face_id, self.release.trunk_id, appearance.appearance_id)
            copy_rows(self.session, "face_embedding", columns, [(*key, embedding)])
        return face_id

    def predictions(self, face_id, gender, age, at):
        sure = 0.55 if gender == "unknown" else 0.9
        happy = min(0.4 + at / 10, 0.9)
        emotions = [0.9 - happy, happy, 0.1]
        self.prediction(face_id, "age", [0.5, 0.5], value=age + at, low=age - 5, high=age + 5)
        self.prediction(face_id, "gender", [sure, 1 - sure], label=gender, confidence=sure)
        best = EMOTIONS[int(np.argmax(emotions))]
        self.prediction(face_id, "emotion", emotions, label=best, confidence=max(emotions))
        self.prediction(face_id, "attributes", [0.1, 0.2 + at / 10])

    def prediction(self, face_id, task, probabilities, **answer):
        _, kind, _, temperature = next(head for head in HEADS if head[0] == task)
        p = np.clip(np.array([probabilities]), 0, 1)
        with np.errstate(divide="ignore"):
            logits = temperature * (np.log(p / (1 - p)) if kind == "multilabel" else np.log(p))
        encode = codes.encode_multilabel if kind == "multilabel" else codes.encode_softmax
        [scores] = codes.to_bytes(encode(logits))
        row = {"face_id": face_id, "reading_id": self.readings[task], "scores": scores, **answer}
        copy_rows(self.session, "prediction", list(row), [list(row.values())])


def write_archive(session):
    archive = Archive(session)
    units = {uri: archive.file(uri, "done") for uri in dict.fromkeys(row[0] for row in APPEARANCES)}
    for ordinal, row in enumerate(APPEARANCES):
        archive.appearance(units[row[0]], ordinal, row)
    first = units[APPEARANCES[0][0]]
    for at in (0.0, 4.5):
        archive.add(SceneCut(unit_id=first.unit_id, analysis_id=first.analysis_id, at_seconds=at))
    archive.face(first, None, 0, 3.0, dropped="too_small")
    first.analysis.face_count += 1
    archive.file(EMPTY, "done").notes = ["pages 2 to 3 of 3 were not analysed"]
    archive.file(QUARANTINED[0], "quarantined", QUARANTINED[1])
    archive.file(WAITING, "pending")
    ada = archive.person("Ada")
    said = Correction(
        release_id=archive.release.release_id, kind="name", name="Ada", people=[ada.person_id], reason="a caption"
    )
    archive.add(said)
    refused = archive.add(MediaFile(uri=REFUSED[0], reason=REFUSED[1]))
    archive.item(REFUSED[0], refused)
    archive.item(APPEARANCES[0][0] + " again", first.analysis.media, first.analysis)


@pytest.fixture(scope="module")
def archive_url(database_url):
    """The address of the run's database, holding the small archive; tests leave it as it is."""
    return _with_archive(database_url)


@pytest.fixture
def fresh_archive_url(database_url):
    """The address of the run's database, holding the small archive, for one test that changes it."""
    return _with_archive(database_url)


def _with_archive(url):
    engine = make_engine(url)
    tables = ", ".join(str(table) for table in Base.metadata.sorted_tables)
    with session_factory(engine).begin() as session:
        session.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
        write_archive(session)
    engine.dispose()
    return url
