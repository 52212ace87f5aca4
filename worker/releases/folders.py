"""Folders of registered releases on this host: those that this program or its settings bring, or fetched ones."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.errors import ModelError, ReleaseError
from models.manifest import TRUNK_FILE, read_manifest
from models.release import DEFAULT, load_release
from worker.analysis.malloc import keep_freed_blocks
from worker.errors import FacetError, RetryableError, UsageError
from worker.ledger import releases
from worker.releases import records
from worker.storage.release_cache import ReleaseCache
from worker.storage.release_store import ReleaseStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker

    from models.manifest import Manifest
    from models.release import Release
    from worker.config import Settings
    from worker.ledger.releases import ReleaseIds
    from worker.releases.records import StoredRelease

logger = logging.getLogger(__name__)


def load_own(config: Settings) -> Release:
    """Load the release that the settings name, or the shipped one; no database is needed.

    Raises:
        UsageError: there is none, its files are damaged, a head is unknown or the device is missing.
    """
    keep_freed_blocks()
    try:
        return load_release(config.release, device=config.device, heads=config.heads)
    except ModelError as err:
        raise UsageError(str(err)) from err


@dataclass(frozen=True, slots=True)
class ReleaseFolders:
    """Finds the folder of a registered release."""

    config: Settings
    sessions: sessionmaker[Session]

    @property
    def own(self) -> Path:
        """The folder that the settings name, or the shipped one."""
        return self.config.release or DEFAULT

    @property
    def store(self) -> ReleaseStore:
        """The deployment's release store."""
        return ReleaseStore(self.config.releases)

    def register_own(self) -> ReleaseIds | None:
        """Register the release that the settings name, or the shipped one, and put it into the store.

        Returns:
            Its numbers; None for a shipped release that was retired.

        Raises:
            UsageError: the settings name no release, a damaged one or a retired one.
            RetryableError: it is new, and the store is full or unreachable.
        """
        manifest = self._own_manifest()
        with self.sessions.begin() as session:
            state = releases.read_state(session, manifest)
        if state == "retired" and self.config.release is None:
            return None
        if state != "retired":
            self._put_own(manifest, known=state == "registered")
        reason = (
            f"{releases.SHIPPED_REASON}{releases.code_version()}" if self.config.release is None else "FACET_RELEASE"
        )
        with self.sessions.begin() as session:
            return releases.register_release(session, manifest, reason=reason)

    def submitted(self) -> ReleaseIds:
        """Return the release that new jobs are submitted under, registered: the active one, or the settings' own.

        Where this program cannot compute the active one, it is the shipped one.

        Raises:
            UsageError, RetryableError: as `register_own`.
            FacetError: there is none.
        """
        own = self.register_own()
        if self.config.release is not None and own is not None:
            return own
        with self.sessions.begin() as session:
            active = releases.find_active(session)
            servable = {one.release_id for one in records.read_stored(session) if one.is_servable}
        if active is not None and active.release_id in servable:
            return active
        if own is None:
            raise FacetError(
                "this program cannot compute the active release, and the shipped one was retired; activate one that it "
                "can compute, see `facet releases list`"
            )
        return own

    def find(self, release_id: int) -> StoredRelease:
        """Return a registered release.

        Raises:
            FacetError: it was retired, or this program cannot compute its results.
        """
        with self.sessions.begin() as session:
            found = next((one for one in records.read_stored(session) if one.release_id == release_id), None)
        if found is None:
            raise FacetError(
                f"release {release_id} was retired or holds imported results, and has no models; see "
                "`facet releases list`"
            )
        if not found.is_servable:
            raise FacetError(
                f"release {found.name} ({release_id}) belongs to version {found.code_version} of the program, and this "
                f"is {releases.code_version()}; start a worker of that version, or activate another release"
            )
        return found

    @contextmanager
    def open(self, release_id: int) -> Iterator[Path]:
        """Yield the folder of a release, with every byte checked; it stays as long as the context.

        Raises:
            FacetError: it was retired, this program cannot compute it, or the store lacks it or has a damaged one.
            RetryableError: the store is unreachable, or the disk is full.
        """
        name = self.find(release_id).store_name
        local = next((folder for folder in (self.own, DEFAULT) if _is_release(folder, name)), None)
        if local is not None:
            yield local
            return
        with ReleaseCache(self.config.release_cache, self.store).open(name) as folder:
            yield folder

    def load_embedder(self, trunk_sha256: str) -> Release:
        """Load a release without heads whose trunk has this hash: the own one, or else the active one.

        Raises:
            UsageError: the active one has another trunk.
            FacetError, RetryableError: as `load`.
        """
        bare = replace(self, config=self.config.model_copy(update={"heads": frozenset()}))
        if self._own_manifest().files.get(TRUNK_FILE) == trunk_sha256:
            return load_own(bare.config)
        with self.sessions.begin() as session:
            active, name = releases.active_release(session)
        found = bare.load(active.release_id)
        if found.manifest.files[TRUNK_FILE] != trunk_sha256:
            raise UsageError(
                f"release {name} did not make the archive's embeddings, expected the release that did; activate it, "
                "see `facet releases list`"
            )
        return found

    def load(self, release_id: int) -> Release:
        """Load a release on the device of the settings.

        Raises:
            FacetError: as `open`; or a file is damaged, or the device is missing.
        """
        keep_freed_blocks()
        heads = self.heads(release_id)
        with self.open(release_id) as folder:
            try:
                return load_release(folder, device=self.config.device, heads=heads)
            except ModelError as err:
                raise FacetError(str(err)) from err

    def heads(self, release_id: int) -> frozenset[str] | None:
        """Return those heads of a release that the settings switch on; None for all.

        Raises:
            UsageError: the settings name a head that no release has.
        """
        wanted = self.config.heads
        if wanted is None:
            return None
        with self.sessions.begin() as session:
            tasks = {one.release_id: frozenset(one.tasks) for one in records.read_stored(session)}
        known = frozenset().union(*tasks.values())
        if unknown := wanted - known:
            raise UsageError(
                f"FACET_HEADS names {', '.join(sorted(unknown))}, which no release has; the releases have "
                f"{', '.join(sorted(known)) or 'none'}"
            )
        return wanted & tasks.get(release_id, frozenset())

    def _own_manifest(self) -> Manifest:
        try:
            return read_manifest(self.own)
        except ReleaseError as err:
            raise UsageError(str(err)) from err

    def _put_own(self, manifest: Manifest, *, known: bool) -> None:
        """Put the own release into the store; one that is registered is served without it."""
        try:
            if not self.store.has(manifest.fingerprint, manifest.files):
                self.store.put(self.own)
        except RetryableError as err:
            if not known:
                raise
            facts = {"action": "release_not_stored", "release": manifest.name}
            logger.warning("release %s is not in the release store: %s", manifest.name, err, extra=facts)


def _is_release(folder: Path, store_name: str) -> bool:
    try:
        return read_manifest(folder).fingerprint == store_name
    except ReleaseError:
        return False
