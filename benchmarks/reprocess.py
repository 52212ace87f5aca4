"""Speed of reprocessing: a new reading, a new head on embeddings, and a new deep head from crops.

    .venv/bin/python benchmarks/reprocess.py [--faces 1000000] [--crops 8192]

Builds an archive of generated faces in a PostgreSQL of its own: 1000 faces a video, eight to an appearance, five heads
with scores. Registers three variants of the shipped release and fills in what each lacks, in this process, as `facet
reprocess` does; compares two of them, asks the gate and switches the views. The deep head runs over generated crops in
a crop store; the model alone runs over the same crops before and after. Prints seconds by the clock, and those of the
processor of this process.
"""

from __future__ import annotations

import argparse
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import psutil
import torch
from sqlalchemy import text

from db.bulk.columns import copy_columns
from db.engine import make_engine, session_factory
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from models import manifest as manifests
from models.branches import Branch, BranchSpec
from models.release import DEFAULT, load_model, write_release
from models.weights import read_weights
from worker.analysis.runner import decode_limits
from worker.config import Settings
from worker.identity.identifier import show_release
from worker.ledger.releases import find_release, read_ids, register_release
from worker.releases.diff.report import ComparedRelease, read_diff
from worker.releases.switching import examine_switch
from worker.reprocess.batches.restore import MediaAccess
from worker.reprocess.request import ReprocessRequest, write_job
from worker.reprocess.runner import Reprocessor
from worker.storage.crops import STRIP_ROWS, CropStore
from worker.storage.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session, sessionmaker

    from models.manifest import Manifest
    from worker.ledger.releases import ReleaseIds

FACES_PER_FILE = 1000
FACES_PER_APPEARANCE = 8
BLOCK_FILES = 50
HEADS = ("gender", "ethnicity", "emotion", "attributes")
AGE = BranchSpec(task="age", kind="age", labels=tuple(map(str, range(117))), depths=("embedding",))
SIDE = 112


class Folders:
    """Folders of releases by their number."""

    def __init__(self) -> None:
        self.paths: dict[int, Path] = {}

    @contextmanager
    def open(self, release_id: int) -> Iterator[Path]:
        """Yield the folder of a release."""
        yield self.paths[release_id]


@dataclass(frozen=True, slots=True)
class Bench:
    """The archive and what reprocesses it."""

    sessions: sessionmaker[Session]
    settings: Settings
    folders: Folders

    def register(self, folder: Path) -> ReleaseIds:
        """Register a release."""
        with self.sessions.begin() as session:
            ids = register_release(session, manifests.read_manifest(folder))
        self.folders.paths[ids.release_id] = folder
        return ids

    def reprocess(self, name: str, folder: Path, task: str, of_job: int | None = None) -> float:
        """Fill in one head of a release; return the seconds."""
        ids = self.register(folder)
        media = MediaAccess(Sources(), decode_limits(self.settings), "pyav")
        reprocessor = Reprocessor(self.settings, self.sessions, self.folders, media)
        with measured(name) as spent:
            with self.sessions.begin() as session:
                request = ReprocessRequest(release_id=ids.release_id, tasks=(task,), of_job=of_job)
                job_id = write_job(session, request, name)
            reprocessor.drain(threading.Event(), jobs=[job_id])
        with self.sessions.begin() as session:
            ways = session.execute(
                text("""SELECT way, sum(face_count)::bigint AS faces, count(*) AS batches,
                               sum((stage_seconds ->> 'read')::float) AS read,
                               sum((stage_seconds ->> 'wait')::float) AS wait,
                               sum((stage_seconds ->> 'compute')::float) AS compute,
                               sum((stage_seconds ->> 'store')::float) AS store
                        FROM unit WHERE job_id = :job_id GROUP BY way ORDER BY way"""),
                {"job_id": job_id},
            ).all()
        for row in ways:
            parts = ", ".join(
                f"{part} {getattr(row, part) or 0:.1f} s" for part in ("read", "wait", "compute", "store")
            )
            print(f"    {row.way}: {row.faces:,} faces in {row.batches} batches; {parts}")
        return spent[0]


@contextmanager
def measured(name: str) -> Iterator[list[float]]:
    """Print the seconds that a block takes."""
    process = psutil.Process()
    began, used = time.perf_counter(), sum(process.cpu_times()[:2])
    spent = [0.0]
    yield spent
    spent[0] = time.perf_counter() - began
    processor = sum(process.cpu_times()[:2]) - used
    print(f"{name}: {spent[0]:.1f} s, processor of this process {processor:.1f} s")


def make_release(folder: Path, name: str, **changes: Any) -> Path:
    """Write the shipped release with an age branch on embeddings, and with changed branches."""
    shipped = manifests.read_manifest(DEFAULT)
    files = (manifests.DETECTOR_FILE, manifests.TRUNK_FILE, *map(manifests.branch_file, HEADS))
    weights = {file: read_weights(DEFAULT / file, shipped.files[file]) for file in files}
    torch.manual_seed(changes.get("seed", 1))
    weights[manifests.branch_file("age")] = Branch(AGE, shipped.layout).state_dict()
    branches = (*(spec for spec in shipped.branches if spec.task in HEADS), AGE)
    if "temperature" in changes:
        branches = tuple(
            replace(spec, temperature=changes["temperature"]) if spec.task == "gender" else spec for spec in branches
        )
    if "deep" in changes:
        file = manifests.branch_file(changes["deep"])
        weights[file] = {key: one * 1.01 if one.dim() > 1 else one for key, one in weights[file].items()}
    manifest: Manifest = replace(shipped, name=name, branches=branches, files={})
    write_release(folder / name, manifest, weights)
    return folder / name


def build(bench: Bench, ids: ReleaseIds, count: int) -> None:
    """Write an archive of so many faces."""
    random = np.random.default_rng(1)
    specs = {spec.task: spec for spec in manifests.read_manifest(bench.folders.paths[ids.release_id]).branches}
    files = count // FACES_PER_FILE
    with bench.sessions.begin() as session:
        session.execute(_FILES, {"files": files, "finder": ids.finder_id, "release": ids.release_id})
    for first in range(0, files, BLOCK_FILES):
        numbers = np.arange(first, min(first + BLOCK_FILES, files))
        with bench.sessions.begin() as session:
            session.execute(text("SET LOCAL session_replication_role = replica"))
            _write_block(session, ids, numbers, specs, random)
    engine = bench.sessions.kw["bind"]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


_FILES = text("""
    WITH m AS (
        INSERT INTO media_file (sha256, uri, location, kind, width, height)
        SELECT encode(sha256(n::text::bytea), 'hex'), '/made/' || n, '/made/' || n, 'video', 640, 360
        FROM generate_series(1, :files) AS n RETURNING media_id),
    a AS (
        INSERT INTO analysis (media_id, finder_id, sampling, state, is_current, finished_at, sample_interval_seconds)
        SELECT media_id, :finder, '2/s', 'done', true, now(), 0.5 FROM m ORDER BY media_id RETURNING analysis_id)
    INSERT INTO unit (analysis_id, release_id, state, finished_at) SELECT analysis_id, :release, 'done', now() FROM a
    ORDER BY analysis_id""")


def _write_block(
    session: Session, ids: ReleaseIds, files: np.ndarray, specs: dict[str, BranchSpec], random: np.random.Generator
) -> None:
    count = len(files) * FACES_PER_FILE
    faces = 1 + files[0] * FACES_PER_FILE + np.arange(count)
    owner = np.repeat(files + 1, FACES_PER_FILE)
    number = np.tile(np.arange(FACES_PER_FILE), len(files))
    appearances = 1 + (faces - 1) // FACES_PER_APPEARANCE
    embeddings = random.standard_normal((count, 128), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    face: dict[str, Any] = {
        "face_id": faces,
        "analysis_id": owner,
        "unit_id": owner,
        "at_seconds": number / 2.0,
        "frame_index": number,
    }
    face |= {"hold_seconds": 0.5, "x1": 10.0, "y1": 10.0, "x2": 90.0, "y2": 90.0, "detection_score": 0.9}
    face |= {"quality": random.random(count), "landmarks": np.full((count, 10), 20000)}
    copy_columns(session, "face", [(count, face)])
    placed: dict[str, Any] = {
        "face_id": faces,
        "trunk_id": ids.trunk_id,
        "appearance_id": appearances,
        "embedding": embeddings,
    }
    copy_columns(session, "face_embedding", [(count, placed)])
    for task, spec in specs.items():
        label = None if task in {"age", "attributes"} else [spec.labels[0]] * count
        row: dict[str, Any] = {
            "face_id": faces,
            "reading_id": ids.readings[task],
            "label": label,
            "confidence": None if label is None else 0.7,
        }
        row |= dict.fromkeys(("value", "low", "high"), 40.0 if task == "age" else None)
        codes = random.integers(1000, 9000, (count, len(spec.labels)))
        copy_columns(session, "prediction", [(count, row | {"scores": codes})])
    some = np.unique(appearances)
    first = (some - 1) * FACES_PER_APPEARANCE
    appearance: dict[str, Any] = {
        "appearance_id": some,
        "analysis_id": 1 + first // FACES_PER_FILE,
        "media_id": 1 + first // FACES_PER_FILE,
    }
    appearance |= {"start_seconds": first / 2.0, "end_seconds": first / 2.0 + 4, "trunk_id": ids.trunk_id}
    appearance |= {"ordinal": some, "face_count": FACES_PER_APPEARANCE, "quality": 0.5}
    appearance |= {"embedding": None}
    copy_columns(session, "appearance", [(len(some), appearance)])


def make_crops(count: int) -> np.ndarray:
    """Return (N, 112, 112, 3) uint8 crops as smooth as photos of faces: they compress alike."""
    random = np.random.default_rng(2)
    coarse = random.integers(0, 255, (count, 14, 14, 3), np.uint8)
    crops = np.stack([cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for one in coarse])
    noise = random.integers(-4, 5, crops.shape, np.int16)
    found: np.ndarray = np.clip(crops.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return found


def keep_crops(bench: Bench, crops: np.ndarray) -> int:
    """Store crops of the first faces; return a job with their files."""
    store = CropStore(bench.settings.crops)
    with bench.sessions.begin() as session:
        job_id = int(session.execute(text("INSERT INTO job (name) VALUES ('crops') RETURNING job_id")).scalar_one())
        for number in range(len(crops) // FACES_PER_FILE):
            mine = crops[number * FACES_PER_FILE : (number + 1) * FACES_PER_FILE]
            for strip, first in enumerate(range(0, FACES_PER_FILE, STRIP_ROWS)):
                name = f"aa/made/{number}-{strip}.png"
                store.write(name, mine[first : first + STRIP_ROWS])
                values = {"unit": number + 1, "strip": strip, "uri": name}
                session.execute(text("INSERT INTO crop_strip VALUES (:unit, :strip, :uri)"), values)
            session.execute(_PLACE, {"unit": number + 1, "rows": STRIP_ROWS})
            session.execute(_ITEM, {"job_id": job_id, "number": number + 1})
    return job_id


_PLACE = text("UPDATE face SET strip_no = frame_index / :rows, crop_index = frame_index % :rows WHERE unit_id = :unit")
_ITEM = text("""
    INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id)
    VALUES (:job_id, :number, '', :number, :number)""")


def main() -> None:
    """Build the archive, fill in what three releases lack, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--crops", type=int, default=8_000, help="at least 1,000")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="facet-reprocess-") as name, EmbeddedPostgres(Path(name) / "database") as server:
        folder = Path(name)
        upgrade(server.url)
        engine = make_engine(server.url)
        settings = Settings(home=folder / "home", database_url=server.url, device="cpu")
        bench = Bench(session_factory(engine), settings, Folders())
        with measured(f"building {options.faces:,} faces"):
            ids = bench.register(make_release(folder, "base"))
            build(bench, ids, options.faces)
        for title, release, task in (
            ("a new reading (gender)", make_release(folder, "reading", temperature=2.0), "gender"),
            ("a new head on embeddings (age)", make_release(folder, "embedding", seed=2), "age"),
        ):
            spent = bench.reprocess(title, release, task)
            print(f"    {options.faces / spent:,.0f} faces/s")
        switch(bench, "reading")
        deep(bench, make_release(folder, "deep", deep="emotion"), options.crops)
        engine.dispose()


def switch(bench: Bench, name: str) -> None:
    """Time the comparison, the gate, the switch to a release that is filled in, and the way back."""
    with bench.sessions() as session:
        both = [
            ComparedRelease(one, read_ids(session, find_release(session, one).release_id)) for one in ("base", name)
        ]
    with measured("comparing two releases"):
        read_diff(bench.sessions, *both)
    with measured("asking the gate"):
        examine_switch(bench.sessions, name)
    with bench.sessions() as session:
        for title, wanted in (("switching", name), ("switching back", "base")):
            with measured(title):
                show_release(session, wanted)
                session.commit()


def deep(bench: Bench, release: Path, count: int) -> None:
    """Measure a deep head from crops, and the model alone over the same crops, before and after."""
    crops = make_crops(max(count // FACES_PER_FILE, 1) * FACES_PER_FILE)
    job_id = keep_crops(bench, crops)
    model = load_model(release, device="cpu", heads=frozenset({"emotion"}), identity=False)
    alone = []
    for turn in ("before", "after"):
        if turn == "after":
            whole = bench.reprocess("a new deep head (emotion), end to end", release, "emotion", of_job=job_id)
        with measured(f"the model alone, {turn}") as spent:
            for first in range(0, len(crops), 256):
                model.infer(torch.from_numpy(crops[first : first + 256]).permute(0, 3, 1, 2))
        alone.append(spent[0])
    rate = len(crops) / whole
    print(f"    {rate:,.0f} faces/s; {sum(alone) / 2 / whole:.2f} of the model alone")


if __name__ == "__main__":
    main()
