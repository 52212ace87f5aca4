"""The release whose lack is filled in: its layers, and the heads that are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from models import manifest as manifests
from models.trunks.base import EMBEDDING_DEPTH
from worker.errors import UsageError
from worker.ledger.releases import HeadSpec, find_own_release, read_ids

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.orm import Session

    from models.branches import BranchSpec
    from worker.ledger.releases import ReleaseIds

IDENTITY = "embedding"
"""Stands among the tasks of a batch for the embedding itself."""

_RELEASE = text("SELECT name, manifest FROM release WHERE release_id = :id")
# Scores of one head stand in the row of one of its readings.
_HEADS = text("""
    SELECT r.task, r.reading_id, array_agg(o.layer_id ORDER BY o.layer_id) AS readings
    FROM release_reading AS r JOIN layer AS o ON o.parent_id = r.head_id AND o.kind = 'reading'
    WHERE r.release_id = :id GROUP BY r.task, r.reading_id""")


@dataclass(frozen=True, slots=True)
class HeadTarget:
    """A head of the release."""

    branch: BranchSpec
    reading_id: int
    readings: tuple[int, ...]
    """All readings of the head, of whichever release: one of their rows holds the scores of a face."""

    @property
    def reads_embedding(self) -> bool:
        """Whether it needs no crop where the embedding is stored."""
        return self.branch.depths == (EMBEDDING_DEPTH,)

    @property
    def others(self) -> tuple[int, ...]:
        """Other readings of the head."""
        return tuple(one for one in self.readings if one != self.reading_id)


@dataclass(frozen=True, slots=True)
class Target:
    """A release with the heads that are asked for."""

    ids: ReleaseIds
    name: str
    fingerprint: str
    """Of its manifest: the name of its folder in the release store."""
    trunk_name: str
    heads: Mapping[str, HeadTarget]
    """By task."""

    @property
    def specs(self) -> dict[str, HeadSpec]:
        """Descriptions of its heads, as the stages of an analysis take them."""
        return {task: HeadSpec(head.branch) for task, head in self.heads.items()}


def read_target(session: Session, release_id: int, tasks: Collection[str] | None = None) -> Target:
    """Read a registered release.

    Args:
        session: an open session.
        release_id: its number.
        tasks: those of its heads that are asked for; None for all.

    Raises:
        UsageError: it has no such head, or is foreign.
    """
    row = session.execute(_RELEASE, {"id": release_id}).one()
    if "service" in row.manifest:
        find_own_release(session, str(release_id))
    manifest = manifests.from_plain(row.manifest)
    found = {one.task: one for one in session.execute(_HEADS, {"id": release_id})}
    unknown = sorted(set(tasks or ()) - set(found))
    if unknown:
        raise UsageError(
            f"release {row.name} has no head {', '.join(unknown)}; it has {', '.join(sorted(found)) or 'none'}"
        )
    heads = {
        spec.task: HeadTarget(spec, int(found[spec.task].reading_id), tuple(found[spec.task].readings))
        for spec in manifest.branches
        if tasks is None or spec.task in tasks
    }
    return Target(read_ids(session, release_id), str(row.name), manifest.fingerprint, manifest.trunk, heads)
