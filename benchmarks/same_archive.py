"""The archive of ``same_as_fresh.py``: files, releases, and an installation that analyses and reprocesses them."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from sqlalchemy import text

from models import manifest as manifests
from models.branches import Branch, BranchSpec
from models.release import DEFAULT, load_release, write_release
from models.weights import read_weights
from worker.analysis.runner import Worker, decode_limits
from worker.cli.analyze import submit_paths
from worker.ledger.releases import read_ids, register_release
from worker.ledger.submission.job import Submission
from worker.reprocess.batches.restore import MediaAccess
from worker.reprocess.request import ReprocessRequest, write_job
from worker.reprocess.runner import Reprocessor
from worker.storage.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from models.manifest import Manifest
    from worker.config import Settings
    from worker.ledger.releases import ReleaseIds
    from worker.storage.database import Database

    Weights = dict[str, dict[str, Tensor]]

FRAMES_PER_SECOND = 6.0
WAIT_SECONDS = 0.2
MIN_IMAGES = 4  # of a person of LFW: a gallery of people who come again
AGE = BranchSpec(task="age", kind="age", labels=tuple(map(str, range(117))), depths=("embedding",))
HEADS = ("gender", "emotion", "ethnicity", "attributes")


def build_archive(data: Path, folder: Path, stills: int) -> None:
    """Copy the clips and so many stills: three fifths of people who come again, and others of three collections."""
    portraits = _lfw(data / "lfw")[: stills * 3 // 5]
    groups = sorted((data / "widerface_subset" / "images").rglob("*.jpg"))[: stills // 10]
    rest = stills - len(portraits) - len(groups)
    faces = _spread(sorted((data / "utkface" / "images").iterdir()), rest // 2)
    famous = _spread(sorted((data / "celeba10k" / "images").iterdir()), rest - rest // 2)
    for name, files in (
        ("lfw", portraits),
        ("wider", groups),
        ("utkface", faces),
        ("celeba", famous),
        ("clips", sorted((data / "videos").iterdir())),
    ):
        (folder / name).mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, folder / name / file.name)


def _lfw(folder: Path) -> list[Path]:
    files = sorted((folder / "images").glob("*/*.jpg"))
    counts = Counter(file.parent.name for file in files)
    return [file for file in files if MIN_IMAGES <= counts[file.parent.name] <= 3 * MIN_IMAGES]


def _spread(files: list[Path], count: int) -> list[Path]:
    return files[:: max(len(files) // max(count, 1), 1)][:count]


def make_releases(folder: Path) -> dict[str, Path]:
    """Write the shipped release with an age branch on the embedding, and three variants that share layers with it."""
    return {
        "base": _write(folder, "base"),
        "heads": _write(folder, "heads", heads=True),
        "trunk": _write(folder, "trunk", trunk=True),
        "finder": _write(folder, "finder", finder=True),
    }


def _write(folder: Path, name: str, *, heads: bool = False, trunk: bool = False, finder: bool = False) -> Path:
    shipped = manifests.read_manifest(DEFAULT)
    files = (manifests.DETECTOR_FILE, manifests.TRUNK_FILE, *map(manifests.branch_file, HEADS))
    weights: Weights = {file: read_weights(DEFAULT / file, shipped.files[file]) for file in files}
    torch.manual_seed(5)
    weights[manifests.branch_file("age")] = Branch(AGE, shipped.layout).state_dict()
    branches = (*(spec for spec in shipped.branches if spec.task in HEADS), AGE)
    quality = shipped.quality
    if heads:  # a new reading of gender, a new branch on the embedding, a new deep branch
        _nudge(weights, manifests.branch_file("age"), 0.5)
        _nudge(weights, manifests.branch_file("emotion"), 0.1)
        branches = tuple(
            replace(spec, temperature=2.5, abstain=0.755) if spec.task == "gender" else spec for spec in branches
        )
    if trunk:
        _nudge(weights, manifests.TRUNK_FILE, 0.02)
    if finder:
        quality = replace(quality, min_sharpness=quality.min_sharpness + 1)
    manifest: Manifest = replace(shipped, name=name, branches=branches, quality=quality, files={})
    write_release(folder / name, manifest, weights)
    return folder / name


def _nudge(weights: Weights, file: str, by: float) -> None:
    """Change all weights of a file a little, as training on would."""
    random = torch.Generator().manual_seed(7)
    weights[file] = {
        name: (one.float() + by * one.float().std() * torch.randn(one.shape, generator=random)).to(one.dtype)
        if one.is_floating_point() and one.dim() > 1
        else one
        for name, one in weights[file].items()
    }


@dataclass(frozen=True, slots=True)
class Installation:
    """A database and a home with the archive's rows and crops."""

    settings: Settings
    database: Database
    folders: dict[int, Path] = field(default_factory=dict)
    """Of releases, by number."""

    @contextmanager
    def open(self, release_id: int) -> Iterator[Path]:
        """Yield the folder of a release, as a release store does."""
        yield self.folders[release_id]

    def register(self, folder: Path) -> ReleaseIds:
        """Register a release."""
        with self.database.sessions.begin() as session:
            found = register_release(session, manifests.read_manifest(folder))
        self.folders[found.release_id] = folder
        return found

    def analyse(self, folder: Path, media: Path) -> ReleaseIds:
        """Analyse the archive under a release."""
        ids = self.register(folder)
        config = self.settings.model_copy(update={"release": folder})
        submission = Submission(
            name="archive", release=ids, frames_per_second=FRAMES_PER_SECOND, unit_seconds=config.unit_seconds
        )
        submit_paths(config, self.database, [str(media)], submission)
        self.work(folder)
        return ids

    def work(self, folder: Path) -> None:
        """Analyse what is due under a release, and identify."""
        config = self.settings.model_copy(update={"release": folder})
        worker = Worker(config, self.database, load_release(folder, device=config.device))
        while True:
            worker.drain(threading.Event())
            if not self.ask("SELECT 1 FROM unit WHERE state IN ('pending', 'leased') AND stage <> 'reprocess' LIMIT 1"):
                break
            time.sleep(WAIT_SECONDS)
        worker.identifier.finish()

    def reprocess(self, ids: ReleaseIds, tasks: tuple[str, ...] | None = None) -> dict[str, int]:
        """Fill in what a release lacks; return the faces (of a new finder: files) by way."""
        request = ReprocessRequest(release_id=ids.release_id, tasks=tasks)
        with self.database.sessions.begin() as session:
            job_id = write_job(session, request, "again")
        media = MediaAccess(Sources(), decode_limits(self.settings), "pyav")
        reprocessor = Reprocessor(self.settings, self.database.sessions, self, media)
        while not self.ask("SELECT 1 FROM jobs WHERE job_id = :id AND finished_at IS NOT NULL", id=job_id):
            reprocessor.drain(threading.Event(), jobs=[job_id])
            if self.ask("SELECT 1 FROM unit WHERE state = 'pending' AND stage <> 'reprocess' LIMIT 1"):
                self.work(self.folders[ids.release_id])
            time.sleep(WAIT_SECONDS)
        (job,) = self.ask("SELECT submitted, done, rejected, quarantined FROM jobs WHERE job_id = :id", id=job_id)
        if job.rejected or job.quarantined or job.done != job.submitted:
            print(f"    job {job_id}: {job}")
        ways = self.ask("SELECT way, sum(face_count)::bigint FROM unit WHERE job_id = :id GROUP BY way", id=job_id)
        return dict(map(tuple, ways))

    def ids(self, name: str) -> ReleaseIds:
        """Return the numbers of a release that is registered."""
        with self.database.sessions() as session:
            found = session.execute(text("SELECT release_id FROM release WHERE name = :name"), {"name": name})
            return read_ids(session, found.scalar_one())

    def ask(self, statement: str, **values: object) -> list[Any]:
        """Return the rows of a query; a name in it that has no ``:`` is not passed."""
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        with self.database.sessions.begin() as session:
            result = session.execute(text(statement), used)
            return list(result.all()) if result.returns_rows else []
