"""Faults at random moments and users who interfere, and then the same rows as without them.

    make chaos                     (or: .venv/bin/python benchmarks/chaos.py [--faults 100] [--seed 0] [--workers 4])

Makes an archive of public-domain portraits (cropped, turned, relit), of videos with 22 units each, of archives and
damaged files. Analyses it undisturbed, and then again with a Redis, a PostgreSQL, a beat and four workers that share
the videos, while at random moments one of these happens: a worker or its process is killed, a decode child is killed,
Redis is killed (and comes back with or without its data), PostgreSQL is killed, a worker sleeps beyond its lease,
messages are dropped or doubled. Whoever is dead is started again, as a supervisor would. At the same time users submit,
cancel and erase files of their own, correct people, regroup, reprocess what one of two releases lacks, and switch the
views between them (``chaos_actors.py``).

At the end every unit must have ended, what must always hold must hold (``chaos_invariants.py``), nobody may have lost
work to a deadlock, and files, units, frames and faces must be those of the undisturbed run: of all files that users
left alone, and of those that they cancelled or submitted at other rates and did not erase. The network rounds by the
batch in which a face happens to be, so a face counts as the same where its box lies within BOX_PIXELS and its embedding
within COSINE; one whose decision stood on a threshold's edge may differ and is counted apart. Ends with status 1 if
anything is missing, doubled or different.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from chaos_actors import ACTS, VOLATILE, Crowd, user_of
from chaos_content import Content, compare, connect, read_content, without_erased
from chaos_deployment import FACET, Deployment
from chaos_faults import FAULTS
from chaos_files import UNIT_SECONDS, BatchSize, make_batch, portraits
from chaos_invariants import broken

from db.engine import make_engine, session_factory
from db.server.embedded import EmbeddedPostgres

QUIET_SECONDS = 900.0  # from the last fault until everything must be done
FEW_UNITS = 60  # fewer than these waiting: the next batch is submitted
STEADY = BatchSize(stills=100, films=6)
USERS = BatchSize(stills=40, films=4)


def waiting_units(url: str) -> int | None:
    """Count the units that have not ended; None where PostgreSQL does not answer."""
    try:
        with connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM facet.unit WHERE state IN ('pending', 'leased')").fetchone()
            return int(row[0]) if row else 0
    except psycopg.Error:
        return None


@dataclass(frozen=True, slots=True)
class Files:
    """Folders of the generated archives."""

    folder: Path

    @property
    def users(self) -> Path:
        """The files that users submit, cancel and erase."""
        return self.folder / VOLATILE

    def batch(self, number: int) -> Path:
        """Return a batch that users leave alone, created at the first call."""
        folder = self.folder / f"{number}"
        if not folder.exists():
            make_batch(folder, number, portraits()[:1], STEADY)
        return folder

    def make_users(self) -> tuple[Path, ...]:
        """Create the files of the users, with another person, whom they may erase."""
        if not self.users.exists():
            make_batch(self.users, 1_000_003, portraits()[-1:], USERS)
        return tuple(sorted(self.users.iterdir()))


def campaign(deployment: Deployment, files: Files, faults: int, seed: int) -> tuple[Counter[str], int]:
    """Cause faults while there is work, and submit more when there is none; returns the faults and the batches used."""
    chance, done, number = random.Random(seed), Counter[str](), 0
    while done.total() < faults:
        deployment.keep_up()
        waiting = waiting_units(deployment.postgres.url)
        if waiting is not None and waiting < FEW_UNITS:
            if deployment.facet("submit", str(files.batch(number)), "--name", str(number)).returncode in {0, 1}:
                number += 1
            continue
        time.sleep(chance.uniform(0.5, 4.0))
        if happened := chance.choice(FAULTS)(deployment, chance):
            done[happened] += 1
            print(f"{done.total():4} {happened}; {waiting} units wait", flush=True)
    return done, number


def settle(deployment: Deployment) -> float:
    """Wait until everything is done, without faults; returns the seconds."""
    started = time.monotonic()
    while waiting_units(deployment.postgres.url) != 0 or unplaced(deployment.postgres.url):
        deployment.keep_up()
        time.sleep(1)
        if time.monotonic() - started > QUIET_SECONDS:
            print(f"NOT DONE after {QUIET_SECONDS:.0f} s without a fault")
            break
    return time.monotonic() - started


def unplaced(url: str) -> bool:
    """Return whether an appearance has no person yet, or an erasure left files."""
    with connect(url) as connection:
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM facet.appearance JOIN facet.analysis USING (analysis_id) "
            "WHERE is_current AND person_id IS NULL AND embedding IS NOT NULL)"
        ).fetchone()
        return bool(row and row[0])


def conclude(deployment: Deployment, files: Files) -> float:
    """Wait for all work, then submit the users' files again, so that cancelled ones are analysed as well."""
    seconds = settle(deployment)
    deployment.facet("submit", str(files.users), "--name", "the last one")
    seconds += settle(deployment)
    deployment.facet("releases", "activate", str(deployment.release().release_id), "--force", "--reason", "the end")
    for release in (deployment.release(), deployment.variant()):
        deployment.facet("reprocess", "--release", str(release.release_id), "--wait")
    seconds += settle(deployment)
    deployment.facet("forget", "--due", "--yes")
    return seconds


def undisturbed(folder: Path, archives: list[Path]) -> Content:
    """Analyse the same archives in one process, without a broker."""
    with EmbeddedPostgres(folder / "postgres") as server:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")} | {
            "FACET_HOME": str(folder / "home"),
            "FACET_DATABASE_URL": server.url,
            "FACET_READER_DATABASE_URL": server.reader_url,
            "FACET_UNIT_SECONDS": str(UNIT_SECONDS),
        }
        subprocess.run([FACET, "db", "upgrade"], env=environment, check=True, capture_output=True)
        for archive in archives:
            subprocess.run([FACET, "analyze", str(archive)], env=environment, check=False, capture_output=True)
        return read_content(server.url)


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a campaign."""

    faults: Counter[str]
    batches: int
    seconds: float
    quiet_seconds: float
    users: Counter[str]
    losses: list[str]
    deadlocks: list[str]
    """Return lines of PostgreSQL's log; each was retried, or is a loss."""
    broken: list[str]
    found: Content


def disturb(folder: Path, files: Files, arguments: argparse.Namespace) -> Report:
    """Run the campaign to its end."""
    deployment = Deployment(folder, arguments.workers)
    started = time.monotonic()
    try:
        deployment.keep_up()
        deployment.facet("db", "upgrade")
        deployment.keep_up()  # workers end where there are no tables yet
        deployment.add_variant()
        paths = files.make_users()
        with Crowd(ACTS, lambda number: user_of(deployment, paths, arguments.seed * 1000 + number)) as crowd:
            done, batches = campaign(deployment, files, arguments.faults, arguments.seed)
            seconds = time.monotonic() - started
        quiet = conclude(deployment, files)
        deployment.stop_workers()
        engine = make_engine(deployment.postgres.url)
        wrong = broken(session_factory(engine), Path(deployment.environment["FACET_HOME"]) / "crops")
        engine.dispose()
        return Report(
            faults=done,
            batches=batches,
            seconds=seconds,
            quiet_seconds=quiet,
            users=crowd.log.acts,
            losses=crowd.log.losses + deployment.log_lines("met a deadlock"),
            deadlocks=deployment.log_lines("deadlock detected"),
            broken=wrong,
            found=read_content(deployment.postgres.url),
        )
    finally:
        deployment.close()


def main() -> None:
    """Run the campaign and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; kept afterwards (default: a temporary one)")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        files = Files(folder / "files")
        report = disturb(folder / "disturbed", files, arguments)
        archives = [*(files.batch(number) for number in range(report.batches)), files.users]
        expected = undisturbed(folder / "undisturbed", archives)
        left = without_erased(expected, report.found, str(files.users))
        wrong, counts = compare(left, report.found)
    print(f"\n{len(expected.files) - len(left.files)} files of the users were erased and are not compared")
    tell(report, wrong, counts)
    different = sum(count for name, count in counts.items() if "kept faces" in name or name == "other embedding")
    sys.exit(bool(wrong or report.broken or report.losses or different))


def tell(report: Report, wrong: list[str], counts: Counter[str]) -> None:
    """Print the outcome of a campaign."""
    faces = sum(len(dropped) for _, _, dropped in report.found.faces.values())
    print(f"\n{report.faults.total()} faults in {report.seconds:.0f} s, then {report.quiet_seconds:.0f} s to the end")
    print(f"{report.batches} batches, {len(report.found.files)} files, {faces} faces")
    for title, table in (("fault", report.faults), ("users", report.users), ("faces", counts)):
        rows = (f"| {name} | {count} |" for name, count in table.most_common())
        print(f"\n| {title} | times |\n|---|---|", *rows, sep="\n")
    print(f"\n{len(report.deadlocks)} deadlocks, {len(report.losses)} losses")
    print("\n".join(report.losses[:20]))
    print("\n".join(report.broken or ["everything holds that must hold"]))
    print("\n".join(wrong[:50] or ["no file differs, nothing is there twice"]))


if __name__ == "__main__":
    main()
