"""Releases with their cost and coverage, as ``facet releases`` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.ledger.releases import find_previous, find_release
from worker.releases.catalogue import read_costs, read_layers
from worker.releases.records import read_release_history

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.releases.catalogue import LayerCost, ReleaseCost
    from worker.releases.records import HistoryEntry
    from worker.storage.release_store import ReleaseStore

KEEP_COSTS_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDetail:
    """One release."""

    cost: ReleaseCost
    layers: tuple[LayerCost, ...]
    history: tuple[HistoryEntry, ...]
    service: str | None
    """Of imported results, the service; nothing can be computed under such a release."""

    @property
    def can_be_shown(self) -> bool:
        """Whether the views could switch to it."""
        return self.service is None and self.cost.retired_at is None and "active" not in self.cost.aliases


def list_releases(session: Session, store: ReleaseStore) -> tuple[ReleaseCost, ...]:
    """Return all releases, the latest first.

    Raises:
        RetryableError: the release store is unreachable.
    """
    return tuple(reversed(read_costs(session, store)))


def has_previous(session: Session) -> bool:
    """Return whether the views can be switched back."""
    return find_previous(session) is not None


def read_release_detail(session: Session, store: ReleaseStore, release_id: int) -> ReleaseDetail | None:
    """Return one release; None where there is none.

    Raises:
        RetryableError: the release store is unreachable.
    """
    try:
        found = find_release(session, str(release_id), or_retired=True)
    except UsageError:
        return None
    cost = next((one for one in read_costs(session, store) if one.release_id == release_id), None)
    if cost is None:
        return None
    return ReleaseDetail(
        cost=cost,
        layers=tuple(read_layers(session, release_id)),
        history=tuple(read_release_history(session, release_id)),
        service=found.service,
    )
