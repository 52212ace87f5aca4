"""Releases that can be loaded: the shipped one, and copies of it with one part changed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from db.engine import make_engine, session_factory
from models import manifest as manifests
from models.branches import BranchSpec
from models.manifest import branch_file, read_manifest
from models.release import DEFAULT
from models.weights import read_weights, write_weights
from worker.config import Settings
from worker.releases.folders import ReleaseFolders
from worker.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def database(clean_database: str) -> Iterator[Database]:
    engine = make_engine(clean_database)
    yield Database(clean_database, engine, session_factory(engine))
    engine.dispose()


@pytest.fixture
def config(tmp_path: Path, clean_database: str) -> Settings:
    """Return the settings of a host with a home of its own."""
    return Settings(home=tmp_path / "home", database_url=clean_database, device="cpu", lease_seconds=60.0)


@pytest.fixture
def folders(config: Settings, database: Database) -> ReleaseFolders:
    return ReleaseFolders(config, database.sessions)


@pytest.fixture
def make_variant(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the shipped release with another branch of gender, or another reading of it."""

    def make(name: str, *, abstain: float | None = None, shift: float = 0.0) -> Path:
        folder = tmp_path / f"variant-{name}"
        shutil.copytree(DEFAULT, folder)
        manifest = replace(read_manifest(DEFAULT), name=name)
        if abstain is not None:
            branches = tuple(replace(s, abstain=abstain) if s.task == "gender" else s for s in manifest.branches)
            manifest = replace(manifest, branches=branches)
        if shift:
            path = folder / branch_file("gender")
            weights = read_weights(path)
            last = max(key for key in weights if key.startswith("head.") and key.endswith("bias"))
            weights[last] = weights[last] + shift * torch.tensor([1.0, -1.0], dtype=weights[last].dtype)
            manifest = manifest.with_files(manifest.files | {path.name: write_weights(path, weights)})
        (folder / manifests.FILE).write_text(manifest.to_json())
        return folder

    return make


@pytest.fixture
def wide_release(tmp_path: Path) -> Path:
    """Return a release that cannot be loaded: a branch reads a layer with other shapes than its weights have."""
    folder = tmp_path / "wide"
    shutil.copytree(DEFAULT, folder)
    manifest = read_manifest(DEFAULT)
    branches = tuple(replace(s, labels=("a", "b", "c")) if s.task == "gender" else s for s in manifest.branches)
    assert all(isinstance(spec, BranchSpec) for spec in branches)
    (folder / manifests.FILE).write_text(replace(manifest, name="wide", branches=branches).to_json())
    return folder
