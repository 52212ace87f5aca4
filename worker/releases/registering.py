"""Registers a release folder: every byte is checked, the models run once, and the deployment's store gets a copy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from db.base import EMBEDDING_DIMENSION
from models.errors import ModelError
from models.release import load_release
from worker.errors import UsageError
from worker.ledger import releases
from worker.releases import records
from worker.storage.release_store import check_folder

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from models.manifest import Manifest
    from worker.ledger.releases import NamedRelease
    from worker.releases.folders import ReleaseFolders

FRAME_SIDE = 160  # pixels of the blank frame that the detector searches


@dataclass(frozen=True, slots=True)
class Registered:
    """Result of registering a folder."""

    release: NamedRelease
    is_new: bool


def register_folder(
    folders: ReleaseFolders, folder: Path, *, name: str | None = None, alias: str | None = None
) -> Registered:
    """Check a release folder, copy it to the store and register it; a known one gets its new metrics and name.

    Args:
        folders: of the deployment.
        folder: of the release.
        name: by which it is known here; None for its own.
        alias: ``candidate``, or None.

    Raises:
        UsageError: the folder is no whole release, its models do not run, its embeddings cannot be stored, it was
            retired, or another release has the name.
        RetryableError: the store is full or unreachable.
    """
    manifest = check_folder(folder)
    if name is not None:
        manifest = replace(manifest, name=name)
    with folders.sessions.begin() as session:
        state = releases.read_state(session, manifest)
        _require_free_name(session, manifest, explicit=name is not None or state == "new")
    check_models(folder, folders.config.device)
    if state != "retired":
        folders.store.put(folder, again=True)
    with folders.sessions.begin() as session:
        ids = releases.register_release(session, manifest)
        if state == "registered":
            records.describe_again(session, ids.release_id, manifest, rename=name is not None)
        if alias is not None:
            records.set_alias(session, ids.release_id, alias)
        return Registered(releases.find_release(session, str(ids.release_id)), is_new=state == "new")


def check_models(folder: Path, device: str) -> None:
    """Load a release and run all of its models on a blank image.

    Raises:
        UsageError: a file is damaged, a model does not run, or its embeddings do not fit the database.
    """
    try:
        release = load_release(folder, device=device)
        size = release.layout.embedding_size
        if size != EMBEDDING_DIMENSION:
            raise UsageError(
                f"{folder} has embeddings of {size} numbers, and the database stores {EMBEDDING_DIMENSION}; register a "
                "release with another trunk"
            )
        release.find(torch.full((1, 3, FRAME_SIDE, FRAME_SIDE), 127, dtype=torch.uint8, device=release.device))
        side = release.layout.side
        release.infer(torch.full((1, 3, side, side), 127, dtype=torch.uint8))
    except (ModelError, RuntimeError) as err:  # torch's errors of shapes are RuntimeErrors
        raise UsageError(f"{folder} cannot be used as a release: {err}") from err


def _require_free_name(session: Session, manifest: Manifest, *, explicit: bool) -> None:
    """Refuse a name that another release has, an alias or a number.

    Raises:
        UsageError: it is taken.
    """
    name = manifest.name
    if not explicit or records.is_name_of(session, name, manifest):
        return
    if releases.free_name(session, name) != name:
        raise UsageError(f"the name {name!r} is taken, an alias or a number; pass another one with --name")
