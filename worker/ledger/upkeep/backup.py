"""Backups: a folder with the rows, the crops that they name, and the releases; and how it is restored.

All rows are of one snapshot. Workers store crops before the rows that name them, so the store has every crop of the
snapshot when it is copied afterwards, except those that an erasure or a retirement removes in the meantime.
``backup.json`` is written last: a backup that was broken off lacks it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.schema.migrate import current_state, knows_revision, upgrade
from db.server.dump import dump, export_snapshot, require_empty, restore
from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from worker.storage.crops import CropStore
    from worker.storage.release_store import ReleaseStore

FORMAT = 1
MANIFEST, DUMP, CROPS, RELEASES = "backup.json", "facet.dump", "crops", "releases"
STRIPS_AT_ONCE = 1000  # names that are fetched from the database at once, and between two reports of progress

_STRIPS = text("SELECT uri FROM crop_strip ORDER BY uri")
_STILL_NAMED = text("SELECT uri FROM crop_strip WHERE uri = ANY(:names) ORDER BY uri")
# Results that were imported have no models.
_MANIFESTS = text("SELECT manifest FROM release WHERE retired_at IS NULL AND manifest -> 'service' IS NULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """The description of a backup."""

    created_at: str
    """When its rows were read, in ISO 8601."""
    facet: str
    """Version of the program."""
    revision: str
    """Revision of its tables."""
    dump_sha256: str
    """SHA-256 of the file with the rows."""
    strips: int
    """Files with crops."""
    missing: tuple[str, ...]
    """Strips that rows name and that the crop store lacks."""
    releases: tuple[str, ...]
    """Fingerprints of the manifests of its releases, under which the release store has them."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class BackupStores:
    """The crops and releases that belong to the rows."""

    crops: CropStore
    releases: ReleaseStore


def create_backup(
    engine: Engine, url: str, stores: BackupStores, folder: Path, progress: Callable[[int], None]
) -> Backup:
    """Write a backup while workers go on.

    Args:
        engine: of the database.
        url: address of the database.
        stores: of its crops and releases.
        folder: is made; empty where it exists.
        progress: is told how many strips are copied.

    Raises:
        UsageError: the folder holds something.
        RetryableError: a store is unreachable, or the disk is full.
        DatabaseUnsuitable: the rows cannot be dumped.
    """
    from models.manifest import fingerprint_of  # noqa: PLC0415 - it imports torch

    _make_empty(folder)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        created_at = datetime.now(UTC).isoformat(timespec="seconds")
        snapshot = export_snapshot(connection)
        dump(url, folder / DUMP, snapshot)
        strips, absent = 0, list[str]()
        for names in _strip_names(connection):
            absent += stores.crops.copy_out(names, folder / CROPS)
            strips += len(names)
            progress(strips)
        manifests = connection.scalars(_MANIFESTS).all()
    releases = sorted({fingerprint_of(one) for one in manifests} & set(stores.releases.names()))
    for fingerprint in releases:
        stores.releases.download(fingerprint, folder / RELEASES / fingerprint)
    with engine.connect() as connection:
        missing = tuple(connection.scalars(_STILL_NAMED, {"names": absent}))
    backup = Backup(
        created_at=created_at, facet=version("facet"), revision=current_state(url).found or "",
        dump_sha256=_sha256(folder / DUMP), strips=strips - len(absent), missing=missing, releases=tuple(releases),
    )  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(asdict(backup), indent=2) + "\n", encoding="utf-8")
    return backup


def read_backup(folder: Path) -> Backup:
    """Read and check the description of a backup, and the bytes of its rows.

    Raises:
        UsageError: the folder holds no complete backup, a damaged one, or one of a newer program.
    """
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        backup = Backup(**found | {name: tuple(found[name]) for name in ("missing", "releases")})
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise UsageError(f"{folder} holds no complete backup; expected a folder of `facet db dump`") from err
    if backup.format > FORMAT or not knows_revision(backup.revision):
        raise UsageError(
            f"{folder} is of Facet {backup.facet} with tables at {backup.revision}, which this program does not know; "
            "install a newer Facet"
        )
    if _sha256(folder / DUMP) != backup.dump_sha256:
        raise UsageError(f"{folder / DUMP} is damaged: its SHA-256 is not the one in {MANIFEST}; copy it again")
    return backup


def restore_backup(url: str, stores: BackupStores, folder: Path, progress: Callable[[int], None]) -> Backup:
    """Restore a backup into an empty database, with tables as this program expects them.

    Crops and releases come first, and the rows in one transaction, so that broken off it can be repeated.

    Args:
        url: address of the database, of a user who may create a schema.
        stores: where its crops and releases go.
        folder: of ``create_backup``.
        progress: is told how many strips are copied.

    Raises:
        UsageError: the folder holds no complete backup, a damaged one, or one of a newer program.
        RetryableError: a store is unreachable, or the disk is full.
        DatabaseUnsuitable: the database is not empty, or the rows cannot be restored.
    """
    backup = read_backup(folder)
    require_empty(url)
    strips = 0
    for names in _files_below(folder / CROPS):
        stores.crops.copy_in(names, folder / CROPS)
        strips += len(names)
        progress(strips)
    for fingerprint in backup.releases:
        stores.releases.put(folder / RELEASES / fingerprint)
    restore(url, folder / DUMP)
    upgrade(url)
    return backup


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty; expected a new folder for the backup")
    except OSError as err:
        raise UsageError(f"{folder} cannot be made ({err.strerror}); name a folder of yours") from err


def _strip_names(connection: Connection) -> Iterator[list[str]]:
    rows = connection.execution_options(yield_per=STRIPS_AT_ONCE).scalars(_STRIPS)
    for names in rows.partitions():
        yield list(names)


def _files_below(folder: Path) -> Iterator[list[str]]:
    """Yield the paths of the files below a folder, in blocks."""
    block: list[str] = []
    for path in folder.rglob("*.png"):
        block.append(path.relative_to(folder).as_posix())
        if len(block) == STRIPS_AT_ONCE:
            yield block
            block = []
    if block:
        yield block


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as err:
        raise UsageError(f"{file} cannot be read ({err.strerror}); expected a folder of `facet db dump`") from err
