"""The erasure of a person from the page: a preview that changes nothing, and the erasure itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from worker.deployment.scheduled.upkeep import answer_if_cut
from worker.erasure.erase import Eraser
from worker.erasure.files import FileStores
from worker.errors import UsageError
from worker.visible import visible

if TYPE_CHECKING:
    from worker.erasure.receipt import Receipt
    from worker.web.desk import Desk


def preview_erasure(desk: Desk, person_id: int) -> Receipt:
    """Return the receipt that an erasure of a person would have."""
    return replace(_eraser(desk), dry_run=True).erase_person(person_id)


def erase_for_good(desk: Desk, person_id: int, typed: str | None, expected: str) -> Receipt:
    """Erase a person for good.

    Raises:
        UsageError: what was typed is not what confirms it.
    """
    if typed != expected:
        raise UsageError(f"got {visible(typed or 'nothing')}, expected {visible(expected)}; type it to confirm")
    return _eraser(desk).erase_person(person_id)


def _eraser(desk: Desk) -> Eraser:
    stores = FileStores(desk.crops, desk.settings.staging.absolute())
    return Eraser(desk.database.sessions, stores, answer=answer_if_cut)
