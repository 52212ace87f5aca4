"""A small archive, made by hand: two films, three photographs, and files that came to nothing."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
from sqlalchemy import text

from db.base import Base
from db.bulk.rows import allocate_ids, copy_rows
from db.engine import make_engine, session_factory
from db.schema.tables import Analysis, Appearance, Correction, Job, JobItem, MediaFile, Person, Release, Unit

EMOTIONS = ("neutral", "happiness", "sadness")
BRANCHES = [{"task": "gender", "labels": ["female", "male"]}, {"task": "emotion", "labels": list(EMOTIONS)}]

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
        self.old = self.add(Release(fingerprint="0", name="old", weights_sha256="0" * 64, code_version="1"))
        self.release = self.add(
            Release(
                fingerprint="1",
                name="new",
                weights_sha256="1" * 64,
                code_version="2",
                active=True,
                metrics={"age": {"mean_absolute_error_years": 5.5}},
                manifest={"branches": BRANCHES},
            )
        )
        self.job = self.add(Job(name="archive"))
        self.items = 0

    def add(self, row):
        self.session.add(row)
        self.session.flush()
        return row

    def person(self, name):
        if name is not None and name not in self.people:
            self.people[name] = self.add(Person(name=name, release_id=self.release.release_id))
        return self.people.get(name)

    def file(self, uri, state, reason=None):
        media = MediaFile(
            uri=uri, sha256=f"{self.items:064x}", location=uri, kind="image" if uri.endswith("jpg") else "video"
        )
        finished = None if state == "pending" else text("now()")
        analysis = Analysis(
            media=media,
            release=self.release,
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
        unit = self.add(Unit(analysis=analysis, state=unit_state, finished_at=finished))
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
                release_id=analysis.release_id,
                ordinal=ordinal,
                start_seconds=start,
                end_seconds=end,
                face_count=len(times),
                age=age,
                gender=gender,
                gender_confidence=0.55 if gender == "unknown" else 0.9,
                ethnicity="unknown",
                ethnicity_confidence=0.4,
                emotion="happiness",
                emotion_confidence=0.6,
                emotions={"neutral": 0.3, "happiness": 0.6, "sadness": 0.1},
                attributes={"Eyeglasses": 0.2},
                quality=0.5,
                embedding=self.embedding(name),
                person_id=person.person_id if person else None,
            )
        )
        faces = [self.face(unit, appearance, place, at) for place, at in enumerate(times)]
        for face_id, at in zip(faces, times, strict=True):
            self.predictions(face_id, gender, age, at)
        appearance.best_face_id = faces[0]
        analysis.face_count += len(faces)

    def face(self, unit, appearance, place, at, dropped=None):
        (face_id,) = allocate_ids(self.session, "face", 1)
        analysis = unit.analysis
        row = {
            "face_id": face_id,
            "analysis_id": analysis.analysis_id,
            "unit_id": unit.unit_id,
            "media_id": analysis.media_id,
            "release_id": analysis.release_id,
            "frame_index": int(at * 25),
            "at_seconds": float(at),
            "face_no": appearance.ordinal if appearance else 99,
            "x1": 1.0,
            "y1": 2.0,
            "x2": 60.0 + place,
            "y2": 80.0,
            "landmarks": [float(part) for part in range(10)],
            "detection_score": 0.9,
            "quality": 0.5,
            "dropped_reason": dropped,
            "appearance_id": appearance.appearance_id if appearance else None,
            "embedding": None if dropped else self.embedding(appearance.person_id),
        }
        copy_rows(self.session, "face", list(row), [list(row.values())])
        return face_id

    def predictions(self, face_id, gender, age, at):
        release = self.release.release_id
        columns = ("face_id", "head", "release_id", "label", "value", "low", "high", "confidence", "probabilities")
        sure = 0.55 if gender == "unknown" else 0.9
        happy = min(0.4 + at / 10, 0.9)
        emotions = [0.9 - happy, happy, 0.1]
        rows = [
            (face_id, "age", release, None, age + at, age - 5, age + 5, None, [0.5, 0.5]),
            (face_id, "gender", release, gender, None, None, None, sure, [sure, 1 - sure]),
            (
                face_id,
                "emotion",
                release,
                EMOTIONS[int(np.argmax(emotions))],
                None,
                None,
                None,
                max(emotions),
                emotions,
            ),
        ]
        copy_rows(self.session, "prediction", columns, rows)
        attributes = (face_id, "attributes", release, {"Eyeglasses": 0.2 + at / 10})
        copy_rows(self.session, "prediction", ("face_id", "head", "release_id", "attributes"), [attributes])


def write_archive(session):
    archive = Archive(session)
    units = {uri: archive.file(uri, "done") for uri in dict.fromkeys(row[0] for row in APPEARANCES)}
    for ordinal, row in enumerate(APPEARANCES):
        archive.appearance(units[row[0]], ordinal, row)
    first = units[APPEARANCES[0][0]]
    archive.face(first, None, 0, 3.0, dropped="too_small")
    first.analysis.face_count += 1
    archive.file(EMPTY, "done").notes = ["pages 2 to 3 of 3 were not analysed"]
    archive.file(QUARANTINED[0], "quarantined", QUARANTINED[1])
    archive.file(WAITING, "pending")
    ada = archive.person("Ada")
    said = Correction(release_id=ada.release_id, kind="name", name="Ada", people=[ada.person_id], reason="a caption")
    archive.add(said)
    refused = archive.add(MediaFile(uri=REFUSED[0], reason=REFUSED[1]))
    archive.item(REFUSED[0], refused)
    archive.item(APPEARANCES[0][0] + " again", first.analysis.media, first.analysis)


@pytest.fixture(scope="module")
def archive_url(database_url):
    """The address of the run's database, holding the small archive; tests leave it as it is."""
    engine = make_engine(database_url)
    tables = ", ".join(str(table) for table in Base.metadata.sorted_tables)
    with session_factory(engine).begin() as session:
        session.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
        write_archive(session)
    engine.dispose()
    return database_url
