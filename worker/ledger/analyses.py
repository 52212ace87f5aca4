"""The end of analyses: when all units of one have ended, and with which outcome.

All functions run in the caller's transaction and never commit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import text

from worker.ledger.locks import lock_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

Ending = Literal["done", "rejected", "quarantined", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOutcome:
    """Outcome of an analysis whose units have all ended."""

    state: Ending
    reason: str | None
    frames: int = 0
    faces: int = 0
    replaces: bool = False
    """Another analysis of the file under the same finder is the current one."""
    is_unfinished: bool = False
    """Its faces are stored, but could not be joined to appearances."""

    @property
    def is_current(self) -> bool:
        """Whether the views show it from now on. Without appearances it is shown only if there is no other."""
        return self.state == "done" or (self.is_unfinished and not self.replaces)


# Of a failed finish unit the last error is the reason; errors of ranges are notes of missing parts.
_COUNTS = text("""
    SELECT analysis_id, count(*) FILTER (WHERE state IN ('pending', 'leased')) AS open,
           count(*) FILTER (WHERE state = 'quarantined' AND stage = 'analyse') AS quarantined,
           count(*) FILTER (WHERE state = 'done' AND stage = 'analyse') AS done,
           count(*) FILTER (WHERE stage = 'finish') AS finishing,
           max(last_error) FILTER (WHERE state = 'quarantined' AND stage = 'finish') AS unfinished,
           max(last_error) FILTER (WHERE state = 'cancelled') AS cancelled,
           string_agg(last_error, '; ' ORDER BY ordinal) FILTER (WHERE stage = 'analyse') AS reason,
           coalesce(sum(frame_count), 0) AS frames, coalesce(sum(face_count), 0) AS faces
    FROM unit WHERE analysis_id = ANY(:ids) GROUP BY analysis_id""")

_FILES = text("SELECT analysis_id, media_id FROM analysis WHERE analysis_id = ANY(:ids) ORDER BY analysis_id")

_PENDING = text("""
    SELECT analysis_id, EXISTS (SELECT FROM analysis o WHERE o.media_id = a.media_id AND o.is_current
                                AND o.finder_id = a.finder_id AND o.analysis_id <> a.analysis_id) AS replaces
    FROM analysis a WHERE analysis_id = ANY(:ids) AND state = 'pending' ORDER BY analysis_id""")

_INSERT_FINISH = text("""
    INSERT INTO unit (analysis_id, release_id, ordinal, stage, priority, turn)
    SELECT analysis_id, release_id, max(ordinal) + 1, 'finish', max(priority), max(turn)
    FROM unit WHERE analysis_id = :id GROUP BY analysis_id, release_id""")


def _settle(session: Session, is_joined: Mapping[int, bool]) -> dict[int, AnalysisOutcome]:
    """Return the outcomes of those analyses whose last unit has ended; no two of them have the same file."""
    pending = session.execute(_PENDING, {"ids": list(is_joined)}).all()  # erased ones have no row
    if not pending:
        return {}
    counts = session.execute(_COUNTS, {"ids": [row.analysis_id for row in pending]})
    counted = {row.analysis_id: row for row in counts}
    outcomes = {}
    for analysis in pending:
        row = counted[analysis.analysis_id]
        if row.open:
            continue
        if row.cancelled is None and row.faces and not row.finishing and not is_joined[analysis.analysis_id]:
            session.execute(_INSERT_FINISH, {"id": analysis.analysis_id})
            continue
        outcomes[analysis.analysis_id] = _outcome(row, replaces=analysis.replaces)
    return outcomes


def _outcome(row: Row[tuple[Any, ...]], *, replaces: bool) -> AnalysisOutcome:
    state, reason = _ending(row)
    return AnalysisOutcome(
        state=state,
        reason=reason,
        frames=int(row.frames),
        faces=int(row.faces),
        replaces=replaces,
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
    """Write the outcome of an analysis if its last unit has ended; the views show it from then on if it is current.

    Locks the file and its analyses: of two workers that end its last two units exactly one settles it, and of two
    analyses that end at once the second replaces the first. A video with readable ranges is ``done``, and the reason
    names the unreadable ones; with a cancelled range it is ``cancelled``. Where faces have to be joined to
    appearances, a finish unit is inserted, and the analysis is open until that has ended.

    Args:
        session: the transaction in which one of its units ended.
        analysis_id: the analysis.
        is_joined: its appearances are stored already.
    """
    end_analyses(session, {analysis_id: is_joined})


def end_analyses(session: Session, is_joined: Mapping[int, bool]) -> None:
    """Write the outcomes of those analyses that have ended, as `end_analysis` does with one.

    Args:
        session: in which units of all of them ended.
        is_joined: by ``analysis_id``, whether its appearances are stored already.
    """
    files = session.execute(_FILES, {"ids": sorted(is_joined)}).all()
    lock_files(session, (row.media_id for row in files))
    rounds: list[dict[int, bool]] = []  # of two analyses of one file the second may replace the first
    earlier: Counter[int] = Counter()
    for row in files:
        number = earlier[row.media_id]
        earlier[row.media_id] += 1
        if number == len(rounds):
            rounds.append({})
        rounds[number][row.analysis_id] = is_joined[row.analysis_id]
    for together in rounds:
        _close(session, _settle(session, together))


_FORGOTTEN = text("""
    SELECT DISTINCT q.analysis_id FROM unit q JOIN analysis a USING (analysis_id)
    WHERE q.state = 'quarantined' AND q.release_id = :release_id AND a.state = 'pending' AND NOT EXISTS
        (SELECT FROM unit u WHERE u.analysis_id = q.analysis_id AND u.state IN ('pending', 'leased'))
    ORDER BY 1""")


def read_unsettled(session: Session, release_id: int) -> list[int]:
    """Return the analyses whose last unit was quarantined while no worker was there to end them."""
    return [int(analysis_id) for analysis_id in session.scalars(_FORGOTTEN, {"release_id": release_id})]


_REPLACED = text("""
    UPDATE analysis a SET is_current = false FROM analysis n
    WHERE n.analysis_id = ANY(:ids) AND a.is_current AND a.analysis_id <> n.analysis_id
      AND (a.media_id, a.finder_id) = (n.media_id, n.finder_id)""")

_CLOSED = text("""
    UPDATE analysis a SET state = o.state, reason = o.reason, finished_at = now(), is_current = o.is_current,
        frame_count = o.frames, face_count = o.faces
    FROM unnest(cast(:ids AS bigint[]), cast(:states AS text[]), cast(:reasons AS text[]), cast(:current AS boolean[]),
                cast(:frames AS bigint[]), cast(:faces AS bigint[])) AS o(id, state, reason, is_current, frames, faces)
    WHERE a.analysis_id = o.id""")


def _close(session: Session, outcomes: Mapping[int, AnalysisOutcome]) -> None:
    """Write the outcomes of analyses, of which no two have the same file."""
    replacing = [analysis_id for analysis_id, ended in outcomes.items() if ended.is_current and ended.replaces]
    if replacing:
        session.execute(_REPLACED, {"ids": replacing})
    if outcomes:
        ended = list(outcomes.values())
        columns = {
            "ids": list(outcomes),
            "states": [outcome.state for outcome in ended],
            "reasons": [outcome.reason for outcome in ended],
            "current": [outcome.is_current for outcome in ended],
            "frames": [outcome.frames for outcome in ended],
            "faces": [outcome.faces for outcome in ended],
        }
        session.execute(_CLOSED, columns)


def revive_analysis(session: Session, analysis_id: int) -> int:
    """Requeue the cancelled units of an analysis; return how many there are.

    Units of a sealed file stay cancelled: they would bring back a person who was erased from it.
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
