"""Changes the core logic a little, one change at a time, and counts the changes that the tests of the area notice.

    make mutants                                  # a sample of each area: the table of docs/measured/mutants.md
    .venv/bin/python benchmarks/mutants.py track geometry --sample 1000 --jobs 2

Works on a copy of the tree, so that the checkout stays as it is and child processes see a change too. A process that
has loaded the libraries forks for each change and runs the tests there until the first one fails. All runs share one
PostgreSQL a job. A run that computes many times as long as the unchanged one, or waits for minutes, counts as noticed;
the table says how many these were: many of them tell of a machine that is too busy for the run.

mutmut 3 changes nothing outside functions, where the SQL of ledger, store and erasure stands, and has one choice of
tests for all files; cosmic-ray changes no strings at all, edits the checkout in place and starts an interpreter, torch
and a PostgreSQL for every change. Hence a driver of our own, on the parser of the standard library (`mutations.py`).
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from mutant_areas import AREAS, Area
from mutations import Mutation, mutations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "torch", "torchvision", "numpy", "cv2", "sqlalchemy.orm", "psycopg", "pytest", "hypothesis", "pyarrow", "faiss",
    "alembic.command", "pgvector.sqlalchemy", "pydantic_settings", "PIL.Image", "fsspec", "rich.console", "psutil",
)  # fmt: skip
"""Libraries that are loaded once; of Facet's own packages none, since they change."""
HUNG = -1  # instead of an exit status
MIN_CPU_SECONDS = 20
SLOWER = 5  # a run that computes so many times as long as the unchanged one hangs
MAX_SECONDS = 300  # for a run that waits: long, since the machine may be busy

PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--no-header",
          "-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change and what became of it."""

    area: str
    file: str
    line: int
    text: str
    noticed: bool
    hung: bool
    """Noticed because time was over, not because a test failed."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run."""

    sample: int
    seed: int
    tree: Path
    only: str | None


def main() -> None:
    """Run the areas that the command line names."""
    options = parse()
    names = options.areas or list(AREAS)
    unknown = sorted(set(names) - set(AREAS))
    if unknown:
        raise SystemExit(f"no such area: {', '.join(unknown)}; there are {', '.join(AREAS)}")
    signal.signal(signal.SIGTERM, _stop)
    folder = Path(mkdtemp(prefix="facet-mutants-"))  # a TemporaryDirectory would be removed by the first fork that ends
    try:
        failed = _run(options, names, folder)
        found = _read(folder, names)
    finally:
        shutil.rmtree(folder)
    show(found)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1))
    if failed:
        raise SystemExit("a process failed: see above; the table lacks areas")


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the end short
    sys.exit("stopped")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("areas", nargs="*", help="names of mutant_areas.py; none: all")
    parser.add_argument("--sample", type=int, default=30, help="changes an area, chosen pseudo-randomly")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes, each with a PostgreSQL of its own")
    parser.add_argument("--only", help="change this file alone")
    parser.add_argument("--json", type=Path, help="write every change and what became of it to this file")
    return parser.parse_args()


def _run(options: argparse.Namespace, names: list[str], folder: Path) -> list[int]:
    """Share out the areas among processes, each of which takes the next one that is left; return those that failed."""
    jobs = []
    for job in range(min(options.jobs, len(names))):
        work = Options(options.sample, options.seed, folder / str(job) / "tree", options.only)
        jobs.append(_fork(lambda work=work, job=job: _job(work, names, folder / f"{job}.jsonl")))
    try:
        return [job for job in jobs if os.waitpid(job, 0)[1]]
    except BaseException:
        for job in jobs:
            _end(job, signal.SIGTERM)
        raise


def _read(folder: Path, names: list[str]) -> list[Mutant]:
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    order = {name: number for number, name in enumerate(names)}
    return sorted((Mutant(**json.loads(line)) for line in lines), key=lambda one: (order[one.area], one.file, one.line))


def _fork(act: Callable[[], int]) -> int:
    """Run a function in a process of its own, whose exit status is what it returns; gives the process."""
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        status = act()
    except BaseException:  # noqa: BLE001 - nothing may run on in the parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _end(process: int, by: signal.Signals) -> None:
    """End a process that may have ended already, and wait until it has."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, by)
        os.waitpid(process, 0)


def _job(options: Options, names: list[str], out: Path) -> int:
    with out.open("w", buffering=1) as file:
        for mutant in _work(options, names, out.parent):
            file.write(json.dumps(asdict(mutant)) + "\n")
    return 0


def _work(options: Options, names: list[str], folder: Path) -> Iterator[Mutant]:
    _copy_tree(options.tree)
    os.environ |= {"PYTHONPATH": str(options.tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    os.chdir(options.tree)
    sys.path[0] = str(options.tree)
    for name in HEAVY:
        importlib.import_module(name)
    with _postgres(options.tree.parent / "postgres"):
        for name in names:
            claim = folder / f"{name}.taken"
            try:
                claim.touch(exist_ok=False)
            except FileExistsError:
                continue
            yield from _area(options, name, AREAS[name])


def _copy_tree(tree: Path) -> None:
    """Copy what git knows or does not ignore, with the compiled files of the program; research data as a link."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listing.split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    if (ROOT.parent / "shared").is_dir():
        (tree.parent / "shared").symlink_to(ROOT.parent / "shared")
    for package in ("worker", "models", "training", "db"):
        compileall.compile_dir(tree / package, quiet=1)


@contextmanager
def _postgres(folder: Path) -> Iterator[None]:
    """Keep a PostgreSQL up that the tests of every fork join."""
    program = (
        "import sys; from pathlib import Path; from db.server.embedded import EmbeddedPostgres\n"
        "with EmbeddedPostgres(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(folder)]
    pipe = subprocess.PIPE  # the keeper stops when it closes; of a signal to the whole group it must not die before
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as keeper:
        keeper.stdout.readline()
        os.environ["FACET_TEST_POSTGRES"] = str(folder)
        try:
            yield
        finally:
            keeper.stdin.close()


def _area(options: Options, name: str, area: Area) -> Iterator[Mutant]:
    before = _children_seconds()
    status = _tests(area, options.tree.parent / "out", MAX_SECONDS)
    spent = _children_seconds() - before
    if status:
        said = (options.tree.parent / "out").read_text()[-3000:]
        raise SystemExit(f"{name}: the tests of the unchanged area end with status {status}\n{said}")
    limit = MIN_CPU_SECONDS + int(SLOWER * spent)
    print(f"{name}: unchanged in {spent:.0f} s", file=sys.stderr, flush=True)
    for file, mutation in _sampled(options, area):
        path = options.tree / file
        source = path.read_bytes()
        text = mutation.describe(source)
        before = _children_seconds()
        with _changed(path, mutation.apply(source), source):
            status = _tests(area, options.tree.parent / "out", limit)
        spent = round(_children_seconds() - before, 1)
        mutant = Mutant(name, file, mutation.line, text, bool(status), status == HUNG or os.WIFSIGNALED(status), spent)
        if not status:
            print(f"  {file}:{mutation.line} {text}", file=sys.stderr, flush=True)
        yield mutant


def _sampled(options: Options, area: Area) -> list[tuple[str, Mutation]]:
    """Choose changes pseudo-randomly; of each line a sample holds few, since the places are shuffled."""
    found: list[tuple[str, Mutation]] = []
    for name in area.files:
        paths = sorted((options.tree / name).glob("*.py")) if (options.tree / name).is_dir() else [options.tree / name]
        for path in paths:
            file = str(path.relative_to(options.tree))
            if options.only in {None, file}:
                found += [(file, one) for one in mutations(path.read_bytes())]
    random.Random(options.seed).shuffle(found)
    return sorted(found[: options.sample], key=lambda one: (one[0], one[1].start))


@contextmanager
def _changed(path: Path, source: bytes, before: bytes) -> Iterator[None]:
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
    path.write_bytes(source)
    yield
    path.write_bytes(before)


def _children_seconds() -> float:
    """Return what the ended children computed, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tests(area: Area, out: Path, limit: int) -> int:
    """Run the tests of an area in a fork; 0 where all pass, HUNG where time is over, else how the fork ended."""
    shutil.rmtree(".hypothesis", ignore_errors=True)  # what one change failed on would be tried first on the next
    process = _fork(lambda: _pytest(area, out, limit))
    deadline = time.monotonic() + MAX_SECONDS
    ended = status = 0
    try:
        while not ended and time.monotonic() < deadline:
            time.sleep(0.05)
            ended, status = os.waitpid(process, os.WNOHANG)
    finally:  # also where the job is stopped: a test holds the pipe open that keeps PostgreSQL up
        _sweep(process)
        _end(process, signal.SIGKILL)
    return status if ended else HUNG


def _pytest(area: Area, out: Path, limit: int) -> int:
    import pytest  # noqa: PLC0415 - loaded before the fork

    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    with out.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    base = str(out.parent / "pytest")
    return int(pytest.main([*area.tests, *PYTEST, "--basetemp", base, "--timeout", str(MAX_SECONDS)]))


def _sweep(group: int) -> None:
    """End what a run left behind in its process group."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def show(found: list[Mutant]) -> None:
    """Print the table, then each change that nobody noticed."""
    print("| area | changes | noticed | of these hung | share | seconds |\n|---|---|---|---|---|---|")
    for name in dict.fromkeys(one.area for one in found):
        print(_row(name, [one for one in found if one.area == name]))
    if found:
        print(_row("all", found))
    for one in found:
        if not one.noticed:
            print(f"{one.area}: {one.file}:{one.line} {one.text}")


def _row(name: str, found: list[Mutant]) -> str:
    noticed, hung = sum(one.noticed for one in found), sum(one.hung for one in found)
    seconds = sum(one.seconds for one in found)
    return f"| {name} | {len(found)} | {noticed} | {hung} | {noticed / len(found):.0%} | {seconds:.0f} |"


if __name__ == "__main__":
    main()
