"""The life of a release in a deployment at work, from training to retiring: nothing is lost and every sum holds.

One test, since each step needs the archive that the steps before it left: 300 files with named and corrected people, a
sabotaged release that the gate holds, a retrained one that beat's schedule fills in and activates while a worker is
killed and files come in, and the ways back.
"""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from db.engine import make_engine, session_factory
from db.server.embedded import EmbeddedPostgres
from models import manifest as manifests
from models.release import DEFAULT, write_release
from models.weights import read_weights
from tests.acceptance.made_faces import AGES, NAMES, SPLITS, write_labelled, write_photos
from tests.acceptance.story_checks import (
    ROWS,
    assert_changes_are_right,
    assert_diff_is_right,
    assert_only_ages_differ,
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session, sessionmaker

    from tests.acceptance.conftest import Facet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
FILES, LATE_FILES = 300, 24
LEASE_SECONDS = 6
LOOK_SECONDS = 3.0
STEP_SECONDS = 240  # a step takes some seconds; a busy machine takes many more

SHOWN = """
    SELECT face_id, age, age_low, age_high, gender, gender_confidence, ethnicity, emotion, person_id FROM faces
    WHERE dropped_reason IS NULL ORDER BY face_id"""
CORRECTIONS = "SELECT correction_id, kind, name, appearance_count, undone_at FROM corrections ORDER BY 1"
JOBS = "SELECT job_id FROM jobs WHERE submitted <> done + rejected + quarantined + cancelled + pending"
BATCHES = """
    SELECT u.unit_id, u.way, u.state, u.attempts, u.face_count FROM unit u
    WHERE u.stage = 'reprocess' AND u.job_id = :job ORDER BY 1"""


@dataclass
class Deployment:
    """A database, a broker, and the processes that a user would start."""

    facet: Facet
    sessions: sessionmaker[Session]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = self.facet.start(*words)
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        self.processes.remove(process)
        self.facet.kill(process)

    def ask(self, statement: str, **values: object) -> list[Any]:
        with self.sessions.begin() as session:
            result = session.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    def value(self, statement: str, **values: object) -> Any:
        ((found,),) = self.ask(statement, **values)
        return found

    def wait(self, statement: str, pause: float = 0.5, **values: object) -> None:
        """Wait until a query returns a row."""
        self.facet.wait_for(lambda: self.ask(statement, **values), STEP_SECONDS, pause)

    def shown(self) -> list[Any]:
        return self.ask(SHOWN)

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        outputs = [process.communicate(timeout=90)[0] for process in self.processes]
        assert not any("Traceback" in output for output in outputs), "".join(outputs)


@contextmanager
def deploy(facet: Facet, redis_url: str) -> Iterator[Deployment]:
    facet.databases.hold(facet.home)
    with EmbeddedPostgres(facet.home / "postgres") as server:
        facet.settings |= {
            "FACET_BROKER_URL": redis_url,
            "FACET_DATABASE_URL": server.url,
            "FACET_LEASE_SECONDS": str(LEASE_SECONDS),
        }
        engine = make_engine(server.url)
        deployment = Deployment(facet, session_factory(engine))
        try:
            yield deployment
            deployment.stop()
        finally:
            for process in deployment.processes:
                if process.poll() is None:
                    facet.kill(process)
            engine.dispose()


@dataclass(frozen=True)
class Ledger:
    """The invariants that hold after every step."""

    deployment: Deployment
    corrections: list[Any]
    names: list[Any]

    def check(self) -> None:
        """Check the sums while work may go on: jobs, corrections, names."""
        assert self.deployment.ask(JOBS) == []
        assert self.deployment.ask(CORRECTIONS) == self.corrections, "no correction is lost"
        assert named(self.deployment) == self.names, "names are kept"

    def check_at_rest(self) -> None:
        """Check also everything that holds when no work is open: kept totals against recounts, faces, crops."""
        self.check()
        self.deployment.facet("db", "check", "--rows")
        invariants = runpy.run_path(str(ROOT / "benchmarks" / "chaos_invariants.py"))
        assert invariants["broken"](self.deployment.sessions, self.deployment.facet.home / "crops") == []


def named(deployment: Deployment) -> list[Any]:
    return deployment.ask("SELECT person_id, name FROM people WHERE name IS NOT NULL ORDER BY 1")


@pytest.fixture
def training(tmp_path: Path) -> subprocess.Popen[str]:
    """Train the age branch on made faces, beside the first analysis."""
    write_labelled(tmp_path / "data", SPLITS, AGES)
    words = ["train", "frozen", "--head", "age", "--data", "data", "--cache", "cache", "--out", "out/ages"]
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "facet-train"), *words],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture
def sabotaged(tmp_path: Path) -> Path:
    """Return the shipped release with the weights of gender's last layer negated, and a verdict that knows nothing."""
    shipped = manifests.read_manifest(DEFAULT)
    weights = {name: read_weights(DEFAULT / name, sha256) for name, sha256 in shipped.files.items()}
    last = weights[manifests.branch_file("gender")]
    last |= {name: -last[name] for name in ("head.2.weight", "head.2.bias")}
    verdict = manifests.Verdict(
        base="default", base_fingerprint="", judged=1, worse=(), data=(), made_at="2026-11-28T00:00:00+00:00"
    )
    write_release(tmp_path / "sabotaged", replace(shipped, name="sabotaged", verdict=verdict, files={}), weights)
    return tmp_path / "sabotaged"


def test_a_retrained_branch_reaches_the_views_and_nothing_is_lost(
    facet: Facet, redis_url: str, tmp_path: Path, training: subprocess.Popen[str], sabotaged: Path
) -> None:
    with deploy(facet, redis_url) as deployment:
        worker = deployment.start("worker")
        deployment.start("beat")
        write_photos(tmp_path / "archive", range(FILES))
        facet("submit", tmp_path / "archive", "--wait")
        trained, _ = training.communicate(timeout=STEP_SECONDS)
        assert "worse than default in none" in trained, trained

        ledger = correct_people(deployment)
        before = deployment.shown()
        assert len(before) == FILES
        ledger.check_at_rest()

        schedule = add_schedule(deployment)
        facet("releases", "register", sabotaged, "--as", "candidate")
        keep_closed(deployment, schedule)
        open_window(deployment, schedule)
        hold(deployment, schedule)
        assert deployment.shown() == before, "a release that is held changes nothing"
        assert_diff_is_right(deployment, "default", "sabotaged", "gender")
        ledger.check_at_rest()
        facet("releases", "retire", "sabotaged")
        assert deployment.ask(ROWS + " AND c.task = 'gender'", name="sabotaged") == []
        assert deployment.shown() == before
        ledger.check_at_rest()

        facet("releases", "register", tmp_path / "out" / "ages", "--as", "candidate")
        job = kill_at_work(deployment, schedule, worker)
        ledger.check()
        write_photos(tmp_path / "late", range(FILES, FILES + LATE_FILES))
        facet("submit", tmp_path / "late")
        deployment.start("worker")
        catch_up(deployment, job)
        ledger.check()
        wait_looking(deployment, schedule, "SELECT 1 FROM release WHERE name = 'ages' AND active")
        deployment.wait(
            "SELECT 1 FROM schedules WHERE schedule_id = :id AND last_result LIKE '%is active'", id=schedule
        )

        after = deployment.shown()
        assert [row.face_id for row in after[:FILES]] == [row.face_id for row in before]
        assert len(after) == FILES + LATE_FILES
        assert_only_ages_differ(after[:FILES], before)
        assert_diff_is_right(deployment, "default", "ages", "age")
        assert_changes_are_right(deployment, "default")
        assert_history(deployment, schedule, job)
        ledger.check_at_rest()

        go_back_and_forth(deployment, ledger, before, after)


def correct_people(deployment: Deployment) -> Ledger:
    """Name the two people, split some of one off, and send one photo of the other away."""
    facet = deployment.facet
    people = {
        person: [row.appearance_id for row in deployment.ask(
            "SELECT appearance_id FROM appearances WHERE person_id = :person ORDER BY 1", person=person)]
        for person, _ in sorted(Counter(row.person_id for row in deployment.shown()).items())
    }  # fmt: skip
    assert sorted(map(len, people.values())) == [FILES // 3, FILES * 2 // 3]
    hopper, collins = sorted(people, key=lambda person: len(people[person]))
    facet("people", "name", str(collins), NAMES["collins"])
    facet("people", "name", str(hopper), NAMES["hopper"])
    facet("people", "split", str(collins), "--appearances", ",".join(map(str, people[collins][:3])))
    facet("people", "not", str(hopper), "--appearances", str(people[hopper][0]))
    ledger = Ledger(deployment, deployment.ask(CORRECTIONS), named(deployment))
    assert [row.kind for row in ledger.corrections] == ["name", "name", "split", "not"]
    assert [row.name for row in ledger.names] == [name for _, name in sorted(
        [(collins, NAMES["collins"]), (hopper, NAMES["hopper"])])]  # fmt: skip
    return ledger


def add_schedule(deployment: Deployment) -> int:
    """Add the schedule of the nights; its window is closed now."""
    now = datetime.now(UTC)
    window = f"{now + timedelta(hours=3):%H}:00-{now + timedelta(hours=6):%H}:00"
    deployment.facet("schedule", "add", "reprocess", "--window", window, "--then", "activate")
    return int(deployment.value("SELECT schedule_id FROM schedules WHERE kind = 'reprocess'"))


def wait_looking(deployment: Deployment, schedule: int, statement: str, pause: float = 0.5) -> None:
    """Wait until a query returns a row, while beat looks at a schedule at once instead of within its minutes."""
    due = time.monotonic()

    def happened() -> bool:
        nonlocal due
        if time.monotonic() >= due:
            deployment.ask("UPDATE schedule SET next_at = now() WHERE schedule_id = :id", id=schedule)
            due = time.monotonic() + LOOK_SECONDS
        return bool(deployment.ask(statement))

    deployment.facet.wait_for(happened, STEP_SECONDS, pause)


def keep_closed(deployment: Deployment, schedule: int) -> None:
    """Outside of the window a due schedule starts nothing."""
    deployment.ask("UPDATE schedule SET next_at = now() WHERE schedule_id = :id", id=schedule)
    deployment.wait("SELECT 1 FROM schedules WHERE schedule_id = :id AND next_at > now()", id=schedule)
    assert deployment.value("SELECT count(*) FROM jobs WHERE kind = 'reprocess'") == 0


def open_window(deployment: Deployment, schedule: int) -> None:
    """Turn the window to now, as the hours would."""
    now = datetime.now(UTC)
    deployment.ask(
        "UPDATE schedule SET window_from = :opens, window_to = :closes, next_at = now() WHERE schedule_id = :id",
        opens=(now - timedelta(hours=2)).time(), closes=(now + timedelta(hours=2)).time(), id=schedule,
    )  # fmt: skip


def hold(deployment: Deployment, schedule: int) -> None:
    """The sabotaged release is reprocessed in the window, and held by the gate for what it changes."""
    wait_looking(deployment, schedule, "SELECT 1 FROM schedules WHERE held_reason IS NOT NULL")
    ended = "SELECT 1 FROM jobs WHERE kind = 'reprocess' AND release = 'sabotaged' AND finished_at IS NOT NULL"
    assert deployment.ask(ended)
    reason = deployment.value("SELECT held_reason FROM schedules WHERE schedule_id = :id", id=schedule)
    assert "drift: gender, " in reason
    assert not any(name in reason for name in ("coverage", "corrections:", "verdict")), "drift alone holds it"
    assert "holds a release" in deployment.facet("status").stderr + deployment.facet("status").stdout
    assert deployment.value("SELECT name FROM release WHERE active") == "default"


def kill_at_work(deployment: Deployment, schedule: int, worker: subprocess.Popen[str]) -> int:
    """Kill the worker while it holds a batch of the retrained release; return the job."""
    leased = "SELECT 1 FROM unit WHERE stage = 'reprocess' AND state = 'leased'"
    wait_looking(deployment, schedule, leased, pause=0.02)
    deployment.kill(worker)
    job = int(deployment.value("SELECT job_id FROM jobs WHERE kind = 'reprocess' AND release = 'ages'"))
    batches = deployment.ask(BATCHES, job=job)
    assert [(one.way, one.face_count) for one in batches if one.state == "leased"] == [("crops", FILES)]
    assert {one.state for one in batches} <= {"leased", "pending"}, "nothing of the job was stored"
    return job


def catch_up(deployment: Deployment, job: int) -> None:
    """Another worker ends the job, together with the files that came in meanwhile."""
    deployment.wait("SELECT 1 FROM jobs WHERE job_id = :job AND finished_at IS NOT NULL", job=job)
    (state,) = deployment.ask("SELECT * FROM jobs WHERE job_id = :job", job=job)
    assert (state.done, state.rejected, state.quarantined, state.pending) == (state.submitted, 0, 0, 0)
    batches = deployment.ask(BATCHES, job=job)
    crops = [one for one in batches if one.way == "crops"]
    assert [one.face_count for one in crops] == [FILES, LATE_FILES], "new files are a batch of their own"
    assert crops[0].attempts == 2, "the batch of the killed worker was taken again"
    assert {one.state for one in batches} == {"done"}
    late = deployment.ask(
        """SELECT 1 FROM jobs n JOIN jobs r ON r.job_id = :job
           WHERE n.kind = 'submission' AND n.job_id > r.job_id AND n.done = :files
             AND n.finished_at BETWEEN r.submitted_at AND r.finished_at""",
        job=job, files=LATE_FILES,
    )  # fmt: skip
    assert late, "files were submitted and analysed while the job was at work"
    assert deployment.value("SELECT name FROM release WHERE active") == "default"


def assert_history(deployment: Deployment, schedule: int, job: int) -> None:
    history = json.loads(deployment.facet("releases", "show", "ages", "--json").stdout)["history"]
    assert [one["action"] for one in history] == ["register", "activate"]
    assert history[1]["reason"].startswith(f"schedule {schedule} (reprocess) after job {job}")
    assert history[1]["gate"]["open"] is True
    assert len(history[1]["gate"]["checks"]) == 4
    reports = {path.name for path in (deployment.facet.home / "reports").glob("*.html")}
    assert len(reports) == 2, "a report of each release"


def go_back_and_forth(deployment: Deployment, ledger: Ledger, before: list[Any], after: list[Any]) -> None:
    """Roll back, switch again through the gate, and retire the old release."""
    facet = deployment.facet
    facet("releases", "rollback", "--reason", "children look older")
    assert deployment.shown()[: len(before)] == before
    ledger.check_at_rest()
    facet("releases", "activate", "ages", "--reason", "they do not")
    assert deployment.shown() == after
    ledger.check_at_rest()
    faces = deployment.value("SELECT count(*) FROM face")
    assert len(rows_of(deployment, "default", "age")) == len(after)
    facet("releases", "retire", "default")
    assert rows_of(deployment, "default", "age") == {}, "its own rows are freed"
    assert deployment.value("SELECT count(*) FROM face") == faces, "what both share stays"
    assert deployment.shown() == after
    assert facet("releases", "rollback", status=2).stderr
    assert deployment.value("SELECT name FROM release WHERE active") == "ages"
    ledger.check_at_rest()
