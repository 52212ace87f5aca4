"""A load test of the ledger: generated faces, no model, hundreds of transactions a second.

    .venv/bin/python benchmarks/storm.py [--seconds 300] [--seed 0]

Four processes store units of the same videos under one release and one under another; they shuffle their units, fail,
crash, lose mounts, sleep beyond leases and kill themselves. At the same time users submit overlapping files at several
rates, cancel, erase, correct, regroup and activate releases. Then everything is let end, and what must always hold is
checked (``chaos_invariants.py``). ``chaos.py`` does the same with the real program and real media; this one has a
hundred times as many transactions. Ends with status 1 if anything was lost or does not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import multiprocessing
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from chaos_actors import (
    VOLATILE,
    Crowd,
    User,
    cancelling,
    correcting,
    erasing,
    looking,
    regrouping,
)
from chaos_invariants import broken
from made_release import register_made
from sqlalchemy import text
from storm_workers import UNIT_SECONDS, MadeProber, Setting, StormyWorker, keep_alive

from db.engine import make_engine, session_factory
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from worker.erasure.erase import Eraser
from worker.erasure.files import FileStores
from worker.identity.identifier import show_release
from worker.ingest import FoundFile, RefusedFile
from worker.ledger.submission.job import Submission
from worker.ledger.submission.submit import submit
from worker.ledger.upkeep.crop_walk import walk_crops
from worker.storage.crops import CropStore
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from chaos_actors import Sessions

    from worker.ledger.releases import ReleaseIds
    from worker.types import MediaKind

SETTLE_SECONDS = 300.0


def submitting(user: User) -> str:
    """Submit some of the made files; jobs overlap in files, rates and releases."""
    chance = user.chance
    kind: MediaKind = chance.choice(["image", "image", "video"])
    first, count = (chance.randrange(300), chance.randrange(1, 60)) if kind == "image" else (chance.randrange(16), 3)
    items: list[FoundFile | RefusedFile] = [
        FoundFile(f"/{kind}/{number}", f"/{kind}/{number}", sha_of(kind, number), kind, "made", 1)
        for number in range(first, first + count)
    ]
    if chance.random() < 0.3:
        items.append(RefusedFile(f"/refused/{chance.randrange(20)}", "not_media", "made"))
    chance.shuffle(items)
    submission = Submission(
        name=VOLATILE,
        release=chance.choice(user.releases),
        frames_per_second=chance.choice([2.0, 2.0, 1.0, None]),
        unit_seconds=UNIT_SECONDS,
        priority=chance.choice([0, 0, 0, 1]),
        keep_days=chance.choice([None, None, 1]),
    )
    submit(user.sessions, items, submission, MadeProber())
    return "submitted"


def activating(user: User) -> str:
    """Switch the views to another release."""
    wanted = str(user.chance.choice(user.releases).release_id)
    run_transaction(user.sessions, "activate", lambda session: show_release(session, wanted))
    return "activated"


ACTS = (
    (submitting, 0.2), (submitting, 0.2), (cancelling, 1.0), (erasing, 0.5), (erasing, 0.5), (correcting, 0.4),
    (correcting, 0.4), (regrouping, 2.0), (activating, 4.0), (looking, 0.5),
)  # fmt: skip


def sha_of(kind: str, number: int) -> str:
    """Return the hash of a made file."""
    return hashlib.sha256(f"{kind} {number}".encode()).hexdigest()


def make_releases(url: str) -> tuple[ReleaseIds, ReleaseIds]:
    """Register two releases; the first is active."""
    engine = make_engine(url)
    first, second = (register_made(session_factory(engine), name) for name in ("one", "two"))
    engine.dispose()
    return first, second


def settle(url: str, crops: str, staging: Path, releases: tuple[ReleaseIds, ReleaseIds]) -> int:
    """Wait for all work, without accidents, and run upkeep; returns the strips that its walk removed."""
    sessions = session_factory(make_engine(url))
    with sessions.begin() as session:
        session.execute(text("UPDATE facet.unit SET lease_until = now() - interval '1 s' WHERE state = 'leased'"))
        session.execute(text("UPDATE facet.unit SET not_before = NULL WHERE state = 'pending'"))
    until = time.monotonic() + SETTLE_SECONDS
    for release in releases:
        worker = StormyWorker(Setting(url, crops, release, 0))
        worker.accidents = False
        while time.monotonic() < until:
            worker.reconcile()
            if not worker.drain(until) and not waiting(sessions, release.release_id):
                break
        worker.finish()
        run_transaction(sessions, "activate", partial(show_release, wanted=str(release.release_id)))
    Eraser(sessions, FileStores(CropStore(crops), staging)).finish_files()
    return walk_crops(sessions, CropStore(crops), math.inf)


def waiting(sessions: Sessions, release_id: int) -> bool:
    """Return whether a unit of a release has not ended."""
    statement = text("SELECT EXISTS (SELECT FROM facet.unit WHERE release_id = :id AND state IN ('pending', 'leased'))")
    with sessions.begin() as session:
        return bool(session.execute(statement, {"id": release_id}).scalar_one())


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a storm."""

    acts: Counter[str]
    losses: list[str]
    broken: list[str]
    counts: dict[str, int]
    deadlocks: int


def storm(folder: Path, server: EmbeddedPostgres, seconds: float, seed: int) -> Outcome:
    """Run a storm to its end and check the result."""
    url, crops, staging = server.url, str(folder / "crops"), folder / "staging"
    Path(crops).mkdir()
    staging.mkdir()
    upgrade(url)
    releases = make_releases(url)
    context = multiprocessing.get_context("fork")
    stop, told = context.Event(), context.Queue()
    settings = [Setting(url, crops, releases[number == 4], seed * 100 + number) for number in range(5)]
    processes = [context.Process(target=keep_alive, args=(setting, stop, told)) for setting in settings]
    for process in processes:
        process.start()

    def user(number: int) -> User:
        sessions = session_factory(make_engine(url))
        chance = random.Random(seed * 1000 + number)
        return User(sessions, chance, (), FileStores(CropStore(crops), staging), releases)

    with Crowd(ACTS, user) as crowd:
        time.sleep(seconds)
    stop.set()
    reports = [told.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    walked = settle(url, crops, staging, releases)
    losses = crowd.log.losses + [loss for loss in reports if loss]
    acts = crowd.log.acts + Counter({"upkeep: strips of killed attempts removed by the walk": walked})
    return look(url, crops, acts, losses)


def look(url: str, crops: str, acts: Counter[str], losses: list[str]) -> Outcome:
    """Check the invariants, and count."""
    engine = make_engine(url)
    tables = ("job", "analysis", "unit", "face", "appearance", "person", "correction")
    with engine.begin() as connection:
        counts = {
            table: int(connection.execute(text(f"SELECT count(*) FROM facet.{table}")).scalar_one()) for table in tables
        }
        deadlocks = connection.execute(
            text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        ).scalar_one()
    wrong = broken(session_factory(engine), Path(crops))
    engine.dispose()
    return Outcome(acts, losses, wrong, counts, int(deadlocks))


def main() -> None:
    """Run a storm and print a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with EmbeddedPostgres(folder / "postgres") as server:
            outcome = storm(folder, server, arguments.seconds, arguments.seed)
    print(
        "| users | times |\n|---|---|",
        *(f"| {act} | {count} |" for act, count in sorted(outcome.acts.items())),
        sep="\n",
    )
    print("\n" + ", ".join(f"{count:,} {table}s" for table, count in outcome.counts.items()))
    print(f"\n{outcome.deadlocks} deadlocks, {len(outcome.losses)} losses")
    print(*outcome.losses[:10], sep="\n")
    print(*(outcome.broken or ["everything holds that must hold"]), sep="\n")
    sys.exit(bool(outcome.losses or outcome.broken))


if __name__ == "__main__":
    main()
