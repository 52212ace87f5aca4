"""Leases of a worker process: takes units, extends their leases, and returns units that it did not end."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from sqlalchemy.exc import DBAPIError

from worker.errors import FacetError, LeaseLostError, RetryableError, described
from worker.ledger import units as ledger
from worker.ledger.batches import lease_batch
from worker.ledger.unreachable.places import UnreachablePlaces
from worker.storage.database import is_unreachable
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from sqlalchemy.orm import Session, sessionmaker

    from worker.errors import MediaUnreachable
    from worker.ledger.batches import Batch
    from worker.ledger.units import HeldUnit, Lease, LeasedUnit, UnitStage

logger = logging.getLogger(__name__)


def make_owner() -> str:
    """Return a unique, readable name of this worker process."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class LeaseHolder:
    """Holds the leased units of this process; a thread extends the leases at a third of their duration.

    On exit units in flight are returned: untouched after a clean stop or when a service is unreachable, as a failed
    attempt after an error that one of them may have caused. If the database is unreachable then, the next holder of
    the same process returns them, unless their leases have run out and another worker has them.

    Args:
        sessions: of the ledger's database.
        lease: its terms.
        seconds: after which no more units are taken.
        unreachable: places that this host cannot read, so that no unit is taken from there.
        unreturned: units that could not be returned; shared by all holders of a process.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        lease: Lease,
        seconds: float = math.inf,
        unreachable: UnreachablePlaces | None = None,
        unreturned: list[HeldUnit] | None = None,
    ) -> None:
        self._sessions = sessions
        self._until = time.monotonic() + seconds
        self._lease = lease
        self._unreachable = unreachable or UnreachablePlaces()
        self._unreturned = unreturned if unreturned is not None else []
        self._held: dict[int, HeldUnit] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        if self._unreturned:
            lost, owner = self._unreturned, self._lease.owner
            run_transaction(self._sessions, "return", lambda session: ledger.release_units(session, lost, owner))
            self._unreturned.clear()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        clean = error is None or isinstance(error, (FacetError, KeyboardInterrupt, SystemExit)) or is_unreachable(error)
        self._give_back(None if clean or error is None else f"worker_error: {described(error)}")

    def __len__(self) -> int:
        return len(self._held)

    def take(self, limit: int, videos: int | None = None, *, finish: bool = True) -> list[LeasedUnit]:
        """Lease due units; a suspect is leased only when no other unit is held, and alone.

        Args:
            limit: maximum number of units.
            videos: maximum number of ranges of videos among them; further ones are returned.
            finish: whether units of the finish stage may be among them.
        """
        if time.monotonic() >= self._until:
            return []
        with self._lock:
            held = tuple(self._held)
            if any(unit.attempts > 1 for unit in self._held.values()):
                return []
        stages: tuple[UnitStage, ...] = ("analyse", "finish") if finish else ("analyse",)
        search = self._unreachable.search
        lease = replace(self._lease, unreachable=tuple(self._unreachable.places()), search=search)
        units = self._take(lease, limit, videos, held, stages)
        while not units and lease.unreachable and not search.has_ended and time.monotonic() < self._until:
            units = self._take(lease, limit, videos, held, stages)  # the next window, in its own transaction
        with self._lock:
            self._held.update((unit.unit_id, unit) for unit in units)
        return units

    def _take(
        self, lease: Lease, limit: int, videos: int | None, held: tuple[int, ...], stages: tuple[UnitStage, ...]
    ) -> list[LeasedUnit]:
        units: list[LeasedUnit] = []
        try:
            with self._sessions.begin() as session:
                units = ledger.lease_units(session, lease, limit, held=held, stages=stages)
                if not units and not held and (not lease.unreachable or self._unreachable.search.has_ended):
                    units = ledger.lease_units(session, lease, 1, suspects=True)
                ranges = [unit for unit in units if unit.kind == "video" and unit.stage == "analyse"]
                surplus = ranges[videos:] if videos is not None else []
                ledger.release_units(session, surplus)
        except DBAPIError:
            self._unreturned.extend(units)  # the answer to COMMIT may be lost while the lease was committed
            raise
        if surplus:
            self._unreachable.search.step_back()
        return [unit for unit in units if unit not in surplus]

    def take_batch(self, jobs: Collection[int] | None = None, skipped: Collection[int] = ()) -> Batch | None:
        """Lease a batch of a reprocess job; a suspect is leased only when no other unit is held, and alone.

        Args:
            jobs: only batches of these jobs; None for all.
            skipped: releases that this process cannot load.
        """
        with self._lock:
            held = tuple(self._held)
            if time.monotonic() >= self._until or any(unit.attempts > 1 for unit in self._held.values()):
                return None
        batch = None
        try:
            with self._sessions.begin() as session:
                batch = lease_batch(session, self._lease, held=held, jobs=jobs, skipped=skipped)
        except DBAPIError:
            if batch is not None:
                self._unreturned.append(batch)  # the answer to COMMIT may be lost while the lease was committed
            raise
        if batch is not None:
            with self._lock:
                self._held[batch.unit_id] = batch
        return batch

    def avoid(self, unit: LeasedUnit, error: MediaUnreachable) -> None:
        """Take no units for a while from the place where a unit's file should be."""
        self._unreachable.note(unit.unit_id, error)

    def drop(self, unit: HeldUnit) -> None:
        """Forget a unit that ended, here or elsewhere."""
        with self._lock:
            self._held.pop(unit.unit_id, None)

    def _beat(self) -> None:
        while not self._stopped.wait(self._lease.seconds / 3):
            with self._lock:
                units = list(self._held.values())
            try:
                with self._sessions.begin() as session:
                    ledger.heartbeat(session, units, self._lease.seconds)
            except DBAPIError as err:
                # the next heartbeat may succeed; if none does, the leases run out and other workers take over
                logger.warning("heartbeat failed", extra={"action": "heartbeat_failed", "error": str(err.orig)})

    def _give_back(self, error: str | None) -> None:
        with self._lock:
            units = list(self._held.values())
            self._held.clear()
        if not units:
            return
        self._unreachable.search.restart()
        try:
            if error is None:
                run_transaction(self._sessions, "return", lambda session: ledger.release_units(session, units))
            else:
                run_transaction(self._sessions, "fail", lambda session: self._fail(session, units, error))
        except (DBAPIError, RetryableError) as err:
            if error is None:
                self._unreturned.extend(units)
            logger.warning("leases not given back", extra={"action": "release_failed", "error": str(err)})

    def _fail(self, session: Session, units: list[HeldUnit], error: str) -> None:
        for unit in sorted(units, key=lambda unit: unit.unit_id):
            with suppress(LeaseLostError):
                ledger.fail_unit(session, unit, error, self._lease.max_attempts)
