"""The one order in which transactions lock rows, so that no two of them can wait for each other.

1. advisory locks: of people, then of submissions; 2. ``media_file``; 3. ``analysis``; 4. ``unit``; 5. everything else.
Within one of these tables rows are locked by ascending number. A statement that can wait asks only for rows that come
after all that its transaction holds; one with ``SKIP LOCKED`` or ``NOWAIT`` never waits and may come at any place.

Rows are locked ``FOR NO KEY UPDATE``. The foreign keys of every inserted face, prediction and appearance hold what they
point to ``FOR KEY SHARE``, in several transactions at a time; ``FOR UPDATE`` would wait for those, and two transactions
that insert rows of one analysis and then ask for it would wait for each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy.orm import Session

    from worker.ledger.units import LeasedUnit

_MEDIA = text("SELECT FROM media_file WHERE media_id = ANY(:ids) ORDER BY media_id FOR NO KEY UPDATE")
_ANALYSES_OF = text("SELECT FROM analysis WHERE media_id = ANY(:ids) ORDER BY analysis_id FOR NO KEY UPDATE")
_ANALYSES = text("SELECT FROM analysis WHERE analysis_id = ANY(:ids) ORDER BY analysis_id FOR NO KEY UPDATE")
_UNITS_OF = text("SELECT unit_id FROM unit WHERE analysis_id = ANY(:ids)")
_KEEP_MEDIA = text("SELECT FROM media_file WHERE media_id = :id FOR KEY SHARE")
_KEEP_ANALYSIS = text("SELECT FROM analysis WHERE analysis_id = :id FOR KEY SHARE")
_UNITS = text("SELECT FROM unit WHERE unit_id = ANY(:ids) ORDER BY unit_id FOR NO KEY UPDATE")


def lock_media(session: Session, media_ids: Iterable[int]) -> None:
    """Lock files."""
    session.execute(_MEDIA, {"ids": sorted(set(media_ids))})


def lock_files(session: Session, media_ids: Iterable[int]) -> None:
    """Lock files and all their analyses: an analysis that ends may replace another as the current one."""
    media = sorted(set(media_ids))
    lock_media(session, media)
    session.execute(_ANALYSES_OF, {"ids": media})


def lock_analyses(session: Session, analysis_ids: Iterable[int]) -> None:
    """Lock analyses; the caller holds their files, or will lock none."""
    session.execute(_ANALYSES, {"ids": sorted(set(analysis_ids))})


def lock_units(session: Session, unit_ids: Iterable[int]) -> None:
    """Lock units; the caller holds their analyses, or will lock none."""
    session.execute(_UNITS, {"ids": sorted(set(unit_ids))})


def keep_analysis(session: Session, unit: LeasedUnit) -> None:
    """Protect the analysis of a unit from deletion; other transactions may change it and its file.

    The finish stage writes faces and appearances for minutes and locks their file last. No transaction that holds the
    file waits for these rows: an erasure, which would, asks for the analysis ``NOWAIT`` first and meets this lock.
    """
    session.execute(_KEEP_MEDIA, {"id": unit.media_id})
    session.execute(_KEEP_ANALYSIS, {"id": unit.analysis_id})


def lock_work(session: Session, units: Collection[LeasedUnit], whole: Collection[int] = ()) -> None:
    """Lock all rows that storing or failing some units may change, from their files down.

    Args:
        session: an open session.
        units: whose outcome is about to be written.
        whole: analyses of which all units end.
    """
    lock_files(session, (unit.media_id for unit in units))
    ids = {unit.unit_id for unit in units}
    if whole:
        ids.update(session.scalars(_UNITS_OF, {"ids": list(whole)}))
    lock_units(session, ids)
