"""The work of schedules: regroups people, erases files that are due, reprocesses."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from worker.ledger.releases import find_active
from worker.ledger.upkeep.runs import note_upkeep
from worker.schedules.reprocessing import Reprocessing
from worker.schedules.rows import RunOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from db.schema.schedule_tables import ScheduleKind
    from worker.config import Settings
    from worker.erasure.erase import Eraser
    from worker.schedules.rows import Schedule
    from worker.schedules.runs import Action
    from worker.storage.database import Database

logger = logging.getLogger(__name__)

ERASE_SECONDS = 15.0  # of one run of retention; a reconciliation, which begins it, is killed after 60
UPKEEP_LOCK_WAIT_SECONDS = 5.0  # for locked rows: the next run tries again
FINISH_SECONDS = 8.0  # for files that earlier erasures left
ERASURE_REST_FACTOR = 20  # a look for due files that found none is repeated after this multiple of its own time
MAX_REST_SECONDS = 3600.0  # of such a rest; a look is long where jobs without an end keep a million files of others


def regrouping(config: Settings, database: Database) -> Action:
    """Return the action that regroups people."""
    return partial(_regroup, config, database)


def retention(config: Settings, database: Database) -> Action:
    """Return the action that erases due files."""
    return partial(_erase, config, database)


def reprocessing(config: Settings, database: Database, *, forced: bool = False) -> Action:
    """Return the action that reprocesses; ``forced`` starts or resumes a job though no window is open."""
    # beat and health checks need none of these
    from worker.deployment.scheduled.release_work import ReleaseWork  # noqa: PLC0415
    from worker.storage.crops import CropStore  # noqa: PLC0415

    tools = ReleaseWork(database.sessions, CropStore(config.crops), config.home / "reports")
    return Reprocessing(database.sessions, tools, forced=forced).look


def actions_by_hand(config: Settings, database: Database) -> dict[ScheduleKind, Action]:
    """Return what a run of each kind of schedule does, whatever its times."""
    return {
        "regroup": regrouping(config, database),
        "reprocess": reprocessing(config, database, forced=True),
        "retention": retention(config, database),
    }


def make_eraser(config: Settings, database: Database) -> Eraser:
    """Return the eraser of upkeep."""
    # the parent and health checks need no numpy
    from worker.erasure.erase import Eraser  # noqa: PLC0415
    from worker.erasure.files import FileStores  # noqa: PLC0415
    from worker.storage.crops import CropStore  # noqa: PLC0415

    stores = FileStores(CropStore(config.crops), config.staging.absolute())
    return Eraser(
        database.sessions,
        stores,
        lock_wait_seconds=UPKEEP_LOCK_WAIT_SECONDS,
        files_seconds=FINISH_SECONDS,
        answer=answer_if_cut,
    )


def answer_if_cut(session: Session, appearances: Sequence[int]) -> None:
    """Compute the answers of appearances again that lost some of their faces to an erasure."""
    # an erasure that leaves all appearances whole needs no torch
    from worker.reprocess.batches import appearances as batches  # noqa: PLC0415

    batches.answer_again(session, appearances)


def _regroup(config: Settings, database: Database, _schedule: Schedule) -> RunOutcome:
    """Regroup all people of the active release; a result that changes much is stored as a proposal."""
    # the parent and health checks need no faiss
    from worker.identity.proposals import regroup_people  # noqa: PLC0415
    from worker.identity.regroup import alarm_of  # noqa: PLC0415

    with database.sessions.begin() as session:
        active = find_active(session)
    result = "nothing was analysed yet"
    if active is not None:
        done = regroup_people(database.sessions, active.trunk_id, alarm_of(config))
        facts = {"action": "regrouped", "changed": done.changed, "proposal_id": done.proposal_id}
        logger.info("people were regrouped", extra=facts)
        result = f"{done.changed} of {done.appearances} appearances changed their person"
        if done.proposal_id is not None:
            logger.warning("regrouping waits as proposal %s: %s", done.proposal_id, done.reason, extra=facts)
            result = f"waits as proposal {done.proposal_id}: {done.reason}"
    note_upkeep(database.sessions, "regroup")
    return RunOutcome(result=result)


def _erase(config: Settings, database: Database, _schedule: Schedule) -> RunOutcome:
    """Erase due files for a while; more may be due as long as some were found."""
    began, erased = time.monotonic(), 0
    for receipt in make_eraser(config, database).erase_due(ERASE_SECONDS, again=False):
        facts = {"action": "erased", "media": len(receipt.media), "left": receipt.files.left}
        if receipt.media:
            logger.info("erased files whose time is over", extra=facts)
        erased += len(receipt.media)
    note_upkeep(database.sessions, "retention")
    if erased:
        return RunOutcome(result=f"files erased: {erased}", again_seconds=0)
    rest = min(MAX_REST_SECONDS, ERASURE_REST_FACTOR * (time.monotonic() - began))
    return RunOutcome(result="no file is due", rest_seconds=rest)
