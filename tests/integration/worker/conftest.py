"""A database with one release and made media, for the tests of the ledger and what stands on it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sqlalchemy import text

from db.bulk.rows import allocate_ids, copy_rows
from db.engine import make_engine, session_factory
from models.branches import BranchSpec
from models.manifest import DETECTOR_FILE, TRUNK_FILE, Manifest, branch_file
from models.readings import interpret
from worker.analysis.results import DetectedFaces, UnitResult
from worker.analysis.store.face_rows import CompleteUnit, store_rows
from worker.analysis.store.rows import end_unit
from worker.ingest import FoundFile
from worker.ledger.releases import register_release
from worker.ledger.submission.job import Submission, SubmitCounts
from worker.ledger.submission.submit import submit
from worker.ledger.units import Lease
from worker.types import HeadRows, MediaInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.orm import Session, sessionmaker

    from worker.analysis.tracking.joining import Joined
    from worker.ledger.releases import ReleaseIds

HEADS = (
    BranchSpec(task="gender", kind="softmax", labels=("female", "male"), depths=("embedding",), abstain=0.6),
    BranchSpec(task="age", kind="age", labels=("20", "21", "22"), depths=("embedding",)),
    BranchSpec(task="ethnicity", kind="softmax", labels=("a", "b", "c"), depths=("embedding",)),
    BranchSpec(task="emotion", kind="softmax", labels=("happy", "sad"), depths=("embedding",)),
    BranchSpec(task="attributes", kind="multilabel", labels=("hat", "beard"), depths=("embedding",)),
)


def made_manifest(name: str, **files: str) -> Manifest:
    """Describe a release that cannot be loaded.

    Args:
        name: of the release.
        files: by ``detector``, ``trunk`` or task, what stands for its weights; releases share those that are alike.
    """
    names = {"detector": DETECTOR_FILE, "trunk": TRUNK_FILE} | {head.task: branch_file(head.task) for head in HEADS}
    hashes = {file: hashlib.sha256(files.get(part, part).encode()).hexdigest() for part, file in names.items()}
    return Manifest(name=name, branches=HEADS, files=hashes)


def answers(branch, logits):
    """Return the predictions of a head for some faces."""
    output = interpret(branch, torch.from_numpy(logits).float())
    numbers = [None if part is None else part.numpy() for part in (output.value, output.low, output.high)]
    abstains = None if output.abstains is None else output.abstains.numpy()
    codes = output.codes.numpy().astype(np.uint16)
    probabilities = output.probabilities.numpy()
    return HeadRows(branch.labels, probabilities, *numbers, abstains, codes, output.is_multi_label)


def made_result(branches, unit, frames, people=3, *, fps=2.0, at=0, seed=0):
    """Return the result of a unit under some heads.

    People side by side change at every tenth frame, and every ninth face is dropped.
    """
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(people * (1 + (at + frames) // 10), 128))
    parts = []
    for start in range(at, at + frames, 7):
        index = np.repeat(np.arange(start, min(start + 7, at + frames)), people)
        place, count = np.tile(np.arange(people), len(index) // people), len(index)
        embeddings = looks[index // 10 * people + place] + 3.0 * rng.normal(size=(count, 128)) / 128**0.5
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        faces = DetectedFaces(
            frame_index=index,
            at_seconds=index / fps,
            boxes=np.stack([150 * place, 9 + 0 * place, 150 * place + 80, 89 + 0 * place], 1).astype(np.float32),
            landmarks=np.zeros((count, 5, 2), np.float32),
            scores=np.full(count, 0.9, np.float32),
            quality=rng.random(count).astype(np.float32),
            dropped=tuple("profile" if n % 9 == 4 else None for n in range(count)),
            frame_size=(640, 360),
        )
        heads = {}
        for branch in branches:
            heads[branch.task] = answers(branch, rng.normal(size=(count, len(branch.labels))))
        parts.append(faces.inferred(embeddings.astype(np.float16).astype(np.float32), heads).stored(0, 0))
    info = MediaInfo(kind=unit.kind, format="made", width=640, height=360)
    cuts = tuple(n / fps for n in range(at, at + frames) if n % 10 == 0 and n)
    return UnitResult(unit=unit, info=info, frame_count=frames, cuts_seconds=cuts, faces=tuple(parts))


class TenMinutes:
    """Reports every video to be ten minutes long."""

    def probe(self, location: str, kind: str) -> MediaInfo:
        return MediaInfo(kind=kind, format="made", width=640, height=360, duration_seconds=600.0)


@dataclass
class Archive:
    """A release, a job and as many analyses as a test asks for."""

    sessions: sessionmaker[Session]
    ids: ReleaseIds
    job_id: int
    items: int = 0

    manifest = staticmethod(made_manifest)

    @property
    def release_id(self) -> int:
        return self.ids.release_id

    def register(self, name: str = "other", **files: str) -> ReleaseIds:
        """Register another release; without ``files`` that differ it is the same one."""
        with self.sessions.begin() as session:
            return register_release(session, made_manifest(name, **files))

    def add(self, *, units: int = 1, kind: str = "image") -> int:
        """Add a file of so many units to the job; returns its analysis."""
        self.items += 1
        with self.sessions.begin() as session:
            media_id = session.execute(
                text("""INSERT INTO media_file (sha256, uri, location, kind)
                        VALUES (:sha, :uri, :uri, :kind) RETURNING media_id"""),
                {"sha": f"{self.items:064x}", "uri": f"/media/{self.items}", "kind": kind},
            ).scalar_one()
            analysis_id = session.execute(
                text("""INSERT INTO analysis (media_id, finder_id, sampling)
                        VALUES (:media, :finder, '2/s') RETURNING analysis_id"""),
                {"media": media_id, "finder": self.ids.finder_id},
            ).scalar_one()
            session.execute(
                text("""INSERT INTO unit (analysis_id, release_id, ordinal)
                        SELECT :id, :release, n FROM generate_series(0, :last) n"""),
                {"id": analysis_id, "release": self.release_id, "last": units - 1},
            )
            session.execute(
                text("INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id) VALUES (:j, :n, :u, :m, :a)"),
                {"j": self.job_id, "n": self.items, "u": f"/media/{self.items}", "m": media_id, "a": analysis_id},
            )
        return int(analysis_id)

    @staticmethod
    def files(first: int, count: int, kind: str = "image") -> Iterator[FoundFile]:
        """Name files that are nowhere; the same number is the same file."""
        for number in range(first, first + count):
            sha256 = hashlib.sha256(f"{kind} {number}".encode()).hexdigest()
            yield FoundFile(f"/{kind}/{number}", Path(f"/{kind}/{number}"), sha256, kind, "made", 1000)

    def submit(self, files: Iterable[FoundFile], **options: object) -> SubmitCounts:
        """Submit files as a job of their own."""
        wanted = {"name": "made", "release": self.ids, "frames_per_second": 2.0, "unit_seconds": 60.0}
        return submit(self.sessions, files, Submission(**wanted | options), TenMinutes())

    def lease(self, owner: str = "one", *, seconds: float = 60.0, max_attempts: int = 3) -> Lease:
        return Lease(owner=owner, release_id=self.ids.release_id, seconds=seconds, max_attempts=max_attempts)

    def store(self, session: Session, result: UnitResult, joined: Joined | None = None) -> list[int]:
        """Store a leased unit as the writer does; returns the numbers of its faces."""
        end_unit(session, result)
        return store_rows(session, [CompleteUnit(result, joined)], self.ids)

    filled = staticmethod(made_result)

    def job(self) -> dict[str, int]:
        """Read the job's sums from the view that users read."""
        with self.sessions.begin() as session:
            row = session.execute(
                text("SELECT submitted, done, rejected, quarantined, pending FROM jobs WHERE job_id = :id"),
                {"id": self.job_id},
            ).one()
        return dict(row._mapping)

    def expire_leases(self) -> None:
        with self.sessions.begin() as session:
            session.execute(text("UPDATE unit SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))


@pytest.fixture
def archive(clean_database: str) -> Iterator[Archive]:
    engine = make_engine(clean_database)
    sessions = session_factory(engine)
    with sessions.begin() as session:
        ids = register_release(session, made_manifest("test"))
        job_id = session.execute(
            text("INSERT INTO job (name, options) VALUES ('test', '{}') RETURNING job_id")
        ).scalar_one()
    yield Archive(sessions, ids, int(job_id))
    engine.dispose()


PLACES = 6  # faces side by side in a frame
SIDE_PIXELS = 100.0


@dataclass
class Seen:
    """A face of a person at a place of a file, as every analysis of the file finds it again."""

    somebody: int
    at_seconds: float
    place: int
    quality: float
    embedding: np.ndarray


@dataclass
class Crowd:
    """Made people in made files, already analysed; writes what the stages before identification would."""

    session: Session
    release: ReleaseIds
    random: np.random.Generator
    centres: np.ndarray
    files: dict[int, list[Seen]]
    noise: float = 0.45

    @property
    def release_id(self) -> int:
        return self.release.release_id

    @property
    def trunk_id(self) -> int:
        return self.release.trunk_id

    @classmethod
    def of(cls, session: Session, release: ReleaseIds, seed: int = 3, people: int = 8) -> Crowd:
        random = np.random.default_rng(seed)
        centres = random.standard_normal((people, 128))
        return cls(session, release, random, centres / np.linalg.norm(centres, axis=1, keepdims=True), {})

    def register(self, name: str = "other", **files: str) -> ReleaseIds:
        """Register another release; without ``files`` that differ it is the same one."""
        return register_release(self.session, made_manifest(name, **files))

    def look(self, somebody: int, noise: float | None = None) -> np.ndarray:
        """The embedding of an image of a person: two of one person have a cosine of about 0.8, of two people 0."""
        noisy = self.random.standard_normal(128)
        seen = self.centres[somebody] + (self.noise if noise is None else noise) * noisy / np.linalg.norm(noisy)
        return (seen / np.linalg.norm(seen)).astype(np.float32)

    def photo(self, *somebody: int, quality: float = 0.8) -> int:
        """A photo of some people, side by side; returns the file."""
        return self.add([Seen(one, 0.0, place, quality, self.look(one)) for place, one in enumerate(somebody)])

    def film(self, *somebody: int) -> int:
        """Add a video in which they are in view one after the other; return the file."""
        return self.add([Seen(one, 10.0 * n, n % PLACES, 0.8, self.look(one)) for n, one in enumerate(somebody)])

    def add(self, seen: list[Seen]) -> int:
        media_id = self.session.execute(
            text("""INSERT INTO media_file (sha256, uri, location, kind)
                    SELECT encode(sha256(n::text::bytea), 'hex'), '/crowd/' || n, '/crowd/' || n, 'video'
                    FROM nextval('facet.person_revision') n RETURNING media_id""")
        ).scalar_one()
        self.files[int(media_id)] = seen
        self.analyse(int(media_id))
        return int(media_id)

    def analyse(self, media_id: int, *, jitter: float = 0.0, release: ReleaseIds | None = None) -> None:
        """Analyse a file, once more if it was: its faces get new ids, and boxes and times that differ a little."""
        release = release or self.release
        session, seen = self.session, self.files[media_id]
        session.execute(
            text("UPDATE analysis SET is_current = false WHERE media_id = :m AND finder_id = :f"),
            {"m": media_id, "f": release.finder_id},
        )
        analysis_id, unit_id = session.execute(
            text("""WITH a AS (INSERT INTO analysis (media_id, finder_id, sampling, state, finished_at, is_current,
                                                     sample_interval_seconds)
                               SELECT :m, :f, count(*) || '/s', 'done', now(), true, 0.5 FROM analysis
                               WHERE media_id = :m AND finder_id = :f RETURNING analysis_id),
                         u AS (INSERT INTO unit (analysis_id, release_id, state) SELECT analysis_id, :r, 'done' FROM a
                               RETURNING analysis_id, unit_id)
                    SELECT analysis_id, unit_id FROM u"""),
            {"m": media_id, "f": release.finder_id, "r": release.release_id},
        ).one()
        faces = allocate_ids(session, "face", len(seen))
        ids = allocate_ids(session, "appearance", len(seen))
        key = (analysis_id, media_id, release.trunk_id)
        rows = []
        for n, one in enumerate(seen):
            x, y = one.place * 2 * SIDE_PIXELS + self.random.uniform(0, jitter, 2)
            at = one.at_seconds + self.random.uniform(0, 0.4 if jitter else 0)
            box = (x, y, x + SIDE_PIXELS, y + SIDE_PIXELS)
            rows.append((faces[n], analysis_id, unit_id, n, at, *box, bytes(20), 0.9, one.quality))
        columns = ("face_id", "analysis_id", "unit_id", "frame_index", "at_seconds", "x1", "y1", "x2", "y2",
                   "landmarks", "detection_score", "quality")  # fmt: skip
        columns_of = ("appearance_id", "analysis_id", "media_id", "trunk_id", "ordinal", "start_seconds",
                      "end_seconds", "face_count", "best_face_id", "quality", "embedding")  # fmt: skip
        times = [(row[4], row[4] + 1.0) for row in rows]
        copy_rows(
            session,
            "appearance",
            columns_of,
            [
                (ids[n], *key, n, *times[n], 1, faces[n], one.quality, self.turned(one, release))
                for n, one in enumerate(seen)
            ],
        )
        copy_rows(session, "face", columns, rows)
        placed = [(faces[n], release.trunk_id, ids[n], self.turned(one, release)) for n, one in enumerate(seen)]
        copy_rows(session, "face_embedding", ("face_id", "trunk_id", "appearance_id", "embedding"), placed)

    def embed(self, media_id: int, release: ReleaseIds) -> None:
        """Embed the faces of a file under the trunk of another release with the same finder; each is an appearance."""
        session, seen = self.session, self.files[media_id]
        found = session.execute(
            text("""SELECT face_id, analysis_id, at_seconds FROM face JOIN analysis USING (analysis_id)
                    WHERE media_id = :m AND finder_id = :f AND is_current ORDER BY frame_index"""),
            {"m": media_id, "f": release.finder_id},
        ).all()
        ids = allocate_ids(session, "appearance", len(seen))
        columns = ("appearance_id", "analysis_id", "media_id", "trunk_id", "ordinal", "start_seconds", "end_seconds",
                   "face_count", "best_face_id", "quality", "embedding")  # fmt: skip
        rows = [
            (ids[n], face.analysis_id, media_id, release.trunk_id, n, face.at_seconds, face.at_seconds + 1.0, 1,
             face.face_id, one.quality, self.turned(one, release))
            for n, (one, face) in enumerate(zip(seen, found, strict=True))
        ]  # fmt: skip
        copy_rows(session, "appearance", columns, rows)
        placed = [(face.face_id, release.trunk_id, ids[n], rows[n][-1]) for n, face in enumerate(found)]
        copy_rows(session, "face_embedding", ("face_id", "trunk_id", "appearance_id", "embedding"), placed)

    def turned(self, seen: Seen, release: ReleaseIds) -> np.ndarray:
        """The embedding of a face under the trunk of a release: those of two trunks are unrelated."""
        return np.roll(seen.embedding, 7 * (release.trunk_id - self.trunk_id))

    def who(self, release: ReleaseIds | None = None) -> dict[tuple[int, int], int]:
        """The person of every appearance that counts under a release, by file and number in it."""
        release = release or self.release
        rows = self.session.execute(
            text("""SELECT media_id, ordinal, person_id FROM appearance JOIN analysis USING (analysis_id, media_id)
                    WHERE is_current AND finder_id = :f AND trunk_id = :t ORDER BY 1, 2"""),
            {"f": release.finder_id, "t": release.trunk_id},
        )
        return {(row.media_id, row.ordinal): row.person_id for row in rows}

    def ids(self, person_id: int, release: ReleaseIds | None = None) -> list[int]:
        """The appearances of a person that count under a release."""
        return list(
            self.session.scalars(
                text("""SELECT appearance_id FROM appearance JOIN analysis USING (analysis_id)
                        WHERE is_current AND person_id = :p AND trunk_id = :t ORDER BY 1"""),
                {"p": person_id, "t": (release or self.release).trunk_id},
            )
        )

    def names(self) -> dict[int, str]:
        rows = self.session.execute(text("SELECT person_id, name FROM person WHERE name IS NOT NULL ORDER BY 1"))
        return {row.person_id: row.name for row in rows}


@pytest.fixture
def crowd(archive: Archive) -> Iterator[Crowd]:
    with archive.sessions() as session:
        yield Crowd.of(session, archive.ids)
