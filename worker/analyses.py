"""How analyses end: when all units of one have, and with which outcome.

All functions run in the caller's transaction and never commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import text

from worker.locks import lock_files

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

Ending = Literal["done", "rejected", "quarantined", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOutcome:
    """How an analysis ended, once all of its units have."""

    state: Ending
    reason: str | None
    frames: int = 0
    faces: int = 0
    replaces: bool = False
    """Another analysis of the file under the same release is the current one."""
    is_unfinished: bool = False
    """Its faces are stored, and could not be joined to appearances."""

    @property
    def is_current(self) -> bool:
        """Whether the views show it from now on: one without appearances only where there is no other."""
        return self.state == "done" or (self.is_unfinished and not self.replaces)


# The last word of a finish unit counts where it failed; the errors of the ranges are notes of what is missing.
_COUNTS = text("""
    SELECT count(*) FILTER (WHERE state IN ('pending', 'leased')) AS open,
           count(*) FILTER (WHERE state = 'quarantined' AND stage = 'analyse') AS quarantined,
           count(*) FILTER (WHERE state = 'done' AND stage = 'analyse') AS done,
           count(*) FILTER (WHERE stage = 'finish') AS finishing,
           max(last_error) FILTER (WHERE state = 'quarantined' AND stage = 'finish') AS unfinished,
           max(last_error) FILTER (WHERE state = 'cancelled') AS cancelled,
           string_agg(last_error, '; ' ORDER BY ordinal) FILTER (WHERE stage = 'analyse') AS reason,
           coalesce(sum(frame_count), 0) AS frames, coalesce(sum(face_count), 0) AS faces
    FROM unit WHERE analysis_id = :id""")

_INSERT_FINISH = text("""
    INSERT INTO unit (analysis_id, release_id, ordinal, stage, priority, turn)
    SELECT analysis_id, release_id, max(ordinal) + 1, 'finish', max(priority), max(turn)
    FROM unit WHERE analysis_id = :id GROUP BY analysis_id, release_id""")


def settle_analysis(session: Session, analysis_id: int, *, is_joined: bool = False) -> AnalysisOutcome | None:
    """Say how an analysis ends if its last unit has ended, else None.

    Locks the file and its analyses, so that of two workers that end its last two units exactly one settles it, and of
    two analyses that end at once the second takes the place of the first. Some readable ranges make a video ``done``,
    with the unreadable ones named in the reason; one that was cancelled makes it that. Where faces are to be joined to
    appearances, the unit for that is made, and the analysis goes on until it has ended.

    Args:
        session: an open session.
        analysis_id: the analysis.
        is_joined: its appearances are stored already.
    """
    media = text("SELECT media_id FROM analysis WHERE analysis_id = :id")
    lock_files(session, session.scalars(media, {"id": analysis_id}))
    read = text("""SELECT state, EXISTS (SELECT FROM analysis o WHERE o.media_id = a.media_id AND o.is_current
                       AND o.release_id = a.release_id AND o.analysis_id <> a.analysis_id) AS replaces
                   FROM analysis a WHERE analysis_id = :id""")
    analysis = session.execute(read, {"id": analysis_id}).first()
    if analysis is None or analysis.state != "pending":  # erased ones have no row any more
        return None
    row = session.execute(_COUNTS, {"id": analysis_id}).one()
    if row.open:
        return None
    if row.cancelled is None and row.faces and not row.finishing and not is_joined:
        session.execute(_INSERT_FINISH, {"id": analysis_id})
        return None
    state, reason = _ending(row)
    return AnalysisOutcome(
        state=state,
        reason=reason,
        frames=int(row.frames),
        faces=int(row.faces),
        replaces=analysis.replaces,
        is_unfinished=state == "quarantined" and row.unfinished is not None,
    )


def _ending(row: Row[tuple[Any, ...]]) -> tuple[Ending, str | None]:
    """Return the state of an analysis whose units have ended, and its reason."""
    if row.cancelled is not None:
        return "cancelled", row.cancelled
    if row.unfinished is not None:
        error = f"finish: the faces are stored without appearances: {row.unfinished.removeprefix('finish: ')}"
        return "quarantined", "; ".join(filter(None, (error, row.reason)))
    return "quarantined" if row.quarantined else "done" if row.done else "rejected", row.reason


def end_analysis(session: Session, analysis_id: int, *, is_joined: bool = False) -> None:
    """Settle an analysis and close it if it has ended; in the transaction in which one of its units ended."""
    outcome = settle_analysis(session, analysis_id, is_joined=is_joined)
    if outcome is not None:
        close_analysis(session, analysis_id, outcome)


_FORGOTTEN = text("""
    SELECT DISTINCT q.analysis_id FROM unit q JOIN analysis a USING (analysis_id)
    WHERE q.state = 'quarantined' AND q.release_id = :release_id AND a.state = 'pending' AND NOT EXISTS
        (SELECT FROM unit u WHERE u.analysis_id = q.analysis_id AND u.state IN ('pending', 'leased'))
    ORDER BY 1""")


def read_forgotten(session: Session, release_id: int) -> list[int]:
    """Return the analyses whose last unit was given up with nobody there to end them."""
    return [int(analysis_id) for analysis_id in session.scalars(_FORGOTTEN, {"release_id": release_id})]


def close_analysis(session: Session, analysis_id: int, outcome: AnalysisOutcome) -> None:
    """Write an analysis' outcome and make it the one that the views show, if there is something to show.

    Args:
        session: in which `settle_analysis` locked the file and its analyses.
        analysis_id: which.
        outcome: from there.
    """
    if outcome.is_current and outcome.replaces:
        session.execute(
            text("""UPDATE analysis SET is_current = false WHERE is_current AND analysis_id <> :id
                    AND (media_id, release_id) =
                        (SELECT media_id, release_id FROM analysis WHERE analysis_id = :id)"""),
            {"id": analysis_id},
        )
    session.execute(
        text("""UPDATE analysis SET state = :state, reason = :reason, finished_at = now(),
                    is_current = :is_current, frame_count = :frames, face_count = :faces
                WHERE analysis_id = :id"""),
        {
            "id": analysis_id,
            "state": outcome.state,
            "reason": outcome.reason,
            "is_current": outcome.is_current,
            "frames": outcome.frames,
            "faces": outcome.faces,
        },
    )


def revive_analysis(session: Session, analysis_id: int) -> int:
    """Make what was cancelled of an analysis due again; returns how many units that are.

    Not of a sealed file: it would bring back who was erased from it.
    """
    units = text("""UPDATE unit SET state = 'pending', last_error = NULL, not_before = NULL
                    WHERE analysis_id = :id AND state = 'cancelled' AND NOT EXISTS
                        (SELECT FROM analysis JOIN media_file USING (media_id)
                         WHERE analysis_id = :id AND sealed_at IS NOT NULL)
                    RETURNING 1""")
    revived = len(session.execute(units, {"id": analysis_id}).all())
    if revived:
        analysis = text("""UPDATE analysis SET state = 'pending', reason = NULL, finished_at = NULL
                           WHERE analysis_id = :id AND state = 'cancelled'""")
        session.execute(analysis, {"id": analysis_id})
    return revived
