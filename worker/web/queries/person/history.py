"""The corrections that concern a person, with who made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.identity.corrections.history import PastCorrection

if TYPE_CHECKING:
    from sqlalchemy import Connection

CORRECTIONS_A_PAGE = 50  # corrections

_HISTORY = text("""
    SELECT correction_id, kind, people, name, reason, appearance_count AS appearances, 0 AS lost, created_at, made_by,
           undone_at, undo_reason, undone_by
    FROM corrections
    WHERE people @> ARRAY[cast(:person AS bigint)] AND correction_id < :before
    ORDER BY correction_id DESC LIMIT :limit""")
_LATEST = 1 << 62


def read_corrections_of(
    connection: Connection, person_id: int, before: int | None = None, *, limit: int = CORRECTIONS_A_PAGE
) -> tuple[list[PastCorrection], int | None]:
    """Return the corrections of a person, the latest first, and the one before which the next page begins."""
    bounds = {"person": person_id, "before": before or _LATEST, "limit": limit + 1}
    rows = connection.execute(_HISTORY, bounds).all()
    found = [PastCorrection(**{**row._mapping, "people": tuple(row.people)}) for row in rows]  # noqa: SLF001 - the documented way
    return found[:limit], found[limit - 1].correction_id if len(found) > limit else None
