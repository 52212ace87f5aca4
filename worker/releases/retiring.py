"""Retires a release: no worker serves it any more, and the rows that only it used are deleted.

The first transaction decides everything: from then on its results are refused, and its own layers have fingerprints
that no new release can have. The rows go in bounded transactions. After an interruption upkeep continues.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.erasure.files import FileStores
from worker.erasure.removal import Remover
from worker.errors import UsageError
from worker.identity.gallery import lock_people
from worker.ledger.releases import find_release, lock_releases, record
from worker.ledger.submission.cancel import cancel_job, cancel_release, has_open_units
from worker.releases.own_rows import CHANGE_PEOPLE, STEPS, OwnLayers
from worker.releases.records import read_stored, store_name_of
from worker.storage.crops import CropStore
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from worker.releases.folders import ReleaseFolders
    from worker.storage.release_store import ReleaseStore

CROPS_SECONDS = 5.0  # of one round; it keeps the names that it removed

_OWN = text("""
    WITH used AS (
        SELECT r.release_id = :id AS own, c.layer_id
        FROM release r LEFT JOIN release_reading o USING (release_id)
        CROSS JOIN LATERAL (VALUES (r.finder_id), (r.trunk_id), (o.head_id), (o.reading_id)) AS c (layer_id)
        WHERE (r.retired_at IS NULL OR r.release_id = :id) AND c.layer_id IS NOT NULL)
    SELECT l.layer_id, l.kind FROM used JOIN layer l USING (layer_id) GROUP BY l.layer_id HAVING bool_and(own)
    ORDER BY l.layer_id""")
# Scores may stand under readings that were retired before, as long as a release has their head.
_READINGS = text("SELECT layer_id FROM layer WHERE kind = 'reading' AND parent_id = ANY(:heads) ORDER BY layer_id")
_BEGIN = text("""
    UPDATE release SET retired_at = now(), alias = NULL, retire_at = NULL, retirement = cast(:state AS jsonb)
    WHERE release_id = :id""")
# A release with the same parts that comes later gets layers of its own, and finds no rows that are half deleted.
_RENAME = text("""
    UPDATE layer SET fingerprint = 'retired ' || layer_id || ' ' || fingerprint WHERE layer_id = ANY(:ids)""")
_STATE = text("SELECT retirement FROM release WHERE release_id = :id AND retirement IS NOT NULL FOR NO KEY UPDATE")
_STEP = text("SELECT retirement ->> 'step' FROM release WHERE release_id = :id")
_WRITE = text("UPDATE release SET retirement = cast(:state AS jsonb) WHERE release_id = :id")
_PLAN = text("""
    UPDATE release SET retire_at = now() + make_interval(days => :days), retirement = cast(:reason AS jsonb)
    WHERE release_id = :id RETURNING retire_at""")
_DUE = text("""
    SELECT release_id FROM release
    WHERE (retirement ->> 'step') <> 'done' OR (retire_at <= now() AND retired_at IS NULL AND NOT active)
    ORDER BY release_id""")
_JOBS = text("""
    SELECT job_id FROM job WHERE kind = 'reprocess' AND release_id = :id AND finished_at IS NULL ORDER BY job_id""")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireOptions:
    """How a release is retired."""

    reason: str | None = None
    keep_days: int | None = None
    """Days after which upkeep retires it, unless it is activated before; None for now."""
    force: bool = False
    """Whether its open units are cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """State of the retirement of a release."""

    release_id: int
    release: str
    retire_at: datetime | None = None
    """When upkeep will retire it; None where it is retired."""
    cancelled: int = 0
    """Units that were open."""
    rows: dict[str, int] = field(default_factory=dict)
    """Deleted rows by table."""
    store_bytes: int = 0
    """Of its folder in the release store."""
    crops: int = 0
    """Strips that were removed from the crop store."""
    is_complete: bool = False


def retire(
    folders: ReleaseFolders,
    wanted: str,
    options: RetireOptions | None = None,
    on_progress: Callable[[Retirement], None] = lambda _: None,
) -> Retirement:
    """Retire a release and free what only it used; a second call goes on where the first one stopped.

    Raises:
        UsageError: there is no such release, it is the active one, or it has open units and is not forced.
        RetryableError: rows stay locked, or the release store is unreachable; the same call can be repeated.
    """
    how, sessions = options or RetireOptions(), folders.sessions
    with sessions.begin() as session:
        chosen = find_release(session, wanted, or_retired=True)
    if chosen.retired_at is None and how.keep_days is not None:
        at = run_transaction(sessions, "retire", partial(_plan, release_id=chosen.release_id, options=how))
        return Retirement(release_id=chosen.release_id, release=chosen.name, retire_at=at)
    run_transaction(sessions, "retire", partial(_begin, release_id=chosen.release_id, options=how))
    cancelled = _cancel(sessions, chosen.release_id)
    done = Retirement(release_id=chosen.release_id, release=chosen.name)
    while not done.is_complete:
        state = run_transaction(sessions, "retire", partial(_step, release_id=chosen.release_id))
        done = _result(chosen.release_id, chosen.name, state or {}, cancelled)
        if state is not None and state["step"] == "store":
            _free_store(folders.sessions, folders.store, chosen.release_id)
        on_progress(done)
    return replace(done, crops=_remove_crops(folders))


def continue_retirements(folders: ReleaseFolders, seconds: float) -> int:
    """Go on with retirements that were interrupted or are due by now, for a while; return how many are not complete.

    Raises:
        RetryableError: as `retire`.
    """
    until = time.monotonic() + seconds
    waiting = due_retirements(folders.sessions)
    for release_id in list(waiting):
        if not _begin_due(folders.sessions, release_id):
            waiting.remove(release_id)
            continue
        _cancel(folders.sessions, release_id)
        while time.monotonic() < until:
            state = run_transaction(folders.sessions, "retire", partial(_step, release_id=release_id))
            if state is not None and state["step"] == "store":
                _free_store(folders.sessions, folders.store, release_id)
            if state is None or state["step"] == "done":
                waiting.remove(release_id)
                break
    return len(waiting)


def due_retirements(sessions: sessionmaker[Session]) -> list[int]:
    """Return the releases whose retirement is due or was interrupted."""
    with sessions.begin() as session:
        return list(session.scalars(_DUE))


def _plan(session: Session, release_id: int, options: RetireOptions) -> datetime:
    lock_releases(session)
    _require_idle(session, release_id, open_units=True)
    planned = {"id": release_id, "days": options.keep_days, "reason": json.dumps({"reason": options.reason})}
    at: datetime = session.execute(_PLAN, planned).scalar_one()
    return at


def _begin_due(sessions: sessionmaker[Session], release_id: int) -> bool:
    """Begin a planned retirement; return whether it goes on. One with open units, or that is active, waits."""
    try:
        run_transaction(sessions, "retire", partial(_begin, release_id=release_id, options=RetireOptions()))
    except UsageError:
        return False
    return True


def _begin(session: Session, release_id: int, options: RetireOptions) -> None:
    """Retire a release, unless it is; the caller has no lock."""
    lock_releases(session)
    if find_release(session, str(release_id), or_retired=True).retired_at is not None:
        return
    _require_idle(session, release_id, open_units=options.force)
    layers = session.execute(_OWN, {"id": release_id}).all()
    by_kind = {kind: [row.layer_id for row in layers if row.kind == kind] for kind in ("finder", "trunk", "head")}
    readings = {row.layer_id for row in layers if row.kind == "reading"}
    readings.update(session.scalars(_READINGS, {"heads": by_kind["head"]}))
    own = OwnLayers(
        finder_id=next(iter(by_kind["finder"]), None),
        trunk_id=next(iter(by_kind["trunk"]), None),
        readings=tuple(sorted(readings)),
    )
    planned = session.execute(_STATE, {"id": release_id}).scalar() or {}
    state = {"own": asdict(own), "step": next(iter(STEPS)), "position": 0, "rows": {}, "store_bytes": 0}
    session.execute(_BEGIN, {"id": release_id, "state": json.dumps(state)})
    session.execute(_RENAME, {"ids": [row.layer_id for row in layers]})
    record(session, "retire", release_id, reason=options.reason or planned.get("reason"))


def _require_idle(session: Session, release_id: int, *, open_units: bool) -> None:
    """Refuse to retire a release that is in use.

    Raises:
        UsageError: it is the active one, or has open units.
    """
    found = find_release(session, str(release_id))
    if found.active:
        raise UsageError(f"release {found} is the active one; activate another one first")
    if not open_units and has_open_units(session, release_id):
        raise UsageError(f"files wait for release {found}; wait for them, cancel their jobs, or pass --force")


def _cancel(sessions: sessionmaker[Session], release_id: int) -> int:
    """Cancel what is open of a retired release; return how many units there were."""
    with sessions.begin() as session:
        jobs = list(session.scalars(_JOBS, {"id": release_id}))
        name = find_release(session, str(release_id), or_retired=True).name
    units = sum(cancel_job(sessions, job_id).units for job_id in jobs)
    return units + cancel_release(sessions, release_id, f"cancelled: release {name} was retired")


def _step(session: Session, release_id: int) -> dict[str, Any] | None:
    """Delete one batch of rows; return the state of the retirement, or None where there is none."""
    step = session.execute(_STEP, {"id": release_id}).scalar()
    if step in CHANGE_PEOPLE:
        lock_people(session)  # before all rows
    state: dict[str, Any] | None = session.execute(_STATE, {"id": release_id}).scalar()
    if state is None or state["step"] not in STEPS or state["step"] != step:
        return state
    batch = STEPS[state["step"]](session, OwnLayers.of(state["own"]), state["position"])
    for table, count in batch.rows.items():
        state["rows"][table] = state["rows"].get(table, 0) + count
    if batch.position is None:
        steps = [*STEPS, "store"]
        state |= {"step": steps[steps.index(state["step"]) + 1], "position": 0}
    else:
        state["position"] = batch.position
    session.execute(_WRITE, {"id": release_id, "state": json.dumps(state)})
    return state


def _free_store(sessions: sessionmaker[Session], store: ReleaseStore, release_id: int) -> None:
    """Remove the folder of a release from the store, unless another release has the same one, and end."""
    with sessions.begin() as session:
        lock_releases(session)  # no release is registered meanwhile whose folder this would be
        state = dict(session.execute(_STATE, {"id": release_id}).scalar_one())
        name = store_name_of(session, release_id)
        if state["step"] == "store":
            shared = any(one.store_name == name for one in read_stored(session))
            state |= {"store_bytes": 0 if shared else store.remove(name), "step": "done"}
            session.execute(_WRITE, {"id": release_id, "state": json.dumps(state)})


def _remove_crops(folders: ReleaseFolders) -> int:
    """Remove the crops that were noted, and return how many strips; upkeep tries those again that cannot be removed."""
    stores = FileStores(CropStore(folders.config.crops), folders.config.staging.absolute())
    removed = 0
    while True:
        remover = Remover(folders.sessions, stores, time.monotonic() + CROPS_SECONDS)
        remover.finish(again=False)
        if not remover.done.crops:
            return removed
        removed += len(remover.done.crops)


def _result(release_id: int, name: str, state: dict[str, Any], cancelled: int) -> Retirement:
    rows = {table: count for table, count in state.get("rows", {}).items() if count}
    complete = state.get("step", "done") == "done"
    return Retirement(
        release_id=release_id,
        release=name,
        cancelled=cancelled,
        rows=rows,
        store_bytes=state.get("store_bytes", 0),
        is_complete=complete,
    )
