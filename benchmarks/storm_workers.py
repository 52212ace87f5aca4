"""Workers of ``storm.py``: they work as real ones do, with generated faces, and have accidents."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from chaos_actors import (
    Log,
)

from db.bulk.codes import encode_softmax
from db.engine import make_engine, session_factory
from models.branches import BranchSpec
from worker.analysis.results import StoredFaces, UnitResult
from worker.analysis.store.finisher import Finisher
from worker.analysis.store.writer import Writer, WriterContext
from worker.errors import DecoderCrashed, MediaRejected, MediaUnreachable
from worker.identity.identifier import Identifier
from worker.ledger import analyses
from worker.ledger import units as ledger
from worker.ledger.leases import LeaseHolder, make_owner
from worker.ledger.releases import HeadSpec
from worker.ledger.unreachable.places import UnreachablePlaces
from worker.ledger.upkeep.orphans import remove_orphans
from worker.storage.crops import CropStore
from worker.storage.transactions import run_transaction
from worker.types import HeadRows, MediaInfo, MediaKind

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event as StopEvent

    from worker.ledger.releases import ReleaseIds
    from worker.ledger.units import LeasedUnit

UNIT_SECONDS = 2.0
FILM_SECONDS = 44  # 22 units
LEASE_SECONDS = 6.0
MAX_ATTEMPTS = 5
PEOPLE = 40
FRAMES = 8  # of a unit of a video
GENDER = BranchSpec(task="gender", kind="softmax", labels=("female", "male"), depths=("embedding",), abstain=0.5)
HEADS = {"gender": HeadSpec(GENDER)}


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings of a process that takes part."""

    url: str
    crops: str
    release: ReleaseIds
    seed: int


class Accident(Exception):
    """A failure of a batch that none of its files causes."""


class MadeProber:
    """Probes generated files."""

    def probe(self, location: str, kind: MediaKind) -> MediaInfo:  # noqa: ARG002 - as the protocol has it
        """Return the format, size and length of a file."""
        return MediaInfo(
            kind=kind, format="made", width=640, height=360, duration_seconds=FILM_SECONDS if kind == "video" else None,
            frames_per_second=25.0 if kind == "video" else None,
        )  # fmt: skip


def made_faces(unit: LeasedUnit) -> StoredFaces:
    """Return the faces of a unit: the same in every process."""
    centres = np.random.default_rng(5).normal(size=(PEOPLE, 128))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    file = np.random.default_rng(int(unit.sha256[:12], 16))
    who = file.integers(0, PEOPLE, size=1 + int(file.integers(0, 3)))
    frames = 1 if unit.kind == "image" else FRAMES
    count = frames * len(who)
    chance = np.random.default_rng(int(unit.sha256[:12], 16) + 7919 * unit.ordinal)
    embeddings = np.repeat(centres[who][None], frames, 0).reshape(count, 128)
    embeddings = embeddings + 0.03 * chance.normal(size=(count, 128))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    frame = np.repeat(np.arange(frames), len(who))
    start = unit.start_seconds or 0.0
    shares = np.tile([[0.7, 0.3]], (count, 1)).astype(np.float32)
    return StoredFaces(
        frame_index=(np.int64(start * 1000) + frame).astype(np.int64),
        at_seconds=start + frame * (UNIT_SECONDS / FRAMES),
        boxes=np.array([[100.0 * place, 0, 100.0 * place + 80, 80] for place in range(len(who))] * frames, np.float32),
        landmarks=np.zeros((count, 5, 2), np.float32),
        scores=np.full(count, 0.9, np.float32),
        quality=np.full(count, 0.8, np.float32),
        dropped=(None,) * count,
        embeddings=embeddings.astype(np.float32),
        heads={"gender": HeadRows(GENDER.labels, shares, codes=encode_softmax(np.log(shares)))},
        hold_seconds=np.full(count, UNIT_SECONDS / FRAMES),
        frame_size=(640, 360),
    )


def result_of(unit: LeasedUnit) -> UnitResult:
    """Return a complete result of a unit."""
    faces = made_faces(unit)
    info = MadeProber().probe(unit.location, unit.kind)
    frames = len(np.unique(faces.frame_index))
    return UnitResult(unit=unit, frame_count=frames, info=info, faces=(faces,))


class StormyWorker:
    """Works as ``worker.analysis.runner.Worker`` does, with made faces, and has accidents.

    Args:
        setting: of this process.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._chance = random.Random(setting.seed)
        self._sessions = session_factory(make_engine(setting.url))
        self._crops = CropStore(setting.crops)
        self._identifier = Identifier(self._sessions, setting.release.trunk_id)
        self._lease = ledger.Lease(
            owner=make_owner(),
            release_id=setting.release.release_id,
            seconds=LEASE_SECONDS,
            max_attempts=MAX_ATTEMPTS,
        )
        self._unreturned: list[LeasedUnit] = []
        self.accidents = True

    def reconcile(self) -> None:
        """End the units and analyses of dead workers."""
        given_up = run_transaction(
            self._sessions, "quarantine", lambda session: ledger.quarantine_exhausted(session, self._lease)
        )
        with self._sessions() as session:
            forgotten = analyses.read_unsettled(session, self._setting.release.release_id)
        for analysis_id in forgotten:
            run_transaction(self._sessions, "end", partial(analyses.end_analysis, analysis_id=analysis_id))
        remove_orphans(self._sessions, self._crops, given_up + forgotten)

    def drain(self, until: float) -> int:
        """Take and end units until none is due or the time is over; returns how many."""
        done = 0
        with LeaseHolder(
            self._sessions, self._lease, unreachable=UnreachablePlaces(), unreturned=self._unreturned
        ) as leases:
            context = WriterContext(self._sessions, leases, self._crops, self._setting.release, HEADS, MAX_ATTEMPTS)
            with Writer(context) as writer, Finisher(context) as finisher:
                while time.monotonic() < until and (units := self._take(leases, finisher)):
                    self._chance.shuffle(units)
                    for unit in units:
                        if unit.stage == "finish":
                            finisher.submit(unit)
                        else:
                            self._analyse(unit, writer)
                        done += 1
                    self._identifier.tick()
                writer.wait()
                while finisher.is_busy:
                    time.sleep(0.01)
        return done

    def _take(self, leases: LeaseHolder, finisher: Finisher) -> list[LeasedUnit]:
        units = leases.take(4, videos=3, finish=not finisher.is_busy)
        waited = time.monotonic()
        while not units and len(leases) and time.monotonic() < waited + 2 * LEASE_SECONDS:
            time.sleep(0.02)
            units = leases.take(4, videos=3, finish=not finisher.is_busy)
        return units

    def _analyse(self, unit: LeasedUnit, writer: Writer) -> None:
        if self.accidents:
            time.sleep(self._chance.uniform(0, 0.03))
            failed = self._accident(unit)
            if failed is not None:
                writer.store(failed) if isinstance(failed.error, MediaRejected) else writer.fail(failed)
                return
        result = result_of(unit)
        writer.add_crops(unit, 0, np.zeros((result.face_count, 8, 8, 3), np.uint8))
        writer.store(result)

    def _accident(self, unit: LeasedUnit) -> UnitResult | None:
        fate = self._chance.random()
        if fate < 0.004:
            os.kill(os.getpid(), 9)
        if fate < 0.008:
            raise Accident
        if fate < 0.012:
            time.sleep(LEASE_SECONDS * 1.2)  # the heartbeat goes on: it holds its leases
        errors = ((0.024, DecoderCrashed("crashed", "made")), (0.034, MediaUnreachable("/nowhere", "made")))
        error = next((error for limit, error in errors if 0.012 <= fate < limit), None)
        if error is None and 0.034 <= fate < 0.04 and unit.kind == "image":
            error = MediaRejected("corrupt", "made")
        return None if error is None else UnitResult(unit=unit, frame_count=0, error=error)

    def finish(self) -> None:
        """Identify everything."""
        self._identifier.finish()


def live(setting: Setting, stop: StopEvent, told: multiprocessing.Queue[str]) -> None:
    """Be a worker until told to stop, or until it kills itself."""
    worker, log = StormyWorker(setting), Log()

    def once() -> str:
        worker.reconcile()
        try:
            worker.drain(time.monotonic() + 8)
        except Accident:
            return "a batch failed"
        return "drained"

    while not stop.is_set():
        log.watch("working", once)
        time.sleep(0.1)
    told.put("\n".join(log.losses))


def keep_alive(setting: Setting, stop: StopEvent, told: multiprocessing.Queue[str]) -> None:
    """Start a worker again whenever it has killed itself."""
    number = 0
    while not stop.is_set():
        seed = setting.seed * 1000 + number
        process = multiprocessing.get_context("fork").Process(
            target=live, args=(replace(setting, seed=seed), stop, told)
        )
        process.start()
        process.join()
        number += 1
        if stop.is_set() and process.exitcode:
            told.put("")  # it killed itself at the very end without a report
