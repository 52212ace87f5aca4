"""Users of ``chaos.py``: they submit, cancel, erase, correct and regroup while workers run and faults happen.

They work on files of their own ("volatile" ones), so that the others can be compared with an undisturbed run. Each is a
thread with the program's own functions; a database that is away is waited for, anything else unexpected is a loss.
"""

from __future__ import annotations

import random
import threading
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.engine import make_engine, session_factory
from worker.decode.client import Decoder
from worker.erasure.erase import Eraser
from worker.erasure.files import FileStores
from worker.errors import FacetError, RetryableError
from worker.identity import correct
from worker.identity.proposals import apply_proposal, discard_proposal, read_proposals, regroup_people
from worker.identity.regroup import Alarm
from worker.ingest import IngestOptions, discover
from worker.ledger.releases import Switch
from worker.ledger.submission.cancel import cancel_job
from worker.ledger.submission.job import Submission
from worker.ledger.submission.prober import FileProber
from worker.ledger.submission.submit import submit
from worker.releases.switching import roll_back, switch_release
from worker.reprocess.plan import plan
from worker.reprocess.request import ReprocessRequest, write_job
from worker.storage.crops import CropStore
from worker.storage.database import is_unreachable
from worker.storage.sources import Sources
from worker.storage.transactions import run_transaction
from worker.types import DecodeLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos_deployment import Deployment
    from sqlalchemy import TextClause
    from sqlalchemy.orm import Session, sessionmaker

    from worker.ledger.releases import ReleaseIds

    Sessions = sessionmaker[Session]
    Act = Callable[["User"], str]

VOLATILE = "volatile"
"""Name of the users' jobs."""
END_SECONDS = 180.0  # for the last act of each user; a regrouping may wait for the lock of people
_VOLATILE_PEOPLE = text("""
    SELECT person_id FROM facet.appearance WHERE person_id IS NOT NULL GROUP BY person_id
    HAVING bool_and(media_id = ANY (SELECT media_id FROM facet.job_item JOIN facet.job USING (job_id)
                                    WHERE job.name = :name)) ORDER BY 1""")


@dataclass(slots=True)
class Log:
    """Counts of acts by outcome, and the losses with their tracebacks."""

    acts: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, act: str, end: str) -> None:
        """Count an act that ended as expected."""
        with self._lock:
            self.acts[f"{act}: {end}"] += 1

    def lose(self, act: str, error: BaseException) -> None:
        """Record an outcome that no user should see."""
        with self._lock:
            self.acts[f"{act}: LOST"] += 1
            self.losses.append(f"{act}: {''.join(traceback.format_exception(error))[-3000:]}")

    def watch(self, act: str, run: Callable[[], str]) -> None:
        """Run an act and count how it ended: refusals and an unreachable database are normal outcomes."""
        try:
            self.count(act, run())
        except RetryableError as err:
            self.lose(act, err) if "deadlock" in str(err) else self.count(act, "away or busy")
        except FacetError:
            self.count(act, "refused")  # another user was first
        except DBAPIError as err:
            self.count(act, "away or busy") if is_unreachable(err) else self.lose(act, err)
        except Exception as err:  # noqa: BLE001 - every error belongs into the report
            self.lose(act, err)


@dataclass(frozen=True, slots=True)
class User:
    """One thread's own connection, chance and stores."""

    sessions: Sessions
    chance: random.Random
    files: tuple[Path, ...]
    stores: FileStores
    releases: tuple[ReleaseIds, ...]
    """The release that files are analysed under, and one that reads its scores otherwise."""


@dataclass(slots=True)
class Crowd:
    """Users who act at the same time, as long as the context lasts."""

    acts: tuple[tuple[Act, float], ...]
    """The acts of each user, and the mean pause between two of them in seconds."""
    make_user: Callable[[int], User]
    """By the number of the user, in its thread."""
    log: Log = field(default_factory=Log)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for number, (act, pause) in enumerate(self.acts):
            thread = threading.Thread(target=self._live, args=(act, pause, number), name=act.__name__, daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(END_SECONDS)
            if thread.is_alive():
                self.log.losses.append(f"{thread.name} did not come back within {END_SECONDS:.0f} s")

    def _live(self, act: Act, pause: float, number: int) -> None:
        user = self.make_user(number)
        while not self._stop.wait(user.chance.uniform(0, 2 * pause)):
            self.log.watch(act.__name__, lambda: act(user))


def user_of(deployment: Deployment, files: tuple[Path, ...], seed: int) -> User:
    """Return a user of a deployment."""
    sessions = session_factory(make_engine(deployment.postgres.url))
    home = Path(deployment.environment["FACET_HOME"])
    stores = FileStores(CropStore(str(home / "crops")), home / "staging")
    return User(sessions, random.Random(seed), files, stores, (deployment.release(), deployment.variant()))


def submitting(user: User) -> str:
    """Submit some of the volatile files, at one rate or another, some with a time to keep them."""
    chance = user.chance
    films = [path for path in user.files if path.suffix == ".mp4"]
    stills = [path for path in user.files if path.suffix != ".mp4"]
    chosen = chance.sample(films, chance.randrange(0, 3)) + chance.sample(stills, chance.randrange(1, 12))
    submission = Submission(
        name=VOLATILE,
        release=user.releases[0],
        frames_per_second=chance.choice([2.0, 2.0, 1.0]),
        unit_seconds=2.0,
        priority=chance.choice([0, 0, 1]),
        keep_days=chance.choice([None, None, None, 1]),
    )
    found = discover([str(path) for path in chosen], IngestOptions(), user.stores.staging)
    with Decoder(DecodeLimits(memory_bytes=2 << 30, wall_seconds=60)) as decoder:
        prober = FileProber(decoder, Sources(staging=user.stores.staging))
        submit(user.sessions, prober.remember(found), submission, prober)
    return "submitted"


def cancelling(user: User) -> str:
    """Cancel a volatile job that has not ended."""
    statement = text("SELECT job_id FROM facet.jobs WHERE name = :name AND pending > 0 ORDER BY random() LIMIT 1")
    with user.sessions.begin() as session:
        job_id = session.execute(statement, {"name": VOLATILE}).scalar()
    if job_id is None:
        return "nothing waits"
    cancel_job(user.sessions, int(job_id))
    return "cancelled"


def erasing(user: User) -> str:
    """Erase volatile files or a person who is in no other file, or files that are due."""
    eraser, chance = Eraser(user.sessions, user.stores), user.chance
    kind = chance.choice(["media", "person", "due", "files"])
    if kind == "media":
        statement = text("""SELECT DISTINCT media_id FROM facet.job_item JOIN facet.job USING (job_id)
                            WHERE job.name = :name ORDER BY 1""")
        found = _numbers(user, statement)
        if found:
            eraser.erase_media([str(one) for one in chance.sample(found, min(2, len(found)))])
    elif kind == "person":
        found = _numbers(user, _VOLATILE_PEOPLE)
        if found:
            eraser.erase_person(chance.choice(found))
    elif kind == "due":
        with user.sessions.begin() as session:
            session.execute(
                text("""UPDATE facet.job SET submitted_at = submitted_at - interval '2 days'
                        WHERE keep_days IS NOT NULL AND random() < 0.2""")
            )
        list(eraser.erase_due(10))
    else:
        eraser.finish_files()
    return kind


def correcting(user: User) -> str:
    """Name, merge, split, deny or undo."""
    statement = text("SELECT DISTINCT person_id FROM facet.appearances WHERE person_id IS NOT NULL ORDER BY 1")
    people = _numbers(user, statement)
    if not people:
        return "nobody yet"
    kind = user.chance.choice(["name", "merge" if len(people) > 1 else "split", "split", "not", "undo"])
    run_transaction(user.sessions, "correct", lambda session: _correct(session, user.chance, people, kind))
    return kind


def _correct(session: Session, chance: random.Random, people: list[int], kind: str) -> None:
    if kind == "name":
        correct.name_people(
            session, [correct.NewName(chance.choice(people), chance.choice(["Ada", "Bo", "Eve", "Dan"]))]
        )
    elif kind == "merge":
        correct.merge_people(session, chance.sample(people, 2))
    elif kind == "undo":
        correct.undo_correction(session)
    else:
        person = chance.choice(people)
        statement = text("SELECT appearance_id FROM facet.appearances WHERE person_id = :person ORDER BY 1")
        theirs = list(session.scalars(statement, {"person": person}))
        if len(theirs) > 1:
            change = correct.split_person if kind == "split" else correct.not_person
            change(session, person, chance.sample(theirs, max(1, len(theirs) // 4)))


def regrouping(user: User) -> str:
    """Regroup all people, and decide about open proposals."""
    alarm = Alarm(share=user.chance.choice([0.0, 0.5, 1.0]), floor=user.chance.choice([0, 1000]))
    done = regroup_people(user.sessions, user.releases[0].trunk_id, alarm)
    with user.sessions.begin() as session:
        waiting = read_proposals(session)
    if waiting and user.chance.random() < 0.7:
        decide = user.chance.choice([apply_proposal, discard_proposal])
        run_transaction(user.sessions, "regroup", lambda session: decide(session, waiting[0].proposal_id))
        return decide.__name__
    return "applied" if done.proposal_id is None else "waits"


def reprocessing(user: User) -> str:
    """Fill in what one of the releases lacks, of some heads or files or of all; some of these jobs are cancelled."""
    chance = user.chance
    release = chance.choice(user.releases)
    request = ReprocessRequest(
        release_id=release.release_id,
        tasks=chance.choice([None, ("gender",), ("age", "emotion")]),
        media=chance.choice([None, None, "*.mp4"]),
        priority=chance.choice([0, 0, 1]),
        speed=chance.choice(["normal", "full"]),
    )
    with user.sessions.begin() as session:
        job_id = write_job(session, request, "fill in")
    run_transaction(user.sessions, "plan", lambda session: plan(session, job_id))
    if chance.random() < 0.2:
        cancel_job(user.sessions, job_id)
        return "cancelled"
    return "begun"


def switching(user: User) -> str:
    """Switch the views to one of the releases, or back."""
    if user.chance.random() < 0.4:
        roll_back(user.sessions, "chaos")
        return "rolled back"
    wanted = str(user.chance.choice(user.releases).release_id)
    switch_release(user.sessions, wanted, Switch(reason="chaos", forced=True))
    return "switched"


def looking(user: User) -> str:
    """Check the invariants that hold at every moment."""
    with user.sessions.begin() as session:
        wrong = session.execute(
            text("""SELECT job_id FROM facet.jobs
                    WHERE submitted <> done + rejected + quarantined + cancelled + pending""")
        ).all()
        doubled = session.execute(
            text("""SELECT media_id FROM facet.analysis WHERE is_current
                    GROUP BY media_id, finder_id HAVING count(*) > 1""")
        ).all()
    if wrong or doubled:
        raise AssertionError(f"jobs that do not add up: {wrong}; files with two current analyses: {doubled}")
    return "adds up"


ACTS: tuple[tuple[Act, float], ...] = (
    (submitting, 2.0), (submitting, 2.0), (cancelling, 4.0), (erasing, 4.0), (correcting, 2.0), (correcting, 2.0),
    (regrouping, 8.0), (reprocessing, 6.0), (switching, 6.0), (looking, 1.0),
)  # fmt: skip
"""The acts of concurrent users, and the mean pause between two of them in seconds."""


def _numbers(user: User, statement: TextClause) -> list[int]:
    with user.sessions.begin() as session:
        return [int(one) for one in session.scalars(statement, {"name": VOLATILE})]
