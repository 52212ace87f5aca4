"""The history of corrections: each with its time, its reason, and whether it is undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.identity.corrections.anchors import read_corrections
from worker.ledger.releases import active_release
from worker.visible import counted

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from worker.identity.corrections.replay import CorrectionKind


@dataclass(frozen=True, slots=True, kw_only=True)
class PastCorrection:
    """A correction in the history."""

    correction_id: int
    kind: CorrectionKind
    people: tuple[int, ...]
    """All people that it changed; first the one that it was made about."""
    name: str | None
    reason: str | None
    appearances: int
    """Number of appearances that it is about, without the rest of the person."""
    lost: int
    """Number of its anchors without an appearance at present; it waits for them."""
    created_at: datetime
    made_by: str | None
    """Name of the user."""
    undone_at: datetime | None
    undo_reason: str | None
    undone_by: str | None

    def description(self) -> str:
        """Return the correction as a sentence."""
        person, others = self.people[0], ", ".join(str(other) for other in self.people[1:])
        called = f", called {self.name}" if self.name is not None else ""
        if self.kind == "name":
            return f"person {person} is called {self.name}"
        if self.kind == "merge":
            return f"people {others} are person {person}{called}"
        if self.kind == "split":
            verb = "is" if self.appearances == 1 else "are"
            return f"{counted(self.appearances, 'appearance')} of person {person} {verb} person {others}"
        subject = counted(self.appearances, "appearance is", "appearances are")
        return f"{subject} not person {person}" + (f" but {others}" if others else "")


def read_history(session: Session, *, limit: int = 50) -> list[PastCorrection]:
    """Read the latest corrections, undone ones included, newest first."""
    rows = session.execute(
        text("""SELECT c.correction_id, c.kind, c.people, c.name, c.reason, c.created_at, c.made_by, c.undone_at,
                       c.undo_reason, c.undone_by,
                       (SELECT count(*) FROM correction_anchor k
                        WHERE k.correction_id = c.correction_id AND k.side = 0) AS appearances
                FROM correction c ORDER BY c.correction_id DESC LIMIT :limit"""),
        {"limit": limit},
    ).all()
    if not rows:
        return []
    active = read_corrections(session, active_release(session)[0].trunk_id)
    lost = {correction.correction_id: correction.lost for correction in active}
    return [
        PastCorrection(**{**row._mapping, "people": tuple(row.people)}, lost=lost.get(row.correction_id, 0))  # noqa: SLF001 - the documented way to read a Row by name
        for row in rows
    ]
