"""The workers of a process: one for each release that it has loaded, for all releases that the ledger has work for."""

from __future__ import annotations

import gc
import logging
import math
import time
from typing import TYPE_CHECKING

import torch

from worker import metrics
from worker.analysis.malloc import trim
from worker.analysis.runner import Worker, make_lease, reconcile
from worker.errors import FacetError, RetryableError
from worker.identity.identifier import Identifier
from worker.ledger.due import has_fresh, has_rested_suspect, read_due_releases
from worker.ledger.leases import make_owner
from worker.ledger.releases import find_active, read_release_ids
from worker.releases.folders import ReleaseFolders

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from worker.analysis.pipeline import StopSignal, Totals
    from worker.config import Settings
    from worker.ledger.due import DueRelease
    from worker.storage.database import Database

logger = logging.getLogger(__name__)

MAX_LOADED = 2  # releases: the active one, and one that is reprocessed or compared
SLICE_SECONDS = 30.0  # for one release while others have work, too; loading one takes about two seconds
RELEASE_SKIP_SECONDS = 60.0  # before a release that could not be loaded is tried again


class ReleaseWorkers:
    """Drains the ledger release by release: by priority, then in turns that begin with the active one.

    Args:
        config: of this process; where it names a release, that one alone is served.
        database: open and current.
    """

    def __init__(self, config: Settings, database: Database) -> None:
        self._config = config
        self._sessions = database.sessions
        self._database = database
        self.folders = ReleaseFolders(config, database.sessions)
        own = self.folders.register_own()
        self._only = None if config.release is None or own is None else own.release_id
        self._workers: dict[int, Worker] = {}
        """By release, the one that was used last at the end."""
        self._identifiers: dict[int, Identifier] = {}
        """By trunk: releases that share it share the people in memory."""
        self._served_at: dict[int, float] = {}
        self._skipped_until: dict[int, float] = {}
        self._owner = make_owner()

    def drain(
        self, stop: StopSignal, on_progress: Callable[[Totals], None] = lambda _: None, seconds: float = math.inf
    ) -> None:
        """Work until nothing is due that this process can do, ``seconds`` are over or ``stop`` is set.

        Raises:
            RetryableError: database, crop store or release store are unreachable.
        """
        until = time.monotonic() + seconds
        self._reconcile()
        drained: set[int] = set()
        while not stop.is_set() and time.monotonic() < until:
            due = self._due(drained)
            worker = self.next_worker(due)
            if worker is None:
                if not due:
                    return
                continue
            left = until - time.monotonic()
            began = time.monotonic()
            slice_seconds = left if len(due) == 1 else min(left, SLICE_SECONDS)
            worker.drain(stop, on_progress, slice_seconds)
            if time.monotonic() - began < slice_seconds:
                drained.add(worker.ids.release_id)

    def finish(self) -> None:
        """Identify all pending appearances of the active release and of those that are loaded."""
        with self._sessions.begin() as session:
            active = find_active(session)
        if active is not None and active.trunk_id not in self._identifiers:
            self._identifiers[active.trunk_id] = Identifier(self._sessions, active.trunk_id)
        for identifier in list(self._identifiers.values()):
            identifier.finish()

    def has_work(self) -> bool:
        """Whether a unit waits that this process may be able to do."""
        with self._sessions.begin() as session:
            for one in read_due_releases(session):
                if not self._may_serve(one.release_id):
                    continue
                worker = self._workers.get(one.release_id)
                if worker is None:
                    return True
                places = worker.unreachable.places()
                if not worker.unreachable.search.is_vain(places) and has_fresh(session, one.release_id):
                    return True
                if has_rested_suspect(session, one.release_id, places):
                    return True
        return False

    @property
    def unreachable(self) -> frozenset[str]:
        """Places that one of the loaded workers could not read lately."""
        return frozenset(place for worker in self._workers.values() for place in worker.unreachable.places())

    @property
    def loaded(self) -> tuple[int, ...]:
        """The releases that are loaded, the one that was used last at the end."""
        return tuple(self._workers)

    def worker(self, release_id: int) -> Worker:
        """Return the worker of a release, which is loaded if it is not; one that was not used for longest goes.

        Raises:
            FacetError: the release cannot be loaded.
            RetryableError: database or release store are unreachable.
        """
        worker = self._workers.pop(release_id, None)
        if worker is None:
            self._make_room(release_id)
            worker = Worker(self._config, self._database, self.folders.load(release_id))
            worker.identifier = self._identifiers.setdefault(worker.ids.trunk_id, worker.identifier)
            metrics.count_release_load("done")
        self._workers[release_id] = worker
        metrics.note_releases(len(self._workers))
        return worker

    def next_worker(self, due: list[DueRelease]) -> Worker | None:
        """Return the worker of the release whose turn it is; None where there is none, or it cannot be loaded.

        Raises:
            FacetError: it is that of the settings and cannot be loaded.
            RetryableError: database or release store are unreachable.
        """
        if not due:
            return None
        chosen = min(due, key=lambda one: (-one.priority, self._served_at.get(one.release_id, 0.0), not one.active))
        self._served_at[chosen.release_id] = time.monotonic()
        try:
            return self.worker(chosen.release_id)
        except RetryableError:
            raise
        except FacetError as err:
            if self._only is not None:
                raise
            self._skipped_until[chosen.release_id] = time.monotonic() + RELEASE_SKIP_SECONDS
            metrics.count_release_load("failed")
            facts = {"action": "release_skipped", "release_id": chosen.release_id}
            logger.warning("a release cannot be served here: %s", err, extra=facts)
            return None

    def _reconcile(self) -> None:
        """End what dead workers left of all releases, whether or not they have work."""
        with self._sessions.begin() as session:
            release_ids = read_release_ids(session)
        for release_id in release_ids:
            reconcile(self._config, self._sessions, make_lease(self._config, self._owner, release_id))

    def _due(self, drained: Collection[int]) -> list[DueRelease]:
        with self._sessions.begin() as session:
            due = read_due_releases(session)
        return [one for one in due if one.release_id not in drained and self._may_serve(one.release_id)]

    def _may_serve(self, release_id: int) -> bool:
        if self._only is not None:
            return release_id == self._only
        return time.monotonic() >= self._skipped_until.get(release_id, -math.inf)

    def _make_room(self, wanted: int) -> None:
        """Unload releases until another one may be loaded."""
        with self._sessions.begin() as session:
            active = find_active(session)
        keep = None if active is None or active.release_id == wanted else active.release_id
        for release_id in list(self._goers(keep)):
            if len(self._workers) < MAX_LOADED:
                break
            self._unload(release_id)

    def _goers(self, keep: int | None) -> Iterator[int]:
        """Yield the loaded releases in the order in which they go: the active one last."""
        yield from (one for one in self._workers if one != keep)
        yield from (one for one in self._workers if one == keep)

    def _unload(self, release_id: int) -> None:
        worker = self._workers.pop(release_id)
        trunk_id, on_gpu = worker.ids.trunk_id, worker.is_on_gpu
        del worker
        if all(one.ids.trunk_id != trunk_id for one in self._workers.values()):
            self._identifiers.pop(trunk_id, None)  # with the people in memory
        gc.collect()  # modules of the models refer to each other
        if on_gpu:
            torch.cuda.empty_cache()
        trim()
        logger.info("a release was unloaded", extra={"action": "release_unloaded", "release_id": release_id})
