"""A real archive under made releases: the shipped one, and variants of it that share some of its layers."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from sqlalchemy import text

from models import manifest as manifests
from models.branches import Branch, BranchSpec
from models.release import DEFAULT, write_release
from models.weights import read_weights
from worker.analysis.runner import Worker, decode_limits
from worker.cli.analyze import submit_paths
from worker.cli.demo import build_photos
from worker.config import Settings
from worker.ledger.releases import register_release
from worker.ledger.submission.job import Submission
from worker.reprocess.batches.restore import MediaAccess
from worker.reprocess.request import ReprocessRequest, write_job
from worker.reprocess.runner import Reprocessor
from worker.storage.database import Database, open_database
from worker.storage.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from models.manifest import Manifest
    from worker.ledger.releases import ReleaseIds

    Weights = dict[str, dict[str, Tensor]]

AGE = BranchSpec(task="age", kind="age", labels=tuple(map(str, range(117))), depths=("embedding",))
KEPT = ("gender", "emotion", "emotion7", "attributes")  # appearances aggregate all but emotion7

# One row a face and task; keys are places, so that rows of two databases can be compared.
ROWS = """
    SELECT m.uri, f.frame_index, f.face_no, l.task, p.label, p.value, p.low, p.high, p.confidence,
           (SELECT o.scores FROM prediction o JOIN layer h ON h.layer_id = o.reading_id
            WHERE o.face_id = f.face_id AND h.parent_id = l.parent_id AND o.scores IS NOT NULL LIMIT 1) AS scores
    FROM face f JOIN analysis a USING (analysis_id) JOIN media_file m USING (media_id)
    JOIN prediction p USING (face_id) JOIN layer l ON l.layer_id = p.reading_id
    WHERE a.is_current AND l.layer_id = ANY (:readings) ORDER BY 1, 2, 3, 4"""
FACES = """
    SELECT m.uri, f.frame_index, f.face_no, f.dropped_reason, f.x1, f.y1, f.x2, f.y2, f.quality,
           cast(e.embedding AS real[]) AS embedding, s.ordinal
    FROM face f JOIN analysis a USING (analysis_id) JOIN media_file m USING (media_id)
    LEFT JOIN face_embedding e ON e.face_id = f.face_id AND e.trunk_id = :trunk
    LEFT JOIN appearance s USING (appearance_id)
    WHERE a.is_current AND a.finder_id = :finder ORDER BY 1, 2, 3"""
APPEARANCES = """
    SELECT m.uri, s.ordinal, s.start_seconds, s.end_seconds, s.face_count, s.quality, l.task, p.label, p.value, p.low,
           p.high, p.confidence, p.shares, p.scores, cast(s.embedding AS real[]) AS embedding
    FROM appearance s JOIN analysis a USING (analysis_id, media_id) JOIN media_file m USING (media_id)
    LEFT JOIN appearance_prediction p ON p.appearance_id = s.appearance_id AND p.reading_id = ANY (:readings)
    LEFT JOIN layer l ON l.layer_id = p.reading_id
    WHERE a.is_current AND s.trunk_id = :trunk ORDER BY 1, 2, l.task"""


def make_release(folder: Path, name: str, change: Callable[[Manifest, Weights], Manifest] | None = None) -> Path:
    """Write a release of the shipped weights and an age branch on the embedding, changed by a function."""
    shipped = manifests.read_manifest(DEFAULT)
    files = (manifests.DETECTOR_FILE, manifests.TRUNK_FILE, *map(manifests.branch_file, KEPT))
    weights = {file: read_weights(DEFAULT / file, shipped.files[file]) for file in files}
    torch.manual_seed(5)
    weights[manifests.branch_file("age")] = Branch(AGE, shipped.layout).state_dict()
    branches = (*(spec for spec in shipped.branches if spec.task in KEPT), AGE)
    manifest = replace(shipped, name=name, branches=branches, files={})
    if change is not None:
        manifest = change(manifest, weights)
    write_release(folder / name, manifest, weights)
    return folder / name


def with_branch(manifest: Manifest, task: str, **changes: Any) -> Manifest:
    branches = tuple(replace(spec, **changes) if spec.task == task else spec for spec in manifest.branches)
    return replace(manifest, branches=branches)


def nudge(weights: Weights, file: str, by: float = 0.02) -> None:
    """Change all weights of a file a little, as training on would."""
    random = torch.Generator().manual_seed(7)
    weights[file] = {
        name: (one.float() + by * one.float().std() * torch.randn(one.shape, generator=random)).to(one.dtype)
        if one.is_floating_point() and one.dim() > 1
        else one
        for name, one in weights[file].items()
    }


class Folders:
    """Folders of releases by their number."""

    def __init__(self) -> None:
        self.paths: dict[int, Path] = {}

    @contextmanager
    def open(self, release_id: int) -> Iterator[Path]:
        yield self.paths[release_id]


@dataclass
class Lab:
    """An archive, and what is needed to analyse and to reprocess it."""

    settings: Settings
    database: Database
    media: Path
    folders: Folders

    def ids(self, folder: Path) -> ReleaseIds:
        """Register a release."""
        with self.database.sessions.begin() as session:
            found = register_release(session, manifests.read_manifest(folder))
        self.folders.paths[found.release_id] = folder
        return found

    def analyse(self, folder: Path, *files: str) -> ReleaseIds:
        """Analyse files under a release, as `facet analyze` does."""
        config = self.settings.model_copy(update={"release": folder})
        ids = self.ids(folder)
        submission = Submission(name="made", release=ids, frames_per_second=2.0, unit_seconds=config.unit_seconds)
        paths = [str(self.media / file) for file in files] or [str(self.media)]
        submit_paths(config, self.database, paths, submission)
        self.work(folder)
        return ids

    def work(self, folder: Path) -> None:
        """Analyse what is due under a release."""
        from models.release import load_release

        config = self.settings.model_copy(update={"release": folder})
        worker = Worker(config, self.database, load_release(folder, device="cpu"))
        worker.drain(threading.Event())
        worker.identifier.finish()

    def reprocessor(self, **settings: object) -> Reprocessor:
        config = self.settings.model_copy(update=settings)
        return Reprocessor(
            config, self.database.sessions, self.folders, MediaAccess(Sources(), decode_limits(config), "pyav")
        )

    def reprocess(self, ids: ReleaseIds, **limits: Any) -> dict[str, Any]:
        """Fill in what a release lacks; return the job's row in the view, and its faces by way."""
        with self.database.sessions.begin() as session:
            job_id = write_job(session, ReprocessRequest(release_id=ids.release_id, **limits), "again")
        self.drain(job_id)
        return self.job(job_id)

    def drain(self, job_id: int, seconds: float = 60.0) -> None:
        """Work until a job has ended: a batch that failed waits for its next attempt."""
        reprocessor, until = self.reprocessor(), time.monotonic() + seconds
        while self.job(job_id)["finished_at"] is None and time.monotonic() < until:
            reprocessor.drain(threading.Event(), jobs=[job_id])
            time.sleep(0.1)

    def job(self, job_id: int) -> dict[str, Any]:
        row = self.ask("SELECT * FROM jobs WHERE job_id = :id", id=job_id)[0]._mapping
        assert row["submitted"] == sum(row[n] for n in ("done", "rejected", "quarantined", "cancelled", "pending"))
        ways = self.ask("SELECT way, sum(face_count) FROM unit WHERE job_id = :id GROUP BY way", id=job_id)
        errors = self.ask("SELECT last_error FROM unit WHERE job_id = :id AND last_error IS NOT NULL", id=job_id)
        return {**row, "ways": {way: int(count) for way, count in ways}, "errors": [one[0] for one in errors]}

    def ask(self, statement: str, **values: object) -> list[Any]:
        with self.database.sessions.begin() as session:
            return list(session.execute(text(statement), values).all())

    def rows(self, ids: ReleaseIds, statement: str, tasks: Mapping[str, int] | None = None) -> list[Any]:
        readings = list((tasks or ids.readings).values())
        values = {"readings": readings, "trunk": ids.trunk_id, "finder": ids.finder_id}
        return self.ask(statement, **{name: value for name, value in values.items() if f":{name}" in statement})

    def counts(self) -> dict[str, int]:
        tables = ("face", "face_embedding", "appearance", "prediction", "appearance_prediction", "person", "analysis")
        return {table: self.ask(f"SELECT count(*) FROM {table}")[0][0] for table in tables}

    def clean(self) -> None:
        """Forget everything but the files."""
        tables = self.ask("SELECT string_agg(format('facet.%I', tablename), ', ') FROM pg_tables WHERE schemaname = "
                          "'facet' AND tablename <> 'alembic_version'")[0][0]  # fmt: skip
        self.ask_nothing(f"TRUNCATE {tables} RESTART IDENTITY")
        self.folders.paths.clear()

    def ask_nothing(self, statement: str, **values: object) -> None:
        with self.database.sessions.begin() as session:
            session.execute(text(statement), values)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photos and a clip."""
    folder = tmp_path_factory.mktemp("media")
    build_photos(folder)
    return folder


@pytest.fixture
def lab(clean_database: str, photos: Path, tmp_path: Path) -> Iterator[Lab]:
    settings = Settings(home=tmp_path / "home", database_url=clean_database, device="cpu", decoders=1, threads=2)
    settings.home.mkdir()
    with open_database(settings) as database:
        yield Lab(settings, database, photos, Folders())
