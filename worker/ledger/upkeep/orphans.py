"""Orphans in the crop store: strips of attempts whose worker died, lost the unit, failed or was stopped.

Strips carry the token under which they were written, and a unit is stored only while it is leased under that token. So
a strip without a row whose token is no longer leased stays without one: it is removed without a lock.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import FacetError
from worker.storage.crops import strip_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session, sessionmaker

    from worker.ledger.units import LeasedUnit
    from worker.storage.crops import CropStore

logger = logging.getLogger(__name__)

_STRIP = re.compile(r"/(?P<ordinal>\d+)-(?P<token>\d+)-\d+\.png(?:\.part)?$")


def remove_orphans(sessions: sessionmaker[Session], store: CropStore, analyses: Iterable[int]) -> int:
    """Remove the orphans of analyses; return how many were removed.

    An unreachable store is no error: the next attempt at the unit, or the erasure of its file, removes them.
    """
    removed = 0
    for analysis_id in sorted(set(analyses)):
        try:
            with sessions() as session:
                names = _find_orphans_of(session, store, analysis_id)
            for name in names:
                store.remove(name)
            removed += len(names)
        except FacetError as err:
            facts = {"action": "attempt_crops_stay", "analysis_id": analysis_id}
            logger.warning("crops of broken-off attempts stay: %s", err, extra=facts)
    if removed:
        logger.info(
            "crops of broken-off attempts removed", extra={"action": "attempt_crops_removed", "strips": removed}
        )
    return removed


def remove_attempt(store: CropStore, unit: LeasedUnit) -> None:
    """Remove the strips of an attempt that lost its unit, also where its file has been erased."""
    try:
        for name in store.find(strip_folder(unit.sha256, unit.analysis_id)):
            found = _STRIP.search(name)
            if found and (int(found["ordinal"]), int(found["token"])) == (unit.ordinal, unit.token):
                store.remove(name)
    except FacetError as err:
        facts = {"action": "attempt_crops_stay", "analysis_id": unit.analysis_id}
        logger.warning("crops of a broken-off attempt stay: %s", err, extra=facts)


def _find_orphans_of(session: Session, store: CropStore, analysis_id: int) -> list[str]:
    """Return the orphans: list strips, then units in flight, then rows, so that a strip stored meanwhile is kept."""
    key = {"id": analysis_id}
    sha256 = session.execute(
        text("SELECT sha256 FROM media_file JOIN analysis USING (media_id) WHERE analysis_id = :id"), key
    ).scalar()
    if sha256 is None:  # erased, with its folder
        return []
    strips = [(name, found) for name in store.find(strip_folder(sha256, analysis_id)) if (found := _STRIP.search(name))]
    units = text("SELECT ordinal, token FROM unit WHERE analysis_id = :id AND state = 'leased'")
    in_flight = {(row.ordinal, row.token) for row in session.execute(units, key)}
    rows = text("SELECT uri FROM crop_strip JOIN unit USING (unit_id) WHERE analysis_id = :id")
    named = set(session.scalars(rows, key))
    return [
        name
        for name, found in strips
        if name not in named and (int(found["ordinal"]), int(found["token"])) not in in_flight
    ]
